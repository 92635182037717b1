"""An output file is either the complete old one or the complete new one, whatever fails while it is written."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import Result, contents, environment, one_line

from vaectl.io import locks
from vaectl.models import checkpoint
from vaectl.models.checkpoint import Checkpoint

Call = Callable[..., Result]
Shell = Callable[..., Result]
Unprivileged = Callable[[str], Result]
Save = Callable[[str], tuple[int, str, str]]

SAVE_SCRIPT = """
import sys
from vaectl.models import checkpoint
from vaectl.base.errors import VaectlError
new = checkpoint.load("new.safetensors")
print("ready", flush=True)
sys.stdin.readline()
try:
    checkpoint.save("m.safetensors", new)
except VaectlError as error:
    sys.exit(str(error))
"""

needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


@pytest.fixture
def save(tiny: Path, tmp_path: Path) -> Save:
    """Replaces a checkpoint while strace injects a fault; returns the exit code, stderr and strace's log."""
    old = checkpoint.load(str(tiny))
    checkpoint.save(str(tmp_path / "m.safetensors"), old)
    tiny.rename(tmp_path / "new.safetensors")
    changed = {name: weight + 1 for name, weight in old.weights.items()}
    checkpoint.save(str(tmp_path / "new.safetensors"), Checkpoint(old.card, changed))

    def run(fault: str) -> tuple[int, str, str]:
        command = [sys.executable, "-c", SAVE_SCRIPT]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, cwd=tmp_path, env=environment(), **pipes)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        log = tmp_path.parent / f"{tmp_path.name}.log"
        strace = ["strace", "-f", "-p", str(process.pid), "-o", str(log), "-e", f"inject={fault}" if fault else "trace=all"]
        with subprocess.Popen(strace, stderr=subprocess.PIPE) as tracer:
            assert tracer.stderr is not None and b"attached" in tracer.stderr.readline()
            _, stderr = process.communicate(b"\n", timeout=60)
        return process.returncode, stderr.decode(), log.read_text()

    return run


def is_complete(folder: Path) -> bool:
    """Whether the checkpoint is the old one or the new one, all of it."""
    found = checkpoint.load(str(folder / "m.safetensors")).weights["encoder.1.bias"]
    new = checkpoint.load(str(folder / "new.safetensors")).weights["encoder.1.bias"]
    return bool((found == new).all() or (found == new - 1).all())


ERRORS = [
    *(f"write:error={error}:when=1" for error in ("ENOSPC", "EIO", "EDQUOT")),
    *(f"fsync:error={error}:when=1" for error in ("EIO", "ENOSPC")),
    "rename:error=EACCES:when=1",
    "fchmod:error=EPERM:when=1",
]


@needs_strace
@pytest.mark.parametrize("fault", ERRORS)
def test_a_failing_disk_leaves_the_old_file(fault: str, save: Save, tmp_path: Path) -> None:
    before = contents(tmp_path)
    code, stderr, log = save(fault)
    assert "INJECTED" in log and code == 1
    assert stderr.count("\n") == 1 and stderr.startswith("'m.safetensors': ")
    assert contents(tmp_path) == before


@needs_strace
def test_a_folder_that_fails_to_sync_after_the_rename_is_an_error(save: Save, tmp_path: Path) -> None:
    code, stderr, log = save("fsync:error=EIO:when=2")
    assert "INJECTED" in log and code == 1 and stderr.startswith("'m.safetensors': input/output error")
    assert sorted(os.listdir(tmp_path)) == ["m.safetensors", "new.safetensors"] and is_complete(tmp_path)


def check_killed(folder: Path) -> None:
    """Check that a killed save left a complete checkpoint, and that the next save removes its temporary file."""
    assert is_complete(folder)
    locks.remove_stale_files.cache_clear()
    locks.remove_stale_files(str(folder))
    assert sorted(os.listdir(folder)) == ["m.safetensors", "new.safetensors"]


@needs_strace
@pytest.mark.parametrize(
    "when", ["openat:when=1", "write:when=1", "fsync:when=1", "rename:when=1", "fsync:when=2", "close:when=1"]
)
def test_a_save_killed_at_a_system_call_leaves_a_complete_file(when: str, save: Save, tmp_path: Path) -> None:
    name, count = when.split(":")
    assert save(f"{name}:signal=KILL:{count}")[0] == -signal.SIGKILL
    check_killed(tmp_path)


def system_calls(save: Save) -> list[tuple[str, int]]:
    """Every system call of a save, with how often it has occurred by then, as strace counts each name by itself."""
    code, _, log = save("")
    assert code == 0
    seen: Counter[str] = Counter()
    calls = []
    for name in re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)", log, re.MULTILINE):
        seen[name] += 1
        calls.append((name, seen[name]))
    return calls


