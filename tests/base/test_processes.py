from pathlib import Path

import pytest

from vaectl.base import processes


@pytest.mark.parametrize(("text", "count"), [("250000 100000\n", 3), ("50000 100000\n", 1), ("max 100000\n", 4), ("", 4)])
def test_the_quota_of_a_container_limits_the_cpus(text: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(processes, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2, 3})
    assert processes.cpu_count() == count
