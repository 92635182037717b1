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
from vaectl.io import codecs, files, pictures

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
# A mark's longer side is at most this share of the picture's, or a photograph's mark this share of its own, in so many steps.
SMALLEST, LARGEST, SIZES = 0.4, 1.0, 8
FAINTEST = 0.4


@dataclass(frozen=True)
class Watermark:
    """A picture laid over at a random place, size and strength; where it is transparent, the clean picture shows through.

    `mark` is the file it is read from; "" is a built-in mark of letters. It is made as large as the picture or smaller; on
    `photographs`, of which a crop may be all there is, it has its own size or a smaller one, and may lie partly beyond the edge.
    """

    mark: str
    photographs: bool = False

    def __call__(self, clean: Any, draw: Draw) -> Any:
        layers, down, right = stamps(self.mark, tuple(clean.shape[1:]), self.photographs)
        size = draw.integers(SIZES, (len(clean),))
        rows, columns = down.places(size, draw), right.places(size, draw)
        stamp = draw.constant(layers)[size[:, None, None], rows[:, :, None], columns[:, None, :]]
        strength = FAINTEST + (1 - FAINTEST) * draw.uniform((len(clean), 1, 1, 1))
        return clean * (1 - strength * stamp[..., -1:]) + strength * stamp[..., :-1]


class Side:
    """Where marks of several lengths may lie along one side of a picture; one that does not fit lies partly beyond its edge."""

    def __init__(self, room: int, lengths: NDArray[np.int64]) -> None:
        self.pixels = np.arange(room)
        self.outside = int(lengths.max())  # the place in a layer where there is no mark
        self.choices = np.where(lengths <= room, room - lengths + 1, room + lengths - 1)
        self.first = np.where(lengths <= room, 0, 1 - lengths)

    def places(self, size: Any, draw: Draw) -> Any:
        """For layers of `size`, (N,), laid down anywhere: which of their places is on each pixel along the side, (N, pixels)."""
        start = draw.integers(1 << 30, tuple(size.shape)) % draw.constant(self.choices)[size] + draw.constant(self.first)[size]
        place = draw.constant(self.pixels)[None] - start[:, None]
        return place.clip(-1, self.outside) % (self.outside + 1)


@lru_cache(maxsize=4)
def stamps(mark: str, shape: Shape, photographs: bool) -> tuple[NDArray[np.float32], Side, Side]:
    """A mark in SIZES sizes for pictures of `shape`, and where it may lie, downwards and rightwards.

    Each stands in the upper left of a layer that is transparent beyond it: colours times alpha, and alpha as last channel.
    """
    height, width, channels = shape
    picture = pictures.premultiplied(read_mark(mark), channels)
    largest = LARGEST if photographs else LARGEST * min(height / picture.shape[0], width / picture.shape[1])
    shares = np.linspace(SMALLEST / LARGEST, 1, SIZES) * largest
    sizes = np.maximum(1, np.rint(np.outer(shares, picture.shape[:2]))).astype(np.int64)
    layers = np.zeros((SIZES, *(sizes[-1] + 1), channels + 1), np.float32)
    for layer, (rows, columns) in zip(layers, sizes.tolist(), strict=True):
        layer[:rows, :columns] = pictures.resized(picture, (rows, columns))
    return layers, Side(height, sizes[:, 0]), Side(width, sizes[:, 1])


@lru_cache(maxsize=4)
def read_mark(mark: str) -> Any:
    """The mark as a Pillow picture; a pipe gives it once."""
    if not mark:
        return pictures.lettering(WORDS)
    with files.opened(mark) as reader:
        return codecs.opened(reader.read(files.LARGEST_PICTURE), reader.name)


def applied(corruptions: Sequence[Corruption], clean: Any, draw: Draw) -> Any:
    """The pictures, spoiled by one corruption after another."""
    spoiled = clean
    for corruption in corruptions:
        spoiled = corruption(spoiled, draw)
    return spoiled


SHARES: dict[str, Callable[[float], Corruption]] = {"gaussian": Gaussian, "mask": Mask, "salt-pepper": SaltAndPepper}


def parse(specs: Sequence[str], *, photographs: bool = False) -> tuple[Corruption, ...]:
    """Corruptions from their specs, `NAME:STRENGTH` or `watermark:PICTURE`, in the order in which they are applied.

    `photographs` are of any size, and a watermark on them is not fitted to it.

    Raises:
        UsageError: a name that is not known, or a strength that is no number above 0 and up to 1.
        VaectlError: a watermark that cannot be read.
    """
    return tuple(parse_one(spec, photographs) for spec in specs)


def parse_one(spec: str, photographs: bool) -> Corruption:
    """One of `parse`."""
    name, _, value = spec.partition(":")
    if name == "watermark":
        read_mark(value)  # one that cannot be read is told now
        return Watermark(value, photographs)
    try:
        strength = float(value)
    except ValueError:
        strength = 0
    if name not in SHARES or not 0 < strength <= 1:
        known = ", ".join(f"{name}:0.25" for name in SHARES)
        raise UsageError(f"{spec!r} is no corruption: give {known} (up to 1) or watermark:PICTURE")
    return SHARES[name](strength)
