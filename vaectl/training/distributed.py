"""Data-parallel training: the processes that torchrun starts, on one machine or several, as one training run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, distributed

from vaectl.base.arrays import UInt8Array
from vaectl.base.errors import VaectlError
from vaectl.base.processes import local_world_size, rank, world_size
from vaectl.training.peers import ALONE_HERE, Peers, connect_peers

T = TypeVar("T")

# How long processes wait for each other: one machine may read its data faster than another. One that ends is noticed at once.
TIMEOUT = timedelta(days=1)


class PeerLostError(VaectlError):
    """Another process of this run ended."""


@dataclass(frozen=True)
class World:
    """The processes of a training run; this one is `rank` of `size`, and `peers` are those on this machine.

    Each calls the same methods in the same order.

    Raises:
        PeerLostError: another process ended. Only the first process raises errors that all have; the others exit in silence.
    """

    rank: int = 0
    size: int = 1
    peers: Peers = ALONE_HERE

    def part(self, images: UInt8Array) -> UInt8Array:
        """This process's share of images: every `size`-th."""
        return images[self.rank :: self.size]

    def count(self, total: int) -> int:
        """How many of so many items are in this process's share."""
        return len(range(total)[self.rank :: self.size])

    def sum(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes."""
        if self.size > 1:
            with self.noticing_loss():
                distributed.all_reduce(tensor)

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of a tensor over all processes."""
        self.sum(tensor)
        return tensor / self.size if self.size > 1 else tensor

    def share(self, tensor: Tensor) -> None:
        """Replace a tensor by that of the first process."""
        if self.size > 1:
            with self.noticing_loss():
                distributed.broadcast(tensor, 0)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            with self.noticing_loss():
                distributed.all_gather_object(values, value)
        return values

    def broadcast(self, value: T) -> T:
        """The value of the first process."""
        values = [value]
        if self.size > 1:
            with self.noticing_loss():
                distributed.broadcast_object_list(values)
        return values[0]

    def interleave(self, part: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
        """Values of all items, from those of each process's share of them."""
        parts = self.gather(part)
        values = np.empty((sum(map(len, parts)), *part.shape[1:]), part.dtype)
        for index, own in enumerate(parts):
            values[index :: self.size] = own
        return values

    def read_once(self, read: Callable[[], T]) -> T:
        """What the first process of each machine reads; the others get it from that one, open files in it included.

        Raises:
            VaectlError: that of the first process of this machine.
        """
        outcome: T | VaectlError | None = None
        if self.peers.is_first:
            try:
                outcome = read()
            except VaectlError as error:
                outcome = error
        with self.noticing_loss():
            outcome = self.peers.share(outcome)
        if isinstance(outcome, VaectlError):
            raise outcome
        return cast(T, outcome)

    def noise_seed(self, seed: int, step: int) -> int:
        """The seed of this process's noise in a step, so that the first one's state is enough to resume all."""
        return int(np.random.SeedSequence((seed, step, self.rank)).generate_state(1, np.uint64)[0] >> 1)

    def error(self, error: VaectlError) -> BaseException:
        """What to raise for an error that all processes have: the error in the first, a silent exit in others."""
        return SystemExit(error.exit_code) if self.rank else error

    @contextmanager
    def agreement(self) -> Iterator[None]:
        """A block after which all processes go on, or none: the first one raises the error of any.

        It is no place to communicate, but for `read_once` at its beginning.

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
    def noticing_loss(self) -> Iterator[None]:
        """Turn an error in talking to other processes into PeerLostError."""
        try:
            yield
        except (RuntimeError, ConnectionError) as error:
            raise self.error(PeerLostError("another process of this training ended, so all do")) from error


ALONE = World()


@contextmanager
def join_world(device: str) -> Iterator[World]:
    """The processes of this run: those that torchrun started, if it started this one, which works on `device`, else it alone."""
    if world_size() == 1:
        yield ALONE
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        world = World(rank(), world_size())
        yield replace(world, peers=connect_peers(world.rank, world.gather)) if local_world_size() > 1 else world
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
