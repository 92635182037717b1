"""The rule by which the fuzzer and the corpora are judged notices each kind of violation."""

from collections.abc import Callable
from pathlib import Path

import pytest
from judge import MAX_CPU_SECONDS, MAX_MEMORY_BYTES, Call, Tally, find_excess, find_violation
from support import ForkServer, MeasuredResult, Result

CALL = Call(("encode", "a.png"), ("'a.png'",))
GOOD = b"vaectl encode: 'a.png' is damaged: replace it\n"
WARNING = b"vaectl encode: 'a.png' is animated: only its first frame is read\n"


def measured(
    code: int, stderr: bytes, stdout: bytes = b"", cpu_seconds: float = 0.1, memory_bytes: int = 1 << 20
) -> MeasuredResult:
    return MeasuredResult(Result([], code, stdout, stderr), 0.1, cpu_seconds, memory_bytes)


@pytest.mark.parametrize(
    "result",
    [
        measured(0, b"", b"data"),
        measured(0, WARNING),
        measured(1, GOOD),
        measured(1, WARNING + GOOD),
        measured(2, b"vaectl encode: x\n"),
    ],
)
def test_what_follows_the_rule_is_no_violation(result: MeasuredResult) -> None:
    assert find_violation(CALL, result, set()) is None and find_excess(result) is None


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (measured(-9, b""), "exit code -9"),
        (measured(70, GOOD), "exit code 70"),
        (measured(1, b"Traceback (most recent call last):\n"), "more than messages"),
        (measured(0, b"libpng warning: iCCP\n"), "more than messages"),
        (measured(1, b"vaectl encode: 'a.png' \x1b[31m\n"), "control characters"),
        (measured(1, b"vaectl encode: 'a.png'" + b"x" * 9000 + b"\n"), "too long"),
        (measured(1, GOOD + GOOD), "not one error"),
        (measured(1, b""), "not one error"),
        (measured(0, GOOD), "not one error"),
        (measured(1, GOOD, b"data"), "not one error"),
        (measured(1, b"vaectl encode: not enough memory\n"), "without the name"),
        (measured(0, b"", memory_bytes=MAX_MEMORY_BYTES + 1), "too much memory"),
    ],
)
def test_a_violation_is_noticed(result: MeasuredResult, words: str) -> None:
    assert words in (find_violation(CALL, result, set()) or "")


def test_files_left_behind_and_too_much_cpu_time_are_noticed() -> None:
    assert "files left behind" in (find_violation(CALL, measured(0, b""), {"x.tmp"}) or "")
    slow = measured(0, b"", cpu_seconds=MAX_CPU_SECONDS + 1)
    assert "too much CPU time" in (find_excess(slow) or "")
    tally = Tally()
    tally.add("how to repeat it", slow, None)
    assert "how to repeat it" in tally.describe() and "1 violations" in tally.describe()


def test_a_call_is_measured(fork_server: Callable[[str], ForkServer], tmp_path: Path) -> None:
    result, violation = Call(("info", "missing"), ("'missing'",)).run(fork_server("info"), tmp_path)
    assert violation is None and 0 < result.cpu_seconds < 60 and result.memory_bytes > 1 << 20
