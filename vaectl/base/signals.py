"""How the process reacts to SIGINT and SIGTERM."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

Handler = Callable[[int, FrameType | None], Any]


class Terminated(BaseException):
    """SIGTERM arrived; raised so that temporary files are removed before the process ends."""


INTERRUPTIONS = (KeyboardInterrupt, Terminated)


def raise_terminated(number: int, frame: FrameType | None) -> NoReturn:
    """Handle SIGTERM by unwinding the stack, so that every cleanup runs."""
    raise Terminated


def die_by_signal(number: signal.Signals) -> NoReturn:
    """End the process as the signal would have, so that a shell loop stops and `$?` says why."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise SystemExit(128 + number)


class DeferredSignal:
    """A SIGINT or SIGTERM held back until it is delivered; true if one has arrived.

    A second one is delivered at once, unless `patient`.
    """

    def __init__(self, patient: bool = False) -> None:
        self.patient = patient
        self.handlers: dict[int, Handler] = {}
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Hold back the first signal, and pass a second one to its own handler."""
        if self and not self.patient:
            self.handlers[number](number, frame)
        self.number = number

    def deliver(self) -> None:
        """Deliver the signal that was held back, if any."""
        number, self.number = self.number, None
        if number is not None:
            self.handlers[number](number, None)


@contextmanager
def defer_signals(*, patient: bool = False) -> Iterator[DeferredSignal]:
    """Hold back the first SIGINT or SIGTERM, or all if `patient`, until `deliver` is called or the block ends."""
    deferred = DeferredSignal(patient)
    in_main_thread = threading.current_thread() is threading.main_thread()  # Python handles signals only there
    for number in (signal.SIGINT, signal.SIGTERM) if in_main_thread else ():
        handler = signal.getsignal(number)
        if callable(handler):  # an ignored signal stays ignored, such as SIGINT in the background of a script
            deferred.handlers[number] = handler
            signal.signal(number, deferred.handle)
    try:
        yield deferred
    finally:
        for deferred_number, handler in deferred.handlers.items():
            signal.signal(deferred_number, handler)
    deferred.deliver()
