"""Tasks run in threads before their results are needed."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from vaectl.base.processes import cpu_count

T = TypeVar("T")

AHEAD = 4  # tasks per thread


def prefetch(tasks: Iterable[T | Callable[[], T]], ahead: int = AHEAD, threads: int | None = None) -> Iterator[T]:
    """The results of `tasks` in order, with up to `ahead` per thread computed in advance; values pass through.

    By default there is one thread per CPU; tasks that wait for a server should have more. Even a single task runs in a thread,
    because Python handles no signal while a decoder runs in the main thread.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    threads = threads or cpu_count()
    pending: deque[T | Future[T]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for task in tasks:
            pending.append(pool.submit(task) if callable(task) else task)
            if len(pending) > ahead * threads:
                done = pending.popleft()
                yield done.result() if isinstance(done, Future) else done
        for done in pending:
            yield done.result() if isinstance(done, Future) else done
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
