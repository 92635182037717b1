import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vaectl.base.errors import VaectlError
from vaectl.io import files, locks

HOLD = """
import sys, time
from vaectl.io import files, locks
with {block}:
    print("inside", flush=True)
    time.sleep(60)
"""

WRITE = """
from vaectl.io import files, locks
for _ in range(200):
    locks.remove_stale_files.cache_clear()
    with files.open_output("out") as stream:
        stream.write(b"x")
"""


@pytest.fixture
def holder(tmp_path: Path) -> Callable[[str], subprocess.Popen[bytes]]:
    """Start another process that stays inside a `with` block."""

    def start(block: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", HOLD.format(block=block)], cwd=tmp_path, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"inside\n"
        return process

    return start


def write(path: Path) -> None:
    """Write a file as a new process would, after removing stale files."""
    locks.remove_stale_files.cache_clear()
    with files.open_output(str(path)) as stream:
        stream.write(b"x")


def test_temporary_files_of_killed_processes_are_removed_and_those_of_live_ones_are_not(
    holder: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    process = holder("files.open_output('out')")
    (temporary,) = os.listdir(tmp_path)
    write(tmp_path / "other")
    assert sorted(os.listdir(tmp_path)) == [temporary, "other"]
    process.kill()
    process.wait()
    write(tmp_path / "third")
    assert sorted(os.listdir(tmp_path)) == ["other", "third"]


def test_one_process_at_a_time_holds_a_lock_and_its_death_releases_it(
    holder: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    process = holder("locks.exclusive_lock('m.safetensors')")
    with (
        pytest.raises(VaectlError, match=r"m\.safetensors' is in use by another training run"),
        locks.exclusive_lock(f"{tmp_path}/m.safetensors"),
    ):
        pass
    (tmp_path / "link").symlink_to("m.safetensors")
    with pytest.raises(VaectlError, match="another training run"), locks.exclusive_lock(f"{tmp_path}/link"):
        pass
    with locks.exclusive_lock(f"{tmp_path}/n.safetensors"):
        pass
    process.kill()
    process.wait()
    with locks.exclusive_lock(f"{tmp_path}/m.safetensors"):
        assert sorted(os.listdir(tmp_path)) == [".vaectl-m.safetensors.lock", "link"]
    assert os.listdir(tmp_path) == ["link"]


def test_concurrent_writers_all_succeed(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITE], cwd=tmp_path) for _ in range(4)]
    assert [process.wait() for process in writers] == [0] * 4
    assert os.listdir(tmp_path) == ["out"]


def test_files_with_the_longest_names_are_locked_and_written(tmp_path: Path) -> None:
    name = "ä" * 127
    with locks.exclusive_lock(str(tmp_path / name)):
        write(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


def test_user_files_with_the_temporary_prefix_are_kept(tmp_path: Path) -> None:
    (tmp_path / ".vaectl-notes.txt").touch()
    write(tmp_path / "out")
    assert (tmp_path / ".vaectl-notes.txt").exists()
