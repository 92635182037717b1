"""What each step of a training learns from: whole pictures in a new order every epoch, or crops cut at random."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from vaectl.layers import Shape

Bytes = NDArray[np.uint8]
PIXEL = 1 / 255  # what each step of a byte is worth

ENOUGH = 10_000  # pictures by which weights are initialised, and by whose latents their spread is known
SOME = 1000  # crops likewise
AN_EPOCH = 4096  # crops
# Pictures that need more than this stay in the machine's memory or on its disk, and go to a GPU batch by batch.
MOST_ON_DEVICE = 2 << 30  # bytes


class Stock(Protocol):
    """Pictures to learn from, as many an epoch as its length says."""

    def __len__(self) -> int: ...

    def sample(self) -> Bytes:
        """Some of the pictures, (N, H, W, C)."""

    def judged(self) -> Bytes:
        """The pictures, (N, H, W, C), by which a model is judged."""

    def epoch(self, batch_size: int, random: Generator) -> Iterator[Tensor]:
        """Batches, (N, H, W, C) bytes, on the device of `random`, which orders them; an incomplete last one is left out."""


class Whole:
    """Pictures of one size, (N, H, W, C) bytes."""

    def __init__(self, pictures: Bytes, device: str) -> None:
        self.pictures = pictures
        self.tensor = torch.from_numpy(pictures).to(device if pictures.nbytes <= MOST_ON_DEVICE else "cpu")

    def __len__(self) -> int:
        return len(self.pictures)

    def sample(self) -> Bytes:
        return self.pictures[:: max(1, len(self) // ENOUGH)]

    def judged(self) -> Bytes:
        return self.pictures

    def epoch(self, batch_size: int, random: Generator) -> Iterator[Tensor]:
        order = torch.randperm(len(self), generator=random, device=random.device).to(self.tensor.device)
        for chosen in order[: len(self) // batch_size * batch_size].split(batch_size):
            yield self.tensor[chosen].to(random.device)


@dataclass(frozen=True)
class Crops:
    """Parts, of `shape`, of photographs, (H, W, C) bytes each: from a random place, turned and mirrored at random.

    An epoch has so many that a few epochs are a training, however large the photographs are.
    """

    photographs: Sequence[Bytes] | Bytes
    shape: Shape

    def __len__(self) -> int:
        return AN_EPOCH

    def sample(self) -> Bytes:
        return self.cut(SOME, np.random.default_rng(0))

    def judged(self) -> Bytes:
        return self.sample()

    def epoch(self, batch_size: int, random: Generator) -> Iterator[Tensor]:
        rng = np.random.default_rng(int(torch.randint(1 << 62, (), generator=random, device=random.device)))
        for _ in range(len(self) // batch_size):
            yield torch.from_numpy(self.cut(batch_size, rng)).to(random.device)

    def cut(self, count: int, rng: np.random.Generator) -> Bytes:
        """Crops, (count, H, W, C); a large photograph gives more of them than a small one."""
        sizes = np.array([photograph.size for photograph in self.photographs], np.float64)
        chosen = rng.choice(len(sizes), count, p=sizes / sizes.sum())
        return np.stack([self.crop(self.photographs[index], rng) for index in chosen])

    def crop(self, photograph: Bytes, rng: np.random.Generator) -> Bytes:
        """One crop; a photograph that is smaller is continued by its mirror image."""
        height, width, _ = self.shape
        below, right = max(0, height - photograph.shape[0]), max(0, width - photograph.shape[1])
        if below or right:
            photograph = np.pad(photograph, ((0, below), (0, right), (0, 0)), mode="symmetric")
        top = rng.integers(photograph.shape[0] - height + 1)
        left = rng.integers(photograph.shape[1] - width + 1)
        part = photograph[top : top + height, left : left + width]
        turns = rng.integers(4) if height == width else 2 * rng.integers(2)
        return np.rot90(part, int(turns))[:, :: rng.choice((-1, 1))]


def stock(pictures: Sequence[Bytes] | Bytes, shape: Shape, device: str) -> Stock:
    """Pictures to learn from, each of `shape`: as they are, or where they are of other sizes, crops of them."""
    if isinstance(pictures, np.ndarray) and pictures.shape[1:] == shape:
        return Whole(pictures, device)
    return Crops(pictures, shape)


class Feed:
    """The batches of one epoch after another; `step` counts those that have been given."""

    def __init__(self, stock: Stock, batch_size: int, epochs: int, random: Generator) -> None:
        self.stock = stock
        self.batch_size = batch_size
        self.random = random
        self.steps_an_epoch = len(stock) // batch_size
        self.steps = epochs * self.steps_an_epoch
        self.step = 0
        self.random_of_epoch = random.get_state()  # from which the order of this epoch was drawn

    @property
    def ends_epoch(self) -> bool:
        """Whether the last batch given was the last of an epoch."""
        return self.step % self.steps_an_epoch == 0

    def __iter__(self) -> Iterator[Tensor]:
        while self.step < self.steps:
            given = self.step % self.steps_an_epoch
            now = self.random.get_state()
            if given:
                self.random.set_state(self.random_of_epoch)
            else:
                self.random_of_epoch = now
            batches = self.stock.epoch(self.batch_size, self.random)
            if given:  # in an earlier run
                next(islice(batches, given - 1, None))
                self.random.set_state(now)
            for batch in batches:
                self.step += 1
                yield batch
