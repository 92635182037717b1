"""Files are written whole or not at all, whatever the system does meanwhile."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support import VAECTL, Result, contents, environment, one_line

from vaectl import checkpoint
from vaectl.checkpoint import Checkpoint
from vaectl.io import locks

Call = Callable[..., Result]
Shell = Callable[..., Result]
Nobody = Callable[[str], Result]
Saving = Callable[[str], tuple[int, str, str]]

SAVE = """
import sys
from vaectl import checkpoint
from vaectl.errors import VaectlError
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
def saving(tiny: Path, tmp_path: Path) -> Saving:
    """Replaces a checkpoint while strace injects a fault; gives the exit code, what was said, and the calls, one a line."""
    old = checkpoint.load(str(tiny))
    checkpoint.save(str(tmp_path / "m.safetensors"), old)
    tiny.rename(tmp_path / "new.safetensors")
    changed = {name: tensor + 1 for name, tensor in old.tensors.items()}
    checkpoint.save(str(tmp_path / "new.safetensors"), Checkpoint(old.card, changed))

    def save(fault: str) -> tuple[int, str, str]:
        command = [sys.executable, "-c", SAVE]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, cwd=tmp_path, env=environment(), **pipes)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        log = tmp_path.parent / f"{tmp_path.name}.log"
        words = ["strace", "-f", "-p", str(process.pid), "-o", str(log), "-e", f"inject={fault}" if fault else "trace=all"]
        tracer = subprocess.Popen(words, stderr=subprocess.PIPE)
        assert tracer.stderr is not None and b"attached" in tracer.stderr.readline()
        _, said = process.communicate(b"\n", timeout=60)
        tracer.wait(timeout=60)
        return process.returncode, said.decode(), log.read_text()

    return save


def is_whole(folder: Path) -> bool:
    """Whether the checkpoint is the old one or the new one."""
    found = checkpoint.load(str(folder / "m.safetensors")).tensors["encoder.1.bias"]
    new = checkpoint.load(str(folder / "new.safetensors")).tensors["encoder.1.bias"]
    return bool((found == new).all() or (found == new - 1).all())


FAULTS = [
    *(f"write:error={error}:when=1" for error in ("ENOSPC", "EIO", "EDQUOT")),
    *(f"fsync:error={error}:when=1" for error in ("EIO", "ENOSPC")),
    "rename:error=EACCES:when=1",
    "fchmod:error=EPERM:when=1",
]


@needs_strace
@pytest.mark.fault(27)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_disk_that_fails_leaves_the_old_file(fault: str, saving: Saving, tmp_path: Path) -> None:
    before = contents(tmp_path)
    code, said, calls = saving(fault)
    assert "INJECTED" in calls and code == 1
    assert said.count("\n") == 1 and said.startswith("'m.safetensors': ")
    assert contents(tmp_path) == before


@needs_strace
@pytest.mark.fault(27)
def test_a_folder_that_fails_after_the_rename_is_told(saving: Saving, tmp_path: Path) -> None:
    code, said, calls = saving("fsync:error=EIO:when=2")
    assert "INJECTED" in calls and code == 1 and said.startswith("'m.safetensors': input/output error")
    assert sorted(os.listdir(tmp_path)) == ["m.safetensors", "new.safetensors"] and is_whole(tmp_path)


def after_death(folder: Path) -> None:
    """What a killed save left is whole, and swept by the next one."""
    assert is_whole(folder)
    locks.sweep.cache_clear()
    locks.sweep(str(folder))
    assert sorted(os.listdir(folder)) == ["m.safetensors", "new.safetensors"]


@needs_strace
@pytest.mark.fault(29)
@pytest.mark.parametrize(
    "when", ["openat:when=1", "write:when=1", "fsync:when=1", "rename:when=1", "fsync:when=2", "close:when=1"]
)
def test_death_in_a_save_leaves_one_whole_file(when: str, saving: Saving, tmp_path: Path) -> None:
    name, count = when.split(":")
    assert saving(f"{name}:signal=KILL:{count}")[0] == -signal.SIGKILL
    after_death(tmp_path)


def calls_of(saving: Saving) -> list[tuple[str, int]]:
    """Every system call of a save, and how often it had come by then: strace counts each by itself."""
    code, _, log = saving("")
    assert code == 0
    seen: Counter[str] = Counter()
    found = []
    for name in re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)", log, re.MULTILINE):
        seen[name] += 1
        found.append((name, seen[name]))
    return found


@needs_strace
@pytest.mark.long
@pytest.mark.fault(29)
def test_death_at_every_system_call_of_a_save_leaves_one_whole_file(saving: Saving, tmp_path: Path) -> None:
    calls, deaths = calls_of(saving), 0
    for name, number in calls:
        code, _, _ = saving(f"{name}:signal=KILL:when={number}")
        deaths += code == -signal.SIGKILL
        after_death(tmp_path)
    assert len(calls) > 30 and deaths > len(calls) / 2


