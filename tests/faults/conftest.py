"""A fault must give one line on stderr, nothing on stdout, and leave the folder unchanged."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import ForkServer, Result, contents, one_line, write_tiny_checkpoint

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


@pytest.fixture(scope="session")
def unprivileged_server() -> Iterator[ForkServer]:
    """A server without root's capability to ignore file permissions."""
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may write anywhere, and setpriv is not installed")
    capabilities = "-dac_override,-dac_read_search"
    drop = ["setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}"] if os.geteuid() == 0 else []
    server = ForkServer(torch=True, launcher=drop)
    yield server
    server.close()


@pytest.fixture
def unprivileged(unprivileged_server: ForkServer, tmp_path: Path) -> Iterator[Unprivileged]:
    """Runs vaectl without root's capability to ignore file permissions."""
    yield lambda line: unprivileged_server.call(line.split(), cwd=tmp_path, HOME=str(tmp_path))
    for path in tmp_path.iterdir():
        path.chmod(0o755)
