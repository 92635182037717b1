import os
import signal

import pytest

from vaectl.base import signals


def test_the_first_signal_is_deferred_and_the_second_is_not() -> None:
    with pytest.raises(KeyboardInterrupt), signals.defer_signals() as deferred:
        os.kill(os.getpid(), signal.SIGINT)
        assert deferred
        deferred.deliver()
    with pytest.raises(KeyboardInterrupt), signals.defer_signals() as deferred:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second signal was deferred")


def test_a_deferred_signal_is_delivered_at_the_end_of_the_block() -> None:
    before = signal.getsignal(signal.SIGINT)
    finished = False
    with pytest.raises(KeyboardInterrupt), signals.defer_signals():
        os.kill(os.getpid(), signal.SIGINT)
        finished = True
    assert finished and signal.getsignal(signal.SIGINT) is before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals.defer_signals() as deferred:
            os.kill(os.getpid(), signal.SIGINT)
            assert not deferred
    finally:
        signal.signal(signal.SIGINT, before)
