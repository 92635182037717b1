"""Data-parallel training: the processes that torchrun starts, on one machine or several, as one training run."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from vaectl.base.arrays import UInt8Array
from vaectl.base.errors import VaectlError
from vaectl.base.processes import local_rank, rank, world_size
from vaectl.datasets.cache import OPEN_FILES
from vaectl.datasets.load import Dataset, StoredDataset

T = TypeVar("T")

# How long processes wait for each other: one machine may read its data faster than another. One that ends is noticed at once.
TIMEOUT = timedelta(days=1)


class LostProcessError(VaectlError):
    """Another process of this run ended."""


@dataclass(frozen=True)
class World:
    """The processes of a training run; this one is `rank` of `size`.

    All call the same methods in the same order.

    Raises:
        LostProcessError: another process ended. Only the first process raises errors that all have; the others exit silently.
    """

    rank: int = 0
    size: int = 1

    def shard(self, images: UInt8Array) -> UInt8Array:
        """The images of this process: every `size`-th."""
        return images[self.rank :: self.size]

    def shard_size(self, total: int) -> int:
        """How many of so many items this process has."""
        return len(range(total)[self.rank :: self.size])

    def unshard(self, part: NDArray[Any]) -> NDArray[Any]:
        """The values of all items, from those that each process has."""
        parts = self.gather(part)
        values = np.empty((sum(map(len, parts)), *part.shape[1:]), part.dtype)
        for index, own in enumerate(parts):
            values[index :: self.size] = own
        return values

    def all_reduce(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes."""
        if self.size > 1:
            with self.detecting_lost_process():
                distributed.all_reduce(tensor)

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of a tensor over all processes."""
        self.all_reduce(tensor)
        return tensor / self.size if self.size > 1 else tensor

    def broadcast(self, tensor: Tensor) -> None:
        """Replace a tensor by that of the first process."""
        if self.size > 1:
            with self.detecting_lost_process():
                distributed.broadcast(tensor, 0)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            with self.detecting_lost_process():
                distributed.all_gather_object(values, value)
        return values

    def read_once(self, read: Callable[[], StoredDataset]) -> Dataset:
        """Read a data set in the first process of each machine; the others open its files in the cache.

        Raises:
            VaectlError: that of the first process of this machine.
        """
        if self.size == 1 or not os.path.exists(OPEN_FILES):  # without it, unnamed files have no path
            return read().open()
        outcome: StoredDataset | VaectlError | None = None
        if local_rank() == 0:
            try:
                outcome = read()
            except VaectlError as error:
                outcome = error
        found = self.gather(outcome)[self.rank - local_rank()]
        try:
            if isinstance(found, StoredDataset):
                return found.open()
            raise found or VaectlError("no process of this machine has LOCAL_RANK 0")
        finally:
            self.gather(None)  # all have opened the files, or failed, before the first process may close them

    def noise_seed(self, seed: int, step: int) -> int:
        """The seed of this process's noise in a step, so that the first one's state is enough to resume all."""
        return int(np.random.SeedSequence((seed, step, self.rank)).generate_state(1, np.uint64)[0] >> 1)

    def error(self, error: VaectlError) -> BaseException:
        """What to raise for an error that all processes have: the error in the first, a silent exit in others."""
        return SystemExit(error.exit_code) if self.rank else error

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """A block that succeeds in all processes or in none: the first process raises the first error of any.

        Within the block, processes must not wait for each other after one of them may have failed: `read_once` comes first.

        Raises:
            VaectlError: that of the first process which has one.
        """
        found: VaectlError | None = None
        try:
            yield
        except VaectlError as error:
            if self.size == 1:
                raise
            found = error
        for index, words in enumerate(self.gather((found.what, found.advice) if found else None)):
            if words:
                failure = found if found and index == 0 else VaectlError(f"process {index}: {words[0]}", words[1])
                raise self.error(failure) from found

    @contextmanager
    def detecting_lost_process(self) -> Iterator[None]:
        """Turn an error of torch.distributed into LostProcessError."""
        try:
            yield
        except RuntimeError as error:
            raise self.error(LostProcessError("another process of this training ended, so this one ends too")) from error


ALONE = World()


@contextmanager
def join_world(device: str) -> Iterator[World]:
    """The processes that torchrun started, if it started this one, which works on `device`; else this process alone."""
    if world_size() == 1:
        yield ALONE
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        yield World(rank(), world_size())
    finally:
        distributed.destroy_process_group()


def check_equal(world: World, run_configs: Sequence[dict[str, Any]]) -> None:
    """Raise a VaectlError if processes have other data or settings than the first."""
    first = run_configs[0]
    for index, other in enumerate(run_configs):
        for name, value in first.items():
            if other.get(name) != value:
                what = f"process {index} has {'other data' if name == 'data' else f'another {name}'} than process 0"
                raise world.error(VaectlError(what, "give all processes the same files and the same command"))
