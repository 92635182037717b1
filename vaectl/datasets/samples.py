"""Samples of a data set: an image, whether it is held out, its label and its name; and the size they are brought to."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vaectl.base.arrays import UInt8Array
from vaectl.base.errors import VaectlError
from vaectl.images.resize import ResizeSpec

HELD_OUT_ONE_IN = 10  # one image in ten is held out, if the data have no test split
DEFAULT_LONG_SIDE = 64  # pixels, if images are larger or their sizes differ
SIDE_MULTIPLE = 4  # the shorter side is then rounded to a multiple of this


class Sample(NamedTuple):
    """An image (H, W, C), whether it is held out for testing, and its label and its name, if it has them."""

    image: UInt8Array
    held_out: bool
    label: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class ImageStream:
    """The images of a data set, and how many there are if that is known; `shrink` large ones unless a size is given.

    With `noisy`, they are pairs, and with `streamed` only a sample, as in `Dataset`.
    """

    name: str
    images: Iterable[Sample]
    total: int | None = None
    shrink: bool = False
    noisy: str | None = None
    streamed: bool = False


@dataclass(frozen=True)
class Preprocessing:
    """How images are resized; None takes it from the data.

    `size` is height and width, `fit` as in `ResizeSpec`. `keep_size` leaves each image its own size. With `skip_bad`, files that
    cannot be read are listed and skipped.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    fit: str = "crop"
    keep_size: bool = False
    skip_bad: bool = False

    def resize_spec(self, size: tuple[int, int], channels: int) -> ResizeSpec:
        """The spec for data of this size and these channels."""
        return ResizeSpec((*(self.size or size), self.channels or channels), self.fit)


def split_by_content(stack: Iterable[UInt8Array]) -> Iterator[Sample]:
    """Each image, and whether its content puts it into the held-out tenth."""
    return (Sample(image, is_held_out(image.tobytes())) for image in stack)


def is_held_out(content: bytes) -> bool:
    """Whether content is held out, by its hash."""
    return hashlib.sha256(content).digest()[0] % HELD_OUT_ONE_IN == 0


def join_pairs(clean: Iterable[Sample], noisy: Iterable[Sample], name: str) -> Iterator[Sample]:
    """Each clean image and its noisy partner as one image, (H, W, 2 C); the clean one says whether it is held out."""
    for sample, (partner, *_) in zip(clean, noisy, strict=True):
        if sample.image.shape != partner.shape:
            raise VaectlError(f"{name}: clean images are {sample.image.shape}, noisy ones {partner.shape}: make them one size")
        yield sample._replace(image=np.concatenate([sample.image, partner], axis=2))


def common_size(sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    """The height and width for images of these sizes: their own if they share one of at most 64 pixels a side.

    Otherwise the longer side is 64 pixels, or their median if that is less, at their median aspect ratio.
    """
    if len(sizes) == 1 and max(next(iter(sizes))) <= DEFAULT_LONG_SIDE:
        return next(iter(sizes))
    aspect = median((width / height, count) for (height, width), count in sizes.items())
    longer = min(DEFAULT_LONG_SIDE, int(median((max(size), count) for size, count in sizes.items())))
    shorter = min(longer, max(SIDE_MULTIPLE, round(longer * min(aspect, 1 / aspect) / SIDE_MULTIPLE) * SIDE_MULTIPLE))
    return (shorter, longer) if aspect > 1 else (longer, shorter)


def median(values: Iterable[tuple[float, int]]) -> float:
    """The median of values with counts; of two in the middle, the larger."""
    numbers, counts = zip(*values, strict=True)
    return float(np.percentile(np.repeat(numbers, counts), 50, method="higher"))
