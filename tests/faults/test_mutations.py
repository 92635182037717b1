"""Some of the changed files that `python tests/faults/mutations.py 100000` makes; Hypothesis finds the smallest that breaks."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import broken_rule, changed, kinds, read
from support import Nursery, tiny_checkpoint

pytestmark = pytest.mark.fault(1, 2, 3, 4, 5, 10, 11, 12, 15, 16, 17, 18)


@pytest.mark.parametrize("kind", kinds(b""))
def test_a_changed_file_is_read_or_refused_with_one_line(
    kind: str, nursery: Callable[[str], Nursery], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    files = kinds(tiny_checkpoint(folder / "tiny.safetensors").read_bytes())

    @settings(max_examples=15, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(rng=st.randoms(use_true_random=True))
    def holds(rng: random.Random) -> None:
        assert broken_rule(read(files[kind], changed(kind, files, rng), nursery("encode"), Path(folder)), folder) is None

    holds()
