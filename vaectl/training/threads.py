"""How many threads a training uses: no more than CPUs are free.

At each barrier, all threads wait for the one that another program delays.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import torch

from vaectl.base.errors import warn
from vaectl.base.prefetch import cpu_count

MIN_SECONDS = 0.3  # of measuring: the counters of the system have a resolution of 10 ms
STAT = Path("/proc/stat")
CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # a container's, as "200000 100000": its microseconds of CPU in so many


@dataclass(frozen=True)
class CpuTimes:
    """Seconds of CPU time since some moment: of all programs on the CPUs that this process may use, and its own."""

    wall: float
    all: float
    own: float


def read_cpu_times() -> CpuTimes | None:
    """The CPU times now; None where the system does not tell. Low-priority programs give way, so they do not count."""
    if not STAT.exists() or not hasattr(os, "sched_getaffinity"):
        return None
    allowed = os.sched_getaffinity(0)
    lines = (line.split() for line in STAT.read_text().splitlines())
    busy = sum(
        int(user) + int(system) + sum(map(int, interrupts[:2]))
        for name, user, _, system, _, _, *interrupts in (line for line in lines if line[0].startswith("cpu"))
        if name[3:].isdecimal() and int(name[3:]) in allowed
    )
    own = sum(os.times()[:2])
    return CpuTimes(monotonic(), busy / os.sysconf("SC_CLK_TCK"), own)


def count_free_cpus(before: CpuTimes | None) -> float:
    """How many CPUs other programs have left free since `before`, of those that this process may use."""
    available = float(cpu_count())
    if before:
        sleep(max(0.0, MIN_SECONDS - (monotonic() - before.wall)))
        now = read_cpu_times()
        assert now
        others = (now.all - before.all - (now.own - before.own)) / (now.wall - before.wall)
        available -= max(0.0, others)
    return min(available, read_limit())


def read_limit() -> float:
    """The CPUs that a container may use; infinite outside of one."""
    try:
        quota, period = CPU_LIMIT.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # none, or "max"
        return float("inf")


@contextmanager
def free_threads(before: CpuTimes | None, earlier: int | None) -> Iterator[None]:
    """Use as many threads as CPUs are free since `before`, or as many as `earlier`, when a run began that is resumed.

    OMP_NUM_THREADS wins. The bits of the weights depend on their number, so a warning says where it is not the usual one.
    """
    usual = torch.get_num_threads()
    threads = usual
    if "OMP_NUM_THREADS" not in os.environ:
        threads = min(usual, earlier or max(1, round(count_free_cpus(before))))
    if threads < usual:
        reason = "as the interrupted run did" if earlier else "because other programs keep the other CPUs busy"
        warn(f"using {threads} of {usual} threads, {reason}: OMP_NUM_THREADS={usual} would use all")
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
