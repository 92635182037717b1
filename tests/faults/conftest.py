"""What a fault must not do: more than one line, anything on stdout, or a change in the folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import Result, contents, one_line, tiny_checkpoint

Call = Callable[..., Result]
Fails = Callable[..., str]
MEMORY = 256 << 20


@pytest.fixture
def fails(run: Call, tmp_path: Path) -> Fails:
    """Calls vaectl, which must fail with one line that holds all the `words`, in bounded memory, and leave all as it was."""

    def call(*arguments: object, words: tuple[str, ...] = (), code: int = 1, memory: int = MEMORY, **others: object) -> str:
        before = contents(tmp_path)
        result = run(*arguments, code=code, memory=memory, **others)
        assert contents(tmp_path) == before
        return one_line(result, f"vaectl {arguments[0]}: ", *words)

    return call


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A small checkpoint: pictures of 2 x 2, one dimension."""
    return tiny_checkpoint(tmp_path / "tiny.safetensors")