# The kernel gives no errors by these, or Python could not live with them.
SPARED = ("read", "exit_group", "rt_sigaction", "munmap", "mmap", "brk", "futex", "mprotect", "rt_sigprocmask", "madvise")


@needs_strace
@pytest.mark.long
@pytest.mark.fault(27)
@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EACCES", "EINTR", "EMFILE"])
def test_an_error_at_every_system_call_of_a_save_leaves_one_whole_file(error: str, saving: Saving, tmp_path: Path) -> None:
    calls = [call for call in calls_of(saving) if call[0] not in SPARED]
    for name, number in calls:
        code, said, _ = saving(f"{name}:error={error}:when={number}")
        assert code in (0, 1) and "Traceback" not in said, (name, number, said)
        after_death(tmp_path)
    assert len(calls) > 20


@pytest.mark.fault(27)
def test_a_full_disk_is_told_by_every_kind_of_output(shell: Shell, tiny: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    arrays = ("sample -n 90000 -o z.npy", "sample -n 400000 -o z.npy")  # the second waits on disk for the count of its rows
    for line in (*arrays, "sample -n 90000 -o z.csv", "sample -n 900 --scale 100 -o sheet.png"):
        before = contents(tmp_path)
        result = shell(f"unset ${{!COVERAGE_@}}; trap '' XFSZ; ulimit -f 20; vaectl {line} -c {tiny}")
        assert result.returncode == 1
        one_line(result, "file too large")
        assert contents(tmp_path) == before


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[Nobody]:
    """Runs vaectl as somebody for whom modes hold: root's power to pass them by is taken away."""
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may write everywhere, and setpriv is not installed")
    powers = "-dac_override,-dac_read_search"
    drop = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"] if os.geteuid() == 0 else []

    def call(line: str) -> Result:
        command = [*drop, str(VAECTL), *line.split()]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, env=environment() | {"HOME": str(tmp_path)}, timeout=60)

    yield call
    for path in tmp_path.iterdir():
        path.chmod(0o755)


@pytest.mark.fault(28)
def test_a_place_that_may_not_be_written_is_told_before_any_work(nobody: Nobody, tiny: Path, tmp_path: Path) -> None:
    tiny.chmod(0o644)
    (tmp_path / "closed").mkdir(mode=0o555)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for line in (
        f"sample -n 1 -c {tiny} -o closed/plane.png",
        f"encode none.png -c {tiny} -o closed/z.npy",
        f"decode none.npy -c {tiny} -o closed/pictures/",
        "train vae --data none -o closed/m.safetensors",
    ):
        result = nobody(line)
        assert result.returncode == 1
        one_line(result, "'closed/", "no permission to write there")
        missing = nobody(line.replace("closed/", "missing/").replace("pictures/", "z.png"))
        assert missing.returncode == 1
        one_line(missing, "'missing/", "make it first")
    assert nobody(f"sample -n 1 -c {tiny} -o open/plane.png").returncode == 0
    assert os.listdir(tmp_path / "closed") == []


@pytest.mark.fault(28)
def test_a_folder_that_is_gone_is_told(shell: Shell, tiny: Path) -> None:
    for place in ("plane.png", "-"):
        result = shell(f"mkdir gone; cd gone; rmdir ../gone; vaectl sample -n 1 -c {tiny} --format png -o {place} > /dev/null")
        assert result.returncode == (0 if place == "-" else 1)
        if place != "-":
            one_line(result, "'plane.png': no such file")


@pytest.mark.fault(28)
def test_a_checkpoint_that_may_not_be_read_is_told(nobody: Nobody, tiny: Path) -> None:
    tiny.chmod(0o000)
    result = nobody(f"info {tiny}")
    assert result.returncode == 1
    one_line(result, "permission denied", "check who may read")


@pytest.mark.fault(31)
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_that_the_umask_gives(umask: int, shell: Shell, tiny: Path, tmp_path: Path) -> None:
    assert shell(f"umask {umask:03o}; vaectl sample -n 1 -c {tiny} -o plane.png").returncode == 0
    assert (tmp_path / "plane.png").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.fault(32)
def test_a_pipe_and_a_device_are_written_to(shell: Shell, tiny: Path, tmp_path: Path) -> None:
    sample = f"vaectl sample -n 1 -c {tiny} --format png -o"
    result = shell(f"mkfifo pipe; cat pipe > copy.png & {sample} pipe; wait; {sample} /dev/null")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "copy.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(os.listdir(tmp_path)) == ["copy.png", "pipe", "tiny.safetensors"]
    one_line(shell(f"{sample} /dev/full"), "'/dev/full': no space left")


@pytest.mark.fault(32)
def test_the_input_is_replaced_after_it_is_read(run: Call, tiny: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.linspace(-2, 2, 500_000, dtype=np.float32)[:, np.newaxis])
    run("interpolate", "z.npy", "--steps", 2, "-o", "z.npy")
    assert np.load(tmp_path / "z.npy").shape == (500_000, 1)
