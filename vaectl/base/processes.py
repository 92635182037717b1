"""Which of the processes that torchrun started this is."""

import os


def world_size() -> int:
    """The number of processes that work together; 1 unless torchrun or the like started this one."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys() else 1


def rank() -> int:
    """The number of this process among those that work together, from 0. The first alone speaks and writes."""
    return int(os.environ["RANK"]) if world_size() > 1 else 0


def local_world_size() -> int:
    """The number of those processes on this machine; 0 if it is unknown."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 0))


def local_rank() -> int:
    """The number of this process among those on this machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", 0)) if world_size() > 1 else 0
