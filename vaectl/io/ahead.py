"""Work done in threads before its results are asked for."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TypeVar

T = TypeVar("T")

AHEAD = 4  # pieces of work under way for each thread


def worked_ahead(works: Iterable[T | Callable[[], T]], ahead: int = AHEAD) -> Iterator[T]:
    """What `works` come to, in their order; threads work out a few of them before they are asked for."""
    works = iter(works)
    first = list(islice(works, 2))
    if len(first) < 2:  # threads cost more than they bring
        yield from (work() if callable(work) else work for work in first)
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    threads = processors()
    pending: deque[T | Future[T]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for work in chain(first, works):
            pending.append(pool.submit(work) if callable(work) else work)
            if len(pending) > ahead * threads:
                done = pending.popleft()
                yield done.result() if isinstance(done, Future) else done
        for done in pending:
            yield done.result() if isinstance(done, Future) else done
    finally:
        pool.shutdown(cancel_futures=True)


def processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
