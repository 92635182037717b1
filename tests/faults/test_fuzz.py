"""A small part of `python tests/faults/fuzz.py 100000`: the same few files of each kind in every run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz import how_to_repeat, make_case, make_kinds, run_case, write_models
from support import ForkServer

pytestmark = pytest.mark.fault(1, 2, 3, 4, 5, 10, 11, 12, 15, 16, 17, 18)

KINDS = make_kinds()
SEED, CASES = 0, 5


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_read_or_refused_with_one_line(
    kind: str, fork_server: Callable[..., ForkServer], tmp_path: Path
) -> None:
    write_models(tmp_path)
    for number in range(CASES):
        data, call = make_case(kind, number, SEED, KINDS)
        _, violation = run_case(data, call, fork_server("encode"), tmp_path)
        assert violation is None, how_to_repeat(kind, number, SEED, call)