@needs_strace
@pytest.mark.long
def test_a_save_killed_at_every_system_call_leaves_a_complete_file(save: Save, tmp_path: Path) -> None:
    calls, killed = system_calls(save), 0
    for name, number in calls:
        code, _, _ = save(f"{name}:signal=KILL:when={number}")
        killed += code == -signal.SIGKILL
        check_killed(tmp_path)
    assert len(calls) > 30 and killed > len(calls) / 2


# The kernel returns no errors from these, or Python could not run with them.
NEVER_FAIL = ("read", "exit_group", "rt_sigaction", "munmap", "mmap", "brk", "futex", "mprotect", "rt_sigprocmask", "madvise")


@needs_strace
@pytest.mark.long
@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EACCES", "EINTR", "EMFILE"])
def test_an_error_at_every_system_call_of_a_save_leaves_a_complete_file(error: str, save: Save, tmp_path: Path) -> None:
    calls = [call for call in system_calls(save) if call[0] not in NEVER_FAIL]
    for name, number in calls:
        code, stderr, _ = save(f"{name}:error={error}:when={number}")
        assert code in (0, 1) and "Traceback" not in stderr, (name, number, stderr)
        check_killed(tmp_path)
    assert len(calls) > 20


def test_a_full_disk_is_an_error_for_every_kind_of_output(shell: Shell, tiny: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    arrays = ("sample -n 9000 -o z.npy", "sample -n 400000 -o z.npy")  # the second is spooled to disk first
    for line in (*arrays, "sample -n 9000 -o z.csv", "sample -n 900 --scale 100 -o sheet.png"):
        before = contents(tmp_path)
        result = shell(f"unset ${{!COVERAGE_@}}; trap '' XFSZ; ulimit -f 20; vaectl {line} -c {tiny}")
        assert result.returncode == 1
        one_line(result, "file too large")
        assert contents(tmp_path) == before


def test_a_destination_without_write_permission_is_refused_before_any_work(
    unprivileged: Unprivileged, tiny: Path, tmp_path: Path
) -> None:
    tiny.chmod(0o644)
    (tmp_path / "closed").mkdir(mode=0o555)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for line in (
        f"sample -n 1 -c {tiny} -o closed/plane.png",
        f"encode none.png -c {tiny} -o closed/z.npy",
        f"decode none.npy -c {tiny} -o closed/images/",
        "train vae --data none -o closed/m.safetensors",
    ):
        result = unprivileged(line)
        assert result.returncode == 1
        one_line(result, "'closed/", "no permission to write there")
        missing = unprivileged(line.replace("closed/", "missing/").replace("images/", "z.png"))
        assert missing.returncode == 1
        one_line(missing, "'missing/", "does not exist: create it first")
    assert unprivileged(f"sample -n 1 -c {tiny} -o open/plane.png").returncode == 0
    assert os.listdir(tmp_path / "closed") == []


def test_a_deleted_working_folder_is_an_error_only_for_files(shell: Shell, tiny: Path) -> None:
    for place in ("plane.png", "plane/", "-"):
        result = shell(f"mkdir gone; cd gone; rmdir ../gone; vaectl sample -n 1 -c {tiny} --format png -o {place} > /dev/null")
        assert result.returncode == (0 if place == "-" else 1)
        if place != "-":
            one_line(result, f"{place!r}: no such file")


def test_a_checkpoint_without_read_permission_is_an_error(unprivileged: Unprivileged, tiny: Path) -> None:
    tiny.chmod(0o000)
    result = unprivileged(f"info {tiny}")
    assert result.returncode == 1
    one_line(result, "permission denied", "check its permissions")


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_given_by_the_umask(umask: int, shell: Shell, tiny: Path, tmp_path: Path) -> None:
    assert shell(f"umask {umask:03o}; vaectl sample -n 1 -c {tiny} -o plane.png").returncode == 0
    assert (tmp_path / "plane.png").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_pipe_and_a_device_are_written_in_place(shell: Shell, tiny: Path, tmp_path: Path) -> None:
    sample = f"vaectl sample -n 1 -c {tiny} --format png -o"
    result = shell(f"mkfifo pipe; cat pipe > copy.png & {sample} pipe; wait; {sample} /dev/null")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "copy.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(os.listdir(tmp_path)) == ["copy.png", "pipe", "tiny.safetensors"]
    one_line(shell(f"{sample} /dev/full"), "'/dev/full': no space left")


def test_an_output_may_be_the_input(run: Call, tiny: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.linspace(-2, 2, 500_000, dtype=np.float32).reshape(-1, 20))
    run("interpolate", "z.npy", "--steps", 2, "-o", "z.npy")
    assert np.load(tmp_path / "z.npy").shape == (25_000, 20)
