"""Each damaged file is read, or refused with one line that names it; `make fuzz` tries thousands of each kind, pytest a few."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from damaged import ARRAYS, CHECKPOINTS, IMAGES, STREAMS
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import FIXTURES, ForkServer, MeasuredResult, write_tiny_checkpoint

MAX_CPU_SECONDS = 20
MAX_MEMORY_BYTES = 1536 << 20
MAX_MESSAGE_CHARACTERS = 2000
# What ends a call: far more than it may take, so that all but the worst calls end by themselves and can be measured.
LIMITS = {"memory": 4 << 30, "cpu_seconds": 3 * MAX_CPU_SECONDS, "timeout": 600}
WARNING = re.compile(
    r": (what follows in it is )?skipped$|: skipped \d+ images?|: only (its first frame|the first) is read$"
    r"|images become one sheet without |: ignored (\d+ files?|HEIC or AVIF)|that this model was trained on: "
)

READ_IMAGES = (
    "encode input -c tiny.safetensors",
    "encode -c tiny.safetensors",
    "encode input input --skip-bad --format csv -c tiny.safetensors",
    "denoise input -o - -c unet.safetensors",
    "denoise --compare -o - --format jpg -c unet.safetensors",
    "denoise input -o - --format tif -c unet.safetensors",
    "interpolate input input --steps 2 --format npy -c tiny.safetensors",
)
READ_ARRAYS = (
    "encode input -c tiny.safetensors",
    "decode input -c tiny.safetensors",
    "decode -c tiny.safetensors",
    "interpolate input input --steps 2",
    "denoise input -o - -c unet.safetensors",
)
READ_STREAMS = (
    "encode -c tiny.safetensors",
    "encode --skip-bad --format csv -c tiny.safetensors",
    "interpolate -c tiny.safetensors",
)
READ_CHECKPOINTS = (
    "info input",
    "info --json input",
    "sample -n 2 -o - --format png -c input",
    "encode tiny.png -c input",
    "denoise tiny.png -c input",
)
CASES = [
    (name, files, commands)
    for kinds, commands in (
        (IMAGES, READ_IMAGES),
        (ARRAYS, READ_ARRAYS),
        (STREAMS, READ_STREAMS),
        (CHECKPOINTS, READ_CHECKPOINTS),
    )
    for name, files in kinds.items()
]


def check(result: MeasuredResult, names: Sequence[str]) -> None:
    """Check that a call ended, said one line about a file of one of these names if it failed, and used little memory and time."""
    message = result.stderr.decode(errors="replace")
    lines = message.splitlines()
    assert result.returncode in (0, 1, 2), f"{message!r}, {result.cpu_seconds:.0f} s of CPU time, {result.seconds:.0f} s in all"
    assert all(line.startswith("vaectl ") and line.isprintable() for line in lines), message
    assert len(message) <= MAX_MESSAGE_CHARACTERS, message
    lost = [line for line in lines if line.endswith("what follows the damaged image is lost")]
    errors = [line for line in lines if not WARNING.search(line) and line not in lost]
    # What was read before the loss is written, and the exit code tells of it.
    assert len(errors) == bool(result.returncode) or (lost and not errors and result.returncode == 1), message
    assert not errors or not result.stdout
    assert result.returncode != 1 or any(name in (errors or lost)[0] for name in (*names, "this model")), message
    assert result.memory_bytes <= MAX_MEMORY_BYTES, f"{result.memory_bytes >> 20} MB"
    assert result.cpu_seconds <= MAX_CPU_SECONDS, f"{result.cpu_seconds:.0f} s of CPU time"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands read beside `input`."""
    folder = tmp_path_factory.mktemp("fuzz")
    write_tiny_checkpoint(folder / "tiny.safetensors")
    (folder / "unet.safetensors").write_bytes((FIXTURES / "unet.safetensors").read_bytes())
    Image.new("L", (2, 2)).save(folder / "tiny.png")
    return folder


@pytest.mark.parametrize(("name", "files", "commands"), CASES, ids=[name for name, *_ in CASES])
def test_a_damaged_file_is_read_or_refused_with_one_line(
    name: str, files: st.SearchStrategy[bytes], commands: Sequence[str], fork_server: Callable[..., ForkServer], folder: Path
) -> None:
    @given(files, st.sampled_from(commands))
    def read(data: bytes, command: str) -> None:
        words = command.split()
        (folder / "input").write_bytes(data)
        before = set(folder.iterdir())
        result = fork_server(*words).call(words, cwd=folder, input=b"" if "input" in words else data, **LIMITS)
        check(result, ("'input'", "'input:") if "input" in words else ("stdin",))
        assert set(folder.iterdir()) == before

    read()
