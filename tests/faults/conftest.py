"""A fault must give one line on stderr, nothing on stdout, and leave the folder unchanged."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import VAECTL, Result, contents, environment, one_line, write_tiny_checkpoint

Call = Callable[..., Result]
Fails = Callable[..., str]
Unprivileged = Callable[[str], Result]
MEMORY = 256 << 20


@pytest.fixture
def fails(run: Call, tmp_path: Path) -> Fails:
    """Calls vaectl in bounded memory; it must fail with one line that contains all the `words`, and change no file."""

    def call(*arguments: object, words: tuple[str, ...] = (), code: int = 1, memory: int = MEMORY, **others: object) -> str:
        before = contents(tmp_path)
        result = run(*arguments, code=code, memory=memory, **others)
        assert contents(tmp_path) == before
        return one_line(result, f"vaectl {arguments[0]}: ", *words)

    return call


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A small checkpoint: images of 2 x 2, one latent dimension."""
    return write_tiny_checkpoint(tmp_path / "tiny.safetensors")


@pytest.fixture
def unprivileged(tmp_path: Path) -> Iterator[Unprivileged]:
    """Runs vaectl without root's capability to ignore file permissions."""
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may write anywhere, and setpriv is not installed")
    capabilities = "-dac_override,-dac_read_search"
    drop = ["setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}"] if os.geteuid() == 0 else []

    def call(line: str) -> Result:
        command = [*drop, str(VAECTL), *line.split()]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, env=environment() | {"HOME": str(tmp_path)}, timeout=60)

    yield call
    for path in tmp_path.iterdir():
        path.chmod(0o755)
