"""What happens when somebody asks the process to stop."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

Handler = Callable[[int, FrameType | None], Any]


class Terminated(BaseException):
    """SIGTERM came; raised so that temporary files go before the process does."""


STOPPED = (KeyboardInterrupt, Terminated)


def terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Leave from wherever SIGTERM finds us, through every clean-up."""
    raise Terminated


def die_of(number: signal.Signals) -> NoReturn:
    """End as the signal would have ended us, so that a shell loop stops and `$?` tells why."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise SystemExit(128 + number)


class Deferred:
    """A SIGINT or SIGTERM that waits until it is let through; a second one does not wait."""

    def __init__(self) -> None:
        self.handlers: dict[int, Handler] = {}
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def meet(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal, and let the second through."""
        if self:
            self.handlers[number](number, frame)
        self.number = number

    def let_through(self) -> None:
        """Let the signal that waits, if one does, have its effect."""
        if self.number is not None:
            self.handlers[self.number](self.number, None)


@contextmanager
def deferred() -> Iterator[Deferred]:
    """Within, the first SIGINT or SIGTERM waits: until it is let through, or until the end of the block."""
    waiting = Deferred()
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if callable(handler):  # not where it is ignored, as SIGINT is in the background of a shell script
            waiting.handlers[number] = handler
            signal.signal(number, waiting.meet)
    try:
        yield waiting
    finally:
        for deferred_number, handler in waiting.handlers.items():
            signal.signal(deferred_number, handler)
    waiting.let_through()
