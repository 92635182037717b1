import os
import signal

import pytest

from vaectl import signals


def test_the_first_signal_waits_and_the_second_does_not() -> None:
    with pytest.raises(KeyboardInterrupt), signals.deferred() as waiting:
        os.kill(os.getpid(), signal.SIGINT)
        assert waiting
        waiting.let_through()
    with pytest.raises(KeyboardInterrupt), signals.deferred() as waiting:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second signal waited")


def test_a_signal_that_waited_to_the_end_of_the_block_strikes_there() -> None:
    before = signal.getsignal(signal.SIGINT)
    done = []
    with pytest.raises(KeyboardInterrupt), signals.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("all")
    assert done == ["all"] and signal.getsignal(signal.SIGINT) is before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals.deferred() as waiting:
            os.kill(os.getpid(), signal.SIGINT)
            assert not waiting
    finally:
        signal.signal(signal.SIGINT, before)
