"""The place of this process among those that torchrun started, and the CPUs that it may use."""

import os
from math import ceil
from pathlib import Path

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # a container's, as "200000 100000": microseconds of CPU time in a period


def world_size() -> int:
    """The number of processes that work together; 1 unless torchrun or the like started this one."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys() else 1


def rank() -> int:
    """The number of this process among those that work together, from 0. Only the first prints and writes."""
    return int(os.environ["RANK"]) if world_size() > 1 else 0


def local_rank() -> int:
    """The number of this process among those on this machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", 0)) if world_size() > 1 else 0


def cpu_count() -> int:
    """The number of CPUs that this process may use, by its affinity and by the quota of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = map(int, CPU_QUOTA.read_text().split())
    except (OSError, ValueError):  # no quota, or "max"
        return allowed
    return min(allowed, ceil(quota / period))
