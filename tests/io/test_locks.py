import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vaectl.errors import VaectlError
from vaectl.io import files, locks

HOLD = """
import sys, time
from vaectl.io import files, locks
with {what}:
    print("in", flush=True)
    time.sleep(60)
"""

WRITE = """
from vaectl.io import files, locks
for _ in range(200):
    locks.sweep.cache_clear()
    with files.written("out") as stream:
        stream.write(b"x")
"""


@pytest.fixture
def holder(tmp_path: Path) -> Callable[[str], subprocess.Popen[bytes]]:
    """Starts another process, which stays within a block."""

    def start(what: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", HOLD.format(what=what)], cwd=tmp_path, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"in\n"
        return process

    return start


def write(path: Path) -> None:
    """Write a file as a new process would, which sweeps first."""
    locks.sweep.cache_clear()
    with files.written(str(path)) as stream:
        stream.write(b"x")


@pytest.mark.fault(29)
def test_what_a_killed_process_left_is_swept_and_what_a_live_one_holds_is_not(
    holder: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    process = holder("files.written('out')")
    (left,) = os.listdir(tmp_path)
    write(tmp_path / "other")
    assert sorted(os.listdir(tmp_path)) == [left, "other"]
    process.kill()
    process.wait()
    write(tmp_path / "third")
    assert sorted(os.listdir(tmp_path)) == ["other", "third"]


@pytest.mark.fault(30)
def test_only_one_is_alone_with_a_file_and_death_lets_go(
    holder: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    process = holder("locks.alone('m.safetensors')")
    with (
        pytest.raises(VaectlError, match=r"m\.safetensors': another training writes it"),
        locks.alone(f"{tmp_path}/m.safetensors"),
    ):
        pass
    (tmp_path / "link").symlink_to("m.safetensors")
    with pytest.raises(VaectlError, match="another training"), locks.alone(f"{tmp_path}/link"):
        pass
    with locks.alone(f"{tmp_path}/n.safetensors"):
        pass
    process.kill()
    process.wait()
    with locks.alone(f"{tmp_path}/m.safetensors"):
        assert sorted(os.listdir(tmp_path)) == [".vaectl-m.safetensors.lock", "link"]
    assert os.listdir(tmp_path) == ["link"]


def test_many_who_write_and_sweep_at_once_all_succeed(tmp_path: Path) -> None:
    many = [subprocess.Popen([sys.executable, "-c", WRITE], cwd=tmp_path) for _ in range(4)]
    assert [process.wait() for process in many] == [0] * 4
    assert os.listdir(tmp_path) == ["out"]


def test_a_folder_with_the_longest_names_is_written_to(tmp_path: Path) -> None:
    name = "ä" * 127
    with locks.alone(str(tmp_path / name)):
        write(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


def test_a_user_s_file_that_begins_like_ours_stays(tmp_path: Path) -> None:
    (tmp_path / ".vaectl-notes.txt").touch()
    write(tmp_path / "out")
    assert (tmp_path / ".vaectl-notes.txt").exists()
