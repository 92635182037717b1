"""A training uses the CPUs that it may use, whatever other programs do."""

import os
import warnings
from collections.abc import Iterator

import pytest
import torch

from vaectl.base.errors import VaectlWarning
from vaectl.training import threads
from vaectl.training.threads import limit_threads


@pytest.fixture(autouse=True)
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on an idle machine of four CPUs."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("cpus", "expected"), [(1, 1), (3, 3), (9, 4)])
def test_threads_are_as_many_as_cpus_may_be_used(cpus: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cpu_count", lambda: cpus)
    with limit_threads(None):
        assert torch.get_num_threads() == expected
    assert torch.get_num_threads() == 4


def test_a_busy_machine_changes_no_bits_but_gives_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (5.5, 0.0, 0.0))
    with pytest.warns(VaectlWarning, match=r"load 5\.5\): OMP_NUM_THREADS=1 may be faster"), limit_threads(None):
        assert torch.get_num_threads() == 4


def test_a_resumed_run_uses_as_many_threads_as_before() -> None:
    with limit_threads(2):
        assert torch.get_num_threads() == 2
    with limit_threads(8):
        assert torch.get_num_threads() == 4


def test_who_sets_the_number_of_threads_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setattr(os, "getloadavg", lambda: (9.0, 0.0, 0.0))
    with warnings.catch_warnings(action="error"), limit_threads(2):
        assert torch.get_num_threads() == 4
