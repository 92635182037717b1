from functools import partial

import pytest

from vaectl.errors import VaectlError
from vaectl.io.prefetch import prefetch


def test_prefetching_is_bounded_and_errors_keep_their_place() -> None:
    started = []

    def run(index: int) -> int:
        started.append(index)
        if index == 40:
            raise VaectlError("task 40 failed")
        return index

    results = prefetch(partial(run, index) for index in range(10_000))
    assert [next(results) for _ in range(40)] == list(range(40))
    with pytest.raises(VaectlError, match="task 40 failed"):
        next(results)
    assert len(started) < 200


def test_values_among_the_tasks_pass_through_in_order() -> None:
    assert list(prefetch([1, lambda: 2, 3])) == [1, 2, 3]
    assert list(prefetch([lambda: 1])) == [1]
