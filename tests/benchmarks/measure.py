"""Whole commands, their seconds and their memory, as the operating system accounts for them."""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

VAECTL = str(Path(sys.executable).with_name("vaectl"))


@dataclass(frozen=True)
class Measured:
    """One run of a command: wall-clock seconds, resident megabytes at the peak, and what it wrote on stdout and stderr."""

    seconds: float
    megabytes: float
    said: str


def measure(command: list[str], folder: Path) -> Measured:
    """Run the command in `folder`; it must succeed."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    said = process.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{said}")
    return Measured(seconds, usage.ru_maxrss / 1000, said)


def median_seconds(runs: list[Measured]) -> float:
    """The median of the runs' seconds."""
    return statistics.median(run.seconds for run in runs)
