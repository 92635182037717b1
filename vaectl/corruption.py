"""Corruptions: what is done to an image before it is encoded, while the target stays clean (Vincent et al. 2008).

They use only what NumPy arrays and torch tensors have in common, so training and every command corrupt images alike. Images
are (N, H, W, C) in [0, 1]; each image is corrupted independently, and anew at every call.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vaectl.errors import UsageError
from vaectl.io import codecs, files, images, streams
from vaectl.networks.layers import Shape


class Random(Protocol):
    """A source of random arrays, NumPy's or torch's."""

    def normal(self, shape: Shape) -> Any:
        """Samples of N(0, 1)."""

    def uniform(self, shape: Shape) -> Any:
        """Samples of U[0, 1)."""

    def integers(self, high: int, shape: Shape) -> Any:
        """Integers in [0, high)."""

    def constant(self, array: NDArray[Any]) -> Any:
        """A constant as an array of the same kind."""


class NumpyRandom:
    """Random NumPy arrays."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def normal(self, shape: Shape) -> NDArray[np.float32]:
        return self.rng.standard_normal(shape, np.float32)

    def uniform(self, shape: Shape) -> NDArray[np.float32]:
        return self.rng.random(shape, np.float32)

    def integers(self, high: int, shape: Shape) -> NDArray[np.int64]:
        return self.rng.integers(high, size=shape)

    def constant(self, array: NDArray[Any]) -> NDArray[Any]:
        return array


Corruption = Callable[[Any, Random], Any]


@dataclass(frozen=True)
class GaussianNoise:
    """White Gaussian noise on every value, clipped to [0, 1]."""

    sigma: float

    def __call__(self, clean: Any, random: Random) -> Any:
        return (clean + self.sigma * random.normal(tuple(clean.shape))).clip(0, 1)


@dataclass(frozen=True)
class Mask:
    """Pixels set to black, each with the given probability, in all channels."""

    probability: float

    def __call__(self, clean: Any, random: Random) -> Any:
        return clean * (random.uniform((*clean.shape[:3], 1)) >= self.probability)


@dataclass(frozen=True)
class SaltAndPepper:
    """Pixels set to black or white, equally often, each with the given probability, in all channels."""

    probability: float

    def __call__(self, clean: Any, random: Random) -> Any:
        u = random.uniform((*clean.shape[:3], 1))
        pepper, salt = u < self.probability / 2, (u >= self.probability / 2) & (u < self.probability)
        return clean * ~(pepper | salt) + salt


DEFAULT_TEXT = "vaectl"
# A watermark takes one of N_SCALES sizes: its longer side, relative to the largest that fits, or to its own on crops.
MIN_SCALE, N_SCALES = 0.4, 8
MIN_OPACITY = 0.4


@dataclass(frozen=True)
class Watermark:
    """An image laid over the clean one at a random position, size and opacity; its own alpha is respected.

    `file` is read once; "" is a built-in text. The watermark is scaled to fit the image, or on crops of larger photos
    (`on_crops`) keeps its own size or a smaller one and may extend beyond the edge.
    """

    file: str
    on_crops: bool = False

    def __call__(self, clean: Any, random: Random) -> Any:
        stamps, vertical, horizontal = render_stamps(self.file, tuple(clean.shape[1:]), self.on_crops)
        scale = random.integers(N_SCALES, (len(clean),))
        rows, columns = vertical.sample(scale, random), horizontal.sample(scale, random)
        stamp = random.constant(stamps)[scale[:, None, None], rows[:, :, None], columns[:, None, :]]
        opacity = MIN_OPACITY + (1 - MIN_OPACITY) * random.uniform((len(clean), 1, 1, 1))
        return clean * (1 - opacity * stamp[..., -1:]) + opacity * stamp[..., :-1]


