"""A small part of `python tests/faults/fuzz.py 100000`: the same few changed files of each kind in every run."""

import random
from collections.abc import Callable

import pytest
from fuzz import change_file, find_violation, make_valid_files, run_vaectl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import ForkServer, write_tiny_checkpoint

pytestmark = pytest.mark.fault(1, 2, 3, 4, 5, 10, 11, 12, 15, 16, 17, 18)


@pytest.mark.parametrize("kind", make_valid_files(b""))
def test_a_changed_file_is_read_or_refused_with_one_line(
    kind: str, fork_server: Callable[..., ForkServer], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    files = make_valid_files(write_tiny_checkpoint(folder / "tiny.safetensors").read_bytes())

    @settings(max_examples=8, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(rng=st.randoms(use_true_random=True))
    def check(rng: random.Random) -> None:
        data = change_file(kind, files, rng)
        assert find_violation(run_vaectl(files[kind].arguments, data, fork_server("encode"), folder), folder) is None

    check()
