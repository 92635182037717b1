"""Images that a network learns from while they are read, of data that do not fit on the disk."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import ceil

import numpy as np
import torch
from torch import Generator, Tensor

from vaectl.base.arrays import UInt8Array
from vaectl.base.errors import UsageError, VaectlError
from vaectl.base.prefetch import cpu_count
from vaectl.base.processes import world_size
from vaectl.datasets.folders import N_SAMPLED, N_SAMPLED_FILES, decode_shards
from vaectl.datasets.load import Data, ImageStack, StoredDataset
from vaectl.datasets.named import open_source
from vaectl.datasets.samples import HELD_OUT_ONE_IN, Preprocessing
from vaectl.io.sources import SkipPolicy
from vaectl.io.tars import Shards, index_shard
from vaectl.training.distributed import ALONE, World
from vaectl.training.loader import N_INIT_IMAGES, to_device

IMAGES_PER_EPOCH = 100_000  # unless there are few: nobody knows how many
MAX_BUFFER_IMAGES, MAX_BUFFER_BYTES = 10_000, 256 << 20


def open_stream(data: Data, *, is_unet: bool) -> Shards:
    """The tar files that data name.

    Raises:
        UsageError: data name none, or fewer than there are processes, or a unet is to learn from them.
    """
    source = open_source(os.fspath(data)) if isinstance(data, str | os.PathLike) else None
    if not isinstance(source, Shards):
        raise UsageError("only tar files are streamed: use --stream with --data 'shards/{0000..0127}.tar'")
    if is_unet:
        raise UsageError("a unet learns from crops of stored photos: leave out --stream")
    count = len(source.paths)
    if count < world_size():
        files = f"{count} tar file{'s' if count > 1 else ''}"
        raise UsageError(f"{files} for {world_size()} processes: give one for each, or leave out --stream")
    return source


@dataclass(frozen=True)
class StreamedImages:
    """The images of tar files, shuffled in a buffer as they are read, `length` of them in each epoch.

    The files are in a new random order each time, and each process reads its share of them. `sample` are some of the images; the
    others come in its shape. Held-out images are left out.
    """

    shards: Shards
    sample: ImageStack
    fit: str
    policy: SkipPolicy
    length: int

    def __len__(self) -> int:
        return self.length

    def init_images(self) -> UInt8Array:
        """Some of the images, the same at every call."""
        return np.asarray(self.sample[:: ceil(len(self.sample) / N_INIT_IMAGES)])

    def batches(self, batch_size: int, random: Generator, world: World = ALONE) -> Iterator[Tensor]:
        """This process's shares of the batches of an epoch, (N, H, W, C), 0 to 255.

        Raises:
            VaectlError: a file cannot be read.
        """
        seed = int(torch.randint(1 << 62, (), generator=random, device=random.device))
        order = np.random.default_rng(seed).permutation(len(self.shards.paths))
        count, steps = world.count(batch_size), len(self) // batch_size
        shards = self.shards.select(order[world.rank :: world.size].tolist())
        images = shuffle(
            islice(self.read(shards, max(1, cpu_count() // world.peers.size)), steps * count),
            max(1, min(MAX_BUFFER_IMAGES, MAX_BUFFER_BYTES // self.sample[0].nbytes)),
            np.random.default_rng((seed, world.rank)),
        )
        for _ in range(steps):
            yield to_device(torch.from_numpy(np.stack([*islice(images, count)])), random.device)

    def read(self, shards: Shards, threads: int) -> Iterator[UInt8Array]:
        """The training images of tar files, again and again, decoded by so many threads.

        Raises:
            VaectlError: there are none, or a file cannot be read.
        """
        height, width, channels = self.sample[0].shape
        preprocessing = Preprocessing((height, width), channels, self.fit)
        found = True
        while found:
            found = False
            for sample in decode_shards(shards, preprocessing, self.policy, threads):
                if isinstance(sample, VaectlError):
                    self.policy.handle(sample)
                elif not sample.held_out:
                    found = True
                    yield sample.image
        raise VaectlError(f"{', '.join(shards.paths)!r} contains no images to learn from: give other data")


def shuffle(images: Iterator[UInt8Array], size: int, rng: np.random.Generator) -> Iterator[UInt8Array]:
    """The images in random order, as far as a buffer of so many allows."""
    buffer = [*islice(images, size)]
    for image in images:
        chosen = rng.integers(size)
        yield buffer[chosen]
        buffer[chosen] = image
    for chosen in rng.permutation(len(buffer)):
        yield buffer[chosen]


def count_epoch(shards: Shards, sample: StoredDataset) -> int:
    """How many images an epoch of tar files has, of which some are in `sample`.

    These are all if they are fewer than IMAGES_PER_EPOCH, else so many. Files at URLs are not counted: if their sample is full,
    there are many.
    """
    n_train = len(sample.train.images)
    if n_train + len(sample.test.images) < N_SAMPLED:
        return min(IMAGES_PER_EPOCH, n_train * ceil(len(shards.paths) / N_SAMPLED_FILES))
    if not shards.are_countable:
        return IMAGES_PER_EPOCH
    images = 0
    for path in shards.paths:
        images += index_shard(path).images
        if images >= IMAGES_PER_EPOCH:
            return IMAGES_PER_EPOCH
    return images - images // HELD_OUT_ONE_IN