class Positions:
    """Random positions of stamps of several lengths along one axis of an image; one that does not fit crosses the edge."""

    def __init__(self, size: int, lengths: NDArray[np.int64]) -> None:
        self.pixels = np.arange(size)
        self.outside = int(lengths.max())  # an index in a stamp's canvas where it is transparent
        self.choices = np.where(lengths <= size, size - lengths + 1, size + lengths - 1)
        self.first = np.where(lengths <= size, 0, 1 - lengths)

    def sample(self, scale: Any, random: Random) -> Any:
        """For stamps of `scale` (N,): the index into the stamp's canvas at each pixel along the axis, (N, size)."""
        start = random.integers(1 << 30, tuple(scale.shape)) % random.constant(self.choices)[scale]
        start = start + random.constant(self.first)[scale]
        index = random.constant(self.pixels)[None] - start[:, None]
        return index.clip(-1, self.outside) % (self.outside + 1)


@lru_cache(maxsize=4)
def render_stamps(file: str, image_shape: Shape, on_crops: bool) -> tuple[NDArray[np.float32], Positions, Positions]:
    """A watermark in N_SCALES sizes for images of `image_shape`, and its vertical and horizontal positions.

    Each stands in the upper left of a transparent canvas: premultiplied color, then alpha as the last channel.
    """
    height, width, channels = image_shape
    mark = images.premultiply(read_watermark(file), channels)
    largest = 1.0 if on_crops else min(height / mark.shape[0], width / mark.shape[1])
    scales = np.linspace(MIN_SCALE, 1, N_SCALES) * largest
    sizes = np.maximum(1, np.rint(np.outer(scales, mark.shape[:2]))).astype(np.int64)
    stamps = np.zeros((N_SCALES, *(sizes[-1] + 1), channels + 1), np.float32)
    for stamp, (rows, columns) in zip(stamps, sizes.tolist(), strict=True):
        stamp[:rows, :columns] = images.resize_pixels(mark, (rows, columns))
    return stamps, Positions(height, sizes[:, 0]), Positions(width, sizes[:, 1])


@lru_cache(maxsize=4)
def read_watermark(file: str) -> Any:
    """The watermark as a Pillow image; cached, because a pipe can be read only once."""
    if not file:
        return images.render_text(DEFAULT_TEXT)
    with files.open_reader(file) as reader:
        return codecs.open_image(streams.read_image(reader, files.sniff_format(reader)), reader.name)[0]


def apply_corruptions(corruptions: Sequence[Corruption], clean: Any, random: Random) -> Any:
    """Apply corruptions to images one after another."""
    corrupted = clean
    for corruption in corruptions:
        corrupted = corruption(corrupted, random)
    return corrupted


BY_STRENGTH: dict[str, Callable[[float], Corruption]] = {
    "gaussian": GaussianNoise,
    "mask": Mask,
    "salt-pepper": SaltAndPepper,
}


def parse_corruptions(specs: Sequence[str], *, on_crops: bool = False) -> tuple[Corruption, ...]:
    """Parse specs `NAME:STRENGTH` or `watermark:FILE`, in the order in which they are applied.

    `on_crops` keeps a watermark at its own size, for images that are crops of larger photos.

    Raises:
        UsageError: an unknown name, or a strength outside (0, 1].
        VaectlError: a watermark that cannot be read.
    """
    return tuple(parse_corruption(spec, on_crops) for spec in specs)


def parse_corruption(spec: str, on_crops: bool) -> Corruption:
    """Parse one spec."""
    name, _, value = spec.partition(":")
    if name == "watermark":
        read_watermark(value)  # fail now if it is unreadable
        return Watermark(value, on_crops)
    try:
        strength = float(value)
    except ValueError:
        strength = 0.0
    if name in BY_STRENGTH and 2 <= strength <= 255:
        raise UsageError(f"{spec!r}: strengths are between 0 and 1: {strength:g} of 255 is {name}:{strength / 255:.2g}")
    if name not in BY_STRENGTH or not 0 < strength <= 1:
        known = ", ".join(f"{name}:0.25" for name in BY_STRENGTH)
        raise UsageError(f"{spec!r} is not a corruption: use {known} (up to 1) or watermark:IMAGE")
    return BY_STRENGTH[name](strength)
