"""Tasks run in threads before their results are needed."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TypeVar

T = TypeVar("T")

AHEAD = 4  # tasks per thread


def prefetch(tasks: Iterable[T | Callable[[], T]], ahead: int = AHEAD) -> Iterator[T]:
    """The results of `tasks` in order, computing up to `ahead` per thread in advance; values pass through."""
    tasks = iter(tasks)
    first = list(islice(tasks, 2))
    if len(first) < 2:  # a single task gains nothing from threads
        yield from (task() if callable(task) else task for task in first)
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    threads = cpu_count()
    pending: deque[T | Future[T]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for task in chain(first, tasks):
            pending.append(pool.submit(task) if callable(task) else task)
            if len(pending) > ahead * threads:
                done = pending.popleft()
                yield done.result() if isinstance(done, Future) else done
        for done in pending:
            yield done.result() if isinstance(done, Future) else done
    finally:
        pool.shutdown(cancel_futures=True)


def cpu_count() -> int:
    """The number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
