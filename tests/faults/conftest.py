"""A fault must give one line on stderr, nothing on stdout, and leave the folder unchanged."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import Result, contents, one_line, write_tiny_checkpoint

Call = Callable[..., Result]
Fails = Callable[..., str]
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
