"""A training takes the CPUs that others leave free."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from vaectl.base.errors import VaectlWarning
from vaectl.training import threads
from vaectl.training.threads import CpuTimes, count_free_cpus, free_threads, read_cpu_times


@pytest.fixture(autouse=True)
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine of four CPUs."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "cpu_count", lambda: 4)
    monkeypatch.setattr(threads, "MIN_SECONDS", 0)
    monkeypatch.setattr(threads, "CPU_LIMIT", Path("/nonexistent"))
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], CpuTimes]:
    """Makes other programs use so many CPUs, beside one that this process uses."""

    def use(cpus: float) -> CpuTimes:
        monkeypatch.setattr(threads, "read_cpu_times", lambda: CpuTimes(10, 10 * (cpus + 1), 10))
        return CpuTimes(0, 0, 0)

    return use


@pytest.mark.parametrize(("cpus", "expected"), [(0, 4), (0.3, 4), (1, 3), (2.6, 1), (4, 1), (9, 1)])
def test_threads_are_as_many_as_cpus_are_free(cpus: float, expected: int, others: Callable[[float], CpuTimes]) -> None:
    before = others(cpus)
    if expected < 4:
        message = f"using {expected} of 4 threads, because other programs keep the other"
        with pytest.warns(VaectlWarning, match=message), free_threads(before, None):
            assert torch.get_num_threads() == expected
    else:
        with free_threads(before, None):
            assert torch.get_num_threads() == 4
    assert torch.get_num_threads() == 4


def test_a_resumed_run_uses_as_many_threads_as_before(others: Callable[[float], CpuTimes]) -> None:
    with pytest.warns(VaectlWarning, match="using 2 of 4 threads, as the interrupted run did"), free_threads(others(0), 2):
        assert torch.get_num_threads() == 2
    with free_threads(others(3), 8):
        assert torch.get_num_threads() == 4


def test_who_sets_the_number_of_threads_gets_it(others: Callable[[float], CpuTimes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    with free_threads(others(3), 2):
        assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("text", "free"), [("200000 100000\n", 2.0), ("max 100000\n", 4.0), ("", 4.0)])
def test_the_limit_of_a_container_counts(text: str, free: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(threads, "CPU_LIMIT", tmp_path / "cpu.max")
    assert count_free_cpus(None) == free


@pytest.mark.skipif(not threads.STAT.exists(), reason="the system does not tell its CPU times")
def test_the_system_tells_what_programs_use() -> None:
    before = read_cpu_times()
    while sum(os.times()[:2]) < (before.own if before else 0) + 0.3:
        pass
    after = read_cpu_times()
    assert before and after
    assert after.all - before.all >= after.own - before.own - 0.1
    assert after.own - before.own > 0.29
