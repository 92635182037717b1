"""What a fault must not do: more than one line, anything on stdout, or a change in the folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import Result, contents, one_line

from vaectl import checkpoint, networks
from vaectl.checkpoint import Card, Checkpoint
from vaectl.latents import LatentStatistics

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
    network = networks.mlp((2, 2, 1), 1, [2], variational=True)
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in network.tensors().items()}
    spread = LatentStatistics([0.0], [1.0], [-2.0], [2.0])
    card = Card("vae", network, "crop", "bernoulli", None, 1.0, [], spread, {}, {}, {}, [], {})
    path = tmp_path / "tiny.safetensors"
    checkpoint.save(str(path), Checkpoint(card, tensors))
    return path
