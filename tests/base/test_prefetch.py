import signal
import subprocess
import sys
from functools import partial

import pytest

from vaectl.base.errors import VaectlError
from vaectl.base.prefetch import prefetch


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


SLOW_TASK = """
import hashlib, signal
from vaectl.base.prefetch import prefetch
from vaectl.base.signals import Terminated, die_by_signal, raise_terminated

def decode():
    print("decoding", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # like a decoder: C code that takes minutes

signal.signal(signal.SIGTERM, raise_terminated)
try:
    list(prefetch([decode]))
except Terminated:
    die_by_signal(signal.SIGTERM)
"""


def test_a_signal_is_heard_while_an_image_is_decoded() -> None:
    process = subprocess.Popen([sys.executable, "-c", SLOW_TASK], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"decoding\n"
    process.terminate()
    try:
        assert process.wait(timeout=60) == -signal.SIGTERM
    finally:
        process.kill()
