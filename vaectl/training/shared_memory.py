"""Memory that the processes of one machine share, so that each updates its part of the weights and all see the whole."""

import mmap
import os
from collections.abc import Sequence
from io import BufferedRandom
from math import prod

import torch
from torch import Tensor

from vaectl.training.distributed import World

ALIGNMENT = 64  # of the parts of a memory or a vector, in bytes or numbers


class SharedMemory:
    """Memory that all processes of `world` share."""

    def __init__(self, world: World, file: BufferedRandom) -> None:
        self.world = world
        with file:
            self.free = torch.frombuffer(mmap.mmap(file.fileno(), 0), dtype=torch.uint8)

    def zeros(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """A tensor that all processes see; all have to ask for the same ones in the same order."""
        size = prod(shape) * dtype.itemsize
        tensor, self.free = self.free[:size].view(dtype).view(shape), self.free[aligned(size) :]
        return tensor

    def barrier(self) -> None:
        """Wait for all processes.

        Raises:
            PeerLostError: another process ended.
        """
        with self.world.noticing_loss():
            self.world.peers.barrier()


def share_memory(world: World, device: torch.device, sizes: Sequence[int]) -> SharedMemory | None:
    """Memory for tensors of so many bytes; None for one process, several machines or a GPU, or where the system has none."""
    if world.size == 1 or device.type != "cpu" or world.peers.size != world.size:
        return None
    with world.noticing_loss():
        file = world.peers.share(allocate(sum(map(aligned, sizes))) if world.peers.is_first else None)
    return SharedMemory(world, file) if file else None


def allocate(size: int) -> BufferedRandom | None:
    """A file of so many bytes in memory; None if the system has no such files, as all but Linux, or not so much is free."""
    try:
        file = os.memfd_create("vaectl")
        os.posix_fallocate(file, 0, size)
    except (OSError, AttributeError):
        return None
    return os.fdopen(file, "r+b")


def aligned(size: int) -> int:
    """The size, rounded up to a multiple of ALIGNMENT."""
    return size + -size % ALIGNMENT
