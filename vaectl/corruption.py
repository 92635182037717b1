"""What is done to a picture before it is encoded; the target stays clean (Vincent et al. 2008, the denoising autoencoder).

The functions use only what NumPy arrays and torch tensors share, so that training and the other verbs spoil pictures alike.
Pictures are (N, H, W, C) in [0, 1]; each is spoiled on its own, and anew at every call.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vaectl.errors import UsageError
from vaectl.io import files, pictures

Shape = tuple[int, ...]


class Draw(Protocol):
    """Random numbers as arrays of one kind, NumPy's or torch's."""

    def normal(self, shape: Shape) -> Any:
        """From N(0, 1)."""

    def uniform(self, shape: Shape) -> Any:
        """From [0, 1)."""

    def integers(self, below: int, shape: Shape) -> Any:
        """Whole numbers from 0 up to, but without, `below`."""

    def constant(self, array: NDArray[Any]) -> Any:
        """What is not random, as an array of the same kind."""


class NumpyDraw:
    """Random numbers as NumPy arrays."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def normal(self, shape: Shape) -> NDArray[np.float32]:
        return self.rng.standard_normal(shape, np.float32)

    def uniform(self, shape: Shape) -> NDArray[np.float32]:
        return self.rng.random(shape, np.float32)

    def integers(self, below: int, shape: Shape) -> NDArray[np.int64]:
        return self.rng.integers(below, size=shape)

    def constant(self, array: NDArray[Any]) -> NDArray[Any]:
        return array


Corruption = Callable[[Any, Draw], Any]


@dataclass(frozen=True)
class Gaussian:
    """White noise of standard deviation `strength` on every value, clipped to [0, 1]."""

    strength: float

    def __call__(self, clean: Any, draw: Draw) -> Any:
        return (clean + self.strength * draw.normal(tuple(clean.shape))).clip(0, 1)


@dataclass(frozen=True)
class Mask:
    """A share of the pixels is black, in all channels."""

    share: float

    def __call__(self, clean: Any, draw: Draw) -> Any:
        return clean * (draw.uniform((*clean.shape[:3], 1)) >= self.share)


@dataclass(frozen=True)
class SaltAndPepper:
    """A share of the pixels is black or white, either as likely, in all channels."""

    share: float

    def __call__(self, clean: Any, draw: Draw) -> Any:
        chance = draw.uniform((*clean.shape[:3], 1))
        pepper, salt = chance < self.share / 2, (chance >= self.share / 2) & (chance < self.share)
        return clean * ~(pepper | salt) + salt


WORDS = "vaectl"
# A mark's longer side is at most this share of the picture's, in so many steps from the least.
SMALLEST, LARGEST, SIZES = 0.4, 1.0, 8
FAINTEST = 0.4


@dataclass(frozen=True)
class Watermark:
    """A picture laid over at a random place, size and strength; where it is transparent, the clean picture shows through.

    `mark` is the file it is read from; "" is a built-in mark of letters. A mark larger than the picture is made smaller.
    """

    mark: str

    def __call__(self, clean: Any, draw: Draw) -> Any:
        count, height, width, channels = clean.shape
        layers, rooms = stamps(self.mark, (height, width, channels))
        size = draw.integers(SIZES, (count,))
        # The mark stands in the middle of a layer twice as large as the picture, which is moved over the picture.
        top, left = (draw.integers(1 << 30, (count,)) % draw.constant(room)[size] for room in rooms)
        rows = draw.constant(np.arange(height, 2 * height)) - top[:, None]
        columns = draw.constant(np.arange(width, 2 * width)) - left[:, None]
        stamp = draw.constant(layers)[size[:, None, None], rows[:, :, None], columns[:, None, :]]
        strength = FAINTEST + (1 - FAINTEST) * draw.uniform((count, 1, 1, 1))
        return clean * (1 - strength * stamp[..., channels:]) + strength * stamp[..., :channels]


@lru_cache(maxsize=4)
def stamps(mark: str, shape: Shape) -> tuple[NDArray[np.float32], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """A mark in SIZES sizes, each on a layer of twice a picture's `shape`: colours times alpha, and alpha as last channel.

    Returns also the number of places that each size may take, from the top and from the left.
    """
    height, width, channels = shape
    picture = pictures.premultiplied(read_mark(mark), channels)
    layers = np.zeros((SIZES, 2 * height, 2 * width, channels + 1), np.float32)
    rooms = np.zeros((2, SIZES), np.int64)
    for index, share in enumerate(np.linspace(SMALLEST, LARGEST, SIZES)):
        scale = share * min(height / picture.shape[0], width / picture.shape[1])
        size = (max(1, round(picture.shape[0] * scale)), max(1, round(picture.shape[1] * scale)))
        layers[index, height : height + size[0], width : width + size[1]] = pictures.resized(picture, size)
        rooms[:, index] = height - size[0] + 1, width - size[1] + 1
    return layers, (rooms[0], rooms[1])


def read_mark(mark: str) -> Any:
    """The mark as a Pillow picture."""
    if not mark:
        return pictures.lettering(WORDS)
    with files.opened(mark) as reader:
        return pictures.opened(reader.read(files.LARGEST_PICTURE), reader.name)


def applied(corruptions: Sequence[Corruption], clean: Any, draw: Draw) -> Any:
    """The pictures, spoiled by one corruption after another."""
    spoiled = clean
    for corruption in corruptions:
        spoiled = corruption(spoiled, draw)
    return spoiled


SHARES: dict[str, Callable[[float], Corruption]] = {"gaussian": Gaussian, "mask": Mask, "salt-pepper": SaltAndPepper}


def parse(specs: Sequence[str]) -> tuple[Corruption, ...]:
    """Corruptions from their specs, `NAME:STRENGTH` or `watermark:PICTURE`, in the order in which they are applied.

    Raises:
        UsageError: a name that is not known, or a strength that is no number above 0 and up to 1.
        VaectlError: a watermark that cannot be read.
    """
    return tuple(parse_one(spec) for spec in specs)


def parse_one(spec: str) -> Corruption:
    """One of `parse`."""
    name, _, value = spec.partition(":")
    if name == "watermark":
        watermark = Watermark(value)
        stamps(watermark.mark, (1, 1, 1))  # a mark that cannot be read is told now
        return watermark
    try:
        strength = float(value)
    except ValueError:
        strength = 0
    if name not in SHARES or not 0 < strength <= 1:
        known = ", ".join(f"{name}:0.25" for name in SHARES)
        raise UsageError(f"{spec!r} is no corruption: give {known} (up to 1) or watermark:PICTURE")
    return SHARES[name](strength)
