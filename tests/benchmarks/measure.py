"""Measures the wall-clock time and the peak memory of whole commands."""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

VAECTL = str(Path(sys.executable).with_name("vaectl"))


@dataclass(frozen=True)
class Measurement:
    """One run of a command: wall-clock seconds, peak resident megabytes, and its output on stdout and stderr."""

    seconds: float
    megabytes: float
    output: str


def measure(command: list[str], folder: Path) -> Measurement:
    """Run the command in `folder`; it must succeed."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    output = process.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{output}")
    return Measurement(seconds, usage.ru_maxrss / 1000, output)


def median_seconds(runs: list[Measurement]) -> float:
    """The median wall-clock seconds of some runs."""
    return statistics.median(run.seconds for run in runs)
