"""The batches of training steps: whole images in a new order every epoch, or random crops of photos."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

import numpy as np
import torch
from torch import Generator, Tensor

from vaectl.base.arrays import UInt8Array
from vaectl.base.shapes import Shape
from vaectl.training.distributed import ALONE, World

N_INIT_IMAGES = 10_000  # images from which weights are initialized and latent statistics computed
N_INIT_CROPS = 1000
CROPS_PER_EPOCH = 4096
# Larger data stay in memory or on disk, and go to a GPU batch by batch.
MAX_DEVICE_BYTES = 2 << 30


class ImageDataset:
    """Images of one size, (N, H, W, C), 0 to 255; or pairs of a clean and a noisy one, (N, H, W, 2 C)."""

    def __init__(self, images: UInt8Array, device: str) -> None:
        self.images = images
        self.tensor = torch.from_numpy(images).to(device if images.nbytes <= MAX_DEVICE_BYTES else "cpu")

    def __len__(self) -> int:
        return len(self.images)

    def init_images(self) -> UInt8Array:
        """Some of the images, evenly spaced."""
        return self.images[:: max(1, len(self) // N_INIT_IMAGES)]

    def evaluation_images(self) -> UInt8Array:
        """The images to evaluate on: all."""
        return self.images

    def batches(self, batch_size: int, random: Generator, world: World = ALONE) -> Iterator[Tensor]:
        """This process's parts of the batches of an epoch, (N, H, W, C), 0 to 255, in random order.

        An incomplete last batch is dropped.
        """
        order = torch.randperm(len(self), generator=random, device=random.device).to(self.tensor.device)
        for chosen in order[: len(self) // batch_size * batch_size].split(batch_size):
            yield to_device(self.tensor[chosen[world.rank :: world.size]], random.device)


@dataclass(frozen=True)
class RandomCrops:
    """Random crops of `shape` from photos (H, W, C) or pairs (H, W, 2 C), 0 to 255, rotated and flipped at random.

    An epoch has a fixed number of crops, so that a few epochs are a training run however large the photos are.
    """

    photos: Sequence[UInt8Array] | UInt8Array
    shape: Shape

    def __len__(self) -> int:
        return CROPS_PER_EPOCH

    def init_images(self) -> UInt8Array:
        """Some crops, the same at every call."""
        return self.crop_batch(N_INIT_CROPS, np.random.default_rng(0))

    def evaluation_images(self) -> UInt8Array:
        """The crops to evaluate on: some, the same at every call."""
        return self.init_images()

    def batches(self, batch_size: int, random: Generator, world: World = ALONE) -> Iterator[Tensor]:
        """This process's parts of the batches of an epoch, (N, H, W, C), 0 to 255."""
        seed = int(torch.randint(1 << 62, (), generator=random, device=random.device))
        rng = np.random.default_rng(seed if world.size == 1 else (seed, world.rank))
        for _ in range(len(self) // batch_size):
            yield to_device(torch.from_numpy(self.crop_batch(world.shard_size(batch_size), rng)), random.device)

    def crop_batch(self, count: int, rng: np.random.Generator) -> UInt8Array:
        """Random crops, (count, H, W, C), of each photo equally often: pixel by pixel, small ones show more."""
        chosen = rng.integers(len(self.photos), size=count)
        return np.stack([self.crop(self.photos[index], rng) for index in chosen])

    def crop(self, photo: UInt8Array, rng: np.random.Generator) -> UInt8Array:
        """One random crop; a smaller photo is padded with its mirror image."""
        height, width, _ = self.shape
        below, right = max(0, height - photo.shape[0]), max(0, width - photo.shape[1])
        if below or right:
            photo = np.pad(photo, ((0, below), (0, right), (0, 0)), mode="symmetric")
        top = rng.integers(photo.shape[0] - height + 1)
        left = rng.integers(photo.shape[1] - width + 1)
        crop = photo[top : top + height, left : left + width]
        turns = rng.integers(4) if height == width else 2 * rng.integers(2)
        return np.rot90(crop, int(turns))[:, :: rng.choice((-1, 1))]


TrainImages = ImageDataset | RandomCrops


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """The batch on a device; a GPU copies it from pinned memory while it still works on the one before."""
    if device.type == "cuda" and batch.device.type == "cpu":
        return batch.pin_memory().to(device, non_blocking=True)
    return batch.to(device)


def make_dataset(images: Sequence[UInt8Array] | UInt8Array, shape: Shape, device: str) -> TrainImages:
    """Images or pairs of `shape` as they are, those of other sizes as random crops of `shape`."""
    if isinstance(images, np.ndarray) and images.shape[1:3] == shape[:2]:
        return ImageDataset(images, device)
    return RandomCrops(images, shape)


def shift_images(images: Tensor, most: int, random: Generator) -> Tensor:
    """Images (N, H, W, C), each moved by up to `most` pixels at random, up or down and sideways; its edge pixels fill the gap."""
    count, height, width, _ = images.shape
    down, right = torch.randint(-most, most + 1, (2, count, 1), generator=random, device=random.device)
    first, rows, columns = (torch.arange(size, device=random.device) for size in (count, height, width))
    rows, columns = (rows - down).clamp(0, height - 1), (columns - right).clamp(0, width - 1)
    return images[first[:, None, None], rows[:, :, None], columns[:, None, :]]


class DataLoader:
    """The batches of all epochs in order, or this process's parts of them.

    `step` counts those given so far; it can be set to resume, also within an epoch.
    """

    def __init__(self, dataset: TrainImages, batch_size: int, epochs: int, random: Generator, world: World = ALONE) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.random = random
        self.world = world
        self.steps_per_epoch = len(dataset) // batch_size
        self.steps = epochs * self.steps_per_epoch
        self.step = 0
        self.started = perf_counter()  # measures steps only, not the skipping of what an interrupted run has seen
        self.epoch_rng_state = random.get_state()  # the order of this epoch follows from it

    @property
    def ends_epoch(self) -> bool:
        """Whether the last batch given was the last of its epoch."""
        return self.step % self.steps_per_epoch == 0

    def __iter__(self) -> Iterator[Tensor]:
        while self.step < self.steps:
            given = self.step % self.steps_per_epoch
            rng_state = self.random.get_state()
            if given:
                self.random.set_state(self.epoch_rng_state)
            else:
                self.epoch_rng_state = rng_state
            batches = self.dataset.batches(self.batch_size, self.random, self.world)
            if given:  # skip what the interrupted run has seen
                next(islice(batches, given - 1, None))
                self.random.set_state(rng_state)
                self.started = perf_counter()
            for batch in batches:
                self.step += 1
                yield batch
