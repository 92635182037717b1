"""Corruptions: what is done to an image before it is encoded, while the target stays clean (Vincent et al. 2008).

They use only what NumPy arrays and torch tensors have in common, so training and every command corrupt images alike. Images
are (N, H, W, C) in [0, 1]; each image is corrupted independently, and anew at every call.

To add one, write its class and its row in CORRUPTIONS: options, help, completion and errors follow. This module imports NumPy
and Pillow only where they work, so that `--help` and completion stay fast.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache, partial
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vaectl.base.errors import UsageError
from vaectl.base.shapes import Shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from vaectl.base.arrays import Array


class Random(Protocol):
    """A source of random arrays, NumPy's or torch's."""

    def normal(self, shape: Shape) -> Any:
        """Samples of N(0, 1)."""

    def uniform(self, shape: Shape) -> Any:
        """Samples of U[0, 1)."""

    def integers(self, high: int, shape: Shape) -> Any:
        """Integers in [0, high)."""

    def poisson(self, rate: Any) -> Any:
        """Samples of a Poisson distribution, of the shape of their rates."""

    def constant(self, array: NDArray[Any]) -> Any:
        """A constant as an array of the same kind."""

    def on_numpy(self, function: Callable[..., Array], clean: Any, *others: Any) -> Any:
        """What a function of NumPy arrays returns, as an array of the same kind."""


class NumpyRandom:
    """Random NumPy arrays."""

    def __init__(self, seed: int | tuple[int, ...]) -> None:
        import numpy as np

        self.rng = np.random.default_rng(seed)

    def normal(self, shape: Shape) -> NDArray[np.float32]:
        return self.rng.standard_normal(shape, "float32")

    def uniform(self, shape: Shape) -> NDArray[np.float32]:
        return self.rng.random(shape, "float32")

    def integers(self, high: int, shape: Shape) -> NDArray[np.int64]:
        return self.rng.integers(high, size=shape)

    def poisson(self, rate: Array) -> Array:
        return self.rng.poisson(rate).astype("float32")

    def constant(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def on_numpy(self, function: Callable[..., Array], clean: Array, *others: Any) -> Array:
        return function(clean, *others)


Corruption = Callable[[Any, Random], Any]
ReadImage = Callable[[str], "Image.Image"]


@dataclass(frozen=True)
class Strength:
    """How strong a corruption is: a number drawn uniformly between `low` and `high` for each image."""

    low: float
    high: float

    def sample(self, clean: Any, random: Random) -> Any:
        """The strength for images (N, H, W, C): one number if there is no choice, else (N, 1, 1, 1)."""
        if self.low == self.high:
            return self.low
        return self.low + (self.high - self.low) * random.uniform((len(clean), 1, 1, 1))


@dataclass(frozen=True)
class GaussianNoise:
    """White Gaussian noise on every value, clipped to [0, 1]; its strength is sigma."""

    strength: Strength

    def __call__(self, clean: Any, random: Random) -> Any:
        noise = share_channels(random.normal(tuple(clean.shape)), clean)
        return (clean + self.strength.sample(clean, random) * noise).clip(0, 1)


@dataclass(frozen=True)
class PoissonNoise:
    """Shot noise, clipped to [0, 1]; its strength is the peak: the mean number of photons where a value is 1.

    In a range, the noise of a value of 1, 1 / sqrt(peak), is uniform; uniform peaks would hardly ever be low.
    """

    strength: Strength

    def __call__(self, clean: Any, random: Random) -> Any:
        noise = Strength(self.strength.high**-0.5, self.strength.low**-0.5).sample(clean, random)
        photons = share_channels(random.poisson(clean / noise**2), clean)
        return (photons * noise**2).clip(0, 1)


def share_channels(noise: Any, clean: Any) -> Any:
    """The noise, with the same values in all channels of an image that is gray: gray photos have gray noise."""
    if clean.shape[3] == 1:
        return noise
    in_color = ((clean - clean[..., :1]) ** 2).reshape(len(clean), -1).sum(1)[:, None, None, None] > 0
    return noise * in_color + noise[..., :1] * ~in_color


@dataclass(frozen=True)
class Mask:
    """Pixels set to black, each with the given probability, in all channels."""

    strength: Strength

    def __call__(self, clean: Any, random: Random) -> Any:
        return clean * (random.uniform((*clean.shape[:3], 1)) >= self.strength.sample(clean, random))


@dataclass(frozen=True)
class SaltAndPepper:
    """Pixels set to black or white, equally often, each with the given probability, in all channels."""

    strength: Strength

    def __call__(self, clean: Any, random: Random) -> Any:
        u, probability = random.uniform((*clean.shape[:3], 1)), self.strength.sample(clean, random)
        pepper, salt = u < probability / 2, (u >= probability / 2) & (u < probability)
        return clean * ~(pepper | salt) + salt


@dataclass(frozen=True)
class GaussianBlur:
    """A Gaussian blur whose strength is sigma in pixels; the edge is repeated beyond the image."""

    strength: Strength

    def __call__(self, clean: Any, random: Random) -> Any:
        sigma = self.strength.sample(clean, random) + 0 * clean[:, :1, :1, :1]
        return random.on_numpy(blur, clean, sigma)


def blur(clean: Array, sigma: Array) -> Array:
    """Images (N, H, W, C) after a Gaussian blur whose sigma, (N, 1, 1, 1), is that of each."""
    import numpy as np

    radius = ceil(3 * sigma.max())
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)  # (N, 1, 1, offsets)
    weights = (weights / weights.sum(-1, keepdims=True)).astype(np.float32)
    for axis in (1, 2):
        padded = np.pad(clean, [(radius, radius) if axis == padded_axis else (0, 0) for padded_axis in range(4)], mode="edge")
        size = clean.shape[axis]
        parts = (
            padded[:, start : start + size] if axis == 1 else padded[:, :, start : start + size]
            for start in range(2 * radius + 1)
        )
        clean = sum(weights[..., index : index + 1] * part for index, part in enumerate(parts))
    return clean


@dataclass(frozen=True)
class Jpeg:
    """Compression as JPEG with halved chroma; its strength is libjpeg's quality, 1 to 100.

    On crops of larger photos (`on_crops`) the blocks of 8 x 8 pixels begin anywhere.
    """

    strength: Strength
    on_crops: bool = False

    def __call__(self, clean: Any, random: Random) -> Any:
        quality = self.strength.sample(clean, random) + 0 * clean[:, :1, :1, :1]
        corners = random.integers(8 if self.on_crops else 1, (len(clean), 2))
        return random.on_numpy(compress_jpeg, clean, quality, corners)


def compress_jpeg(clean: Array, quality: Array, corners: NDArray[np.int64]) -> Array:
    """Images (N, H, W, C) after JPEG compression, whose first block begins up to 7 pixels above and left of each."""
    import numpy as np

    from vaectl.images import codecs

    result = np.empty_like(clean)
    for index, (top, left) in enumerate(corners.tolist()):
        padded = np.pad(clean[index], ((top, 0), (left, 0), (0, 0)), mode="edge")
        result[index] = codecs.compress_jpeg(padded, round(quality[index].item()))[top:, left:]
    return result


@dataclass(frozen=True)
class Camera:
    """A phone's photo in little light: shot noise and read noise in linear light, then a gamma of 2.2 and JPEG.

    Of each image, the peak is 50 to 5000 photons, the sigma of the read noise up to 0.01, and the quality 50 to 95.
    """

    on_crops: bool = False

    def __call__(self, clean: Any, random: Random) -> Any:
        linear = PoissonNoise(Strength(50, 5000))(clean**2.2, random)
        linear = GaussianNoise(Strength(0, 0.01))(linear, random)
        return Jpeg(Strength(50, 95), self.on_crops)(linear ** (1 / 2.2), random)


@dataclass(frozen=True)
class Sometimes:
    """Another corruption, which each image gets with the given probability."""

    corruption: Corruption
    probability: float

    def __call__(self, clean: Any, random: Random) -> Any:
        chosen = random.uniform((len(clean),)) < self.probability
        corrupted = clean + 0
        if chosen.any():
            corrupted[chosen] = self.corruption(clean[chosen], random)
        return corrupted


DEFAULT_TEXT = "vaectl"
# A watermark takes one of N_SCALES sizes: its longer side, relative to the largest that fits, or to its own on crops.
MIN_SCALE, N_SCALES = 0.4, 8
MIN_OPACITY = 0.4


@dataclass(frozen=True)
class Watermark:
    """An image laid over the clean one at a random position, size and opacity; its own alpha is respected.

    It is scaled to fit the image, or on crops of larger photos (`on_crops`) keeps its own size or a smaller one and may extend
    beyond the edge.
    """

    mark: Image.Image
    on_crops: bool = False

    def __call__(self, clean: Any, random: Random) -> Any:
        stamps, vertical, horizontal = self.render(tuple(clean.shape[1:]))
        scale = random.integers(N_SCALES, (len(clean),))
        rows, columns = vertical.sample(scale, random), horizontal.sample(scale, random)
        stamp = random.constant(stamps)[scale[:, None, None], rows[:, :, None], columns[:, None, :]]
        opacity = MIN_OPACITY + (1 - MIN_OPACITY) * random.uniform((len(clean), 1, 1, 1))
        return clean * (1 - opacity * stamp[..., -1:]) + opacity * stamp[..., :-1]

    @cached_property
    def render(self) -> Callable[[Shape], tuple[NDArray[np.float32], Positions, Positions]]:
        """`render_stamps` of this watermark, which remembers the last image shape."""
        return lru_cache(maxsize=1)(partial(render_stamps, self.mark, on_crops=self.on_crops))


class Positions:
    """Random positions of stamps of several lengths along one axis of an image; one that does not fit crosses the edge."""

    def __init__(self, size: int, lengths: NDArray[np.int64]) -> None:
        import numpy as np

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


def render_stamps(mark: Image.Image, image_shape: Shape, *, on_crops: bool) -> tuple[NDArray[np.float32], Positions, Positions]:
    """A watermark in N_SCALES sizes for images of `image_shape`, and its vertical and horizontal positions.

    Each stands in the upper left of a transparent canvas: premultiplied color, then alpha as the last channel.
    """
    import numpy as np

    from vaectl.images import resize

    height, width, channels = image_shape
    pixels = resize.premultiply(mark, channels)
    largest = 1.0 if on_crops else min(height / pixels.shape[0], width / pixels.shape[1])
    scales = np.linspace(MIN_SCALE, 1, N_SCALES) * largest
    sizes = np.maximum(1, np.rint(np.outer(scales, pixels.shape[:2]))).astype(np.int64)
    stamps = np.zeros((N_SCALES, *(sizes[-1] + 1), channels + 1), np.float32)
    for stamp, (rows, columns) in zip(stamps, sizes.tolist(), strict=True):
        stamp[:rows, :columns] = resize.resize_pixels(pixels, (rows, columns))
    return stamps, Positions(height, sizes[:, 0]), Positions(width, sizes[:, 1])


def apply_corruptions(corruptions: Sequence[Corruption], clean: Any, random: Random) -> Any:
    """Apply corruptions to images one after another."""
    corrupted = clean
    for corruption in corruptions:
        corrupted = corruption(corrupted, random)
    return corrupted


@dataclass(frozen=True)
class Kind:
    """A row of CORRUPTIONS.

    `argument` is what follows the colon of a spec: a strength between two bounds, "file", or None. `effect` says what the example
    does, for the documentation; `unit` explains it in the help. A class that `knows_crops` has the field `on_crops`.
    """

    make: Callable[..., Corruption]
    argument: Strength | Literal["file"] | None
    example: str
    effect: str
    unit: str = ""
    knows_crops: bool = False


CORRUPTIONS = {
    "gaussian": Kind(GaussianNoise, Strength(0, 1), "gaussian:0.25", "white Gaussian noise with sigma 0.25 on every value"),
    "poisson": Kind(
        PoissonNoise, Strength(0.1, 1_000_000), "poisson:30", "shot noise: a value of 1 is 30 photons on average", "photons"
    ),
    "mask": Kind(Mask, Strength(0, 1), "mask:0.3", "30 % of the pixels become black"),
    "salt-pepper": Kind(SaltAndPepper, Strength(0, 1), "salt-pepper:0.1", "10 % of the pixels become black or white"),
    "blur": Kind(GaussianBlur, Strength(0.1, 50), "blur:1.5", "Gaussian blur with a sigma of 1.5 pixels", "pixels"),
    "jpeg": Kind(
        Jpeg, Strength(1, 100), "jpeg:30", "JPEG of quality 30, with colors at half the resolution", "quality", knows_crops=True
    ),
    "watermark": Kind(
        Watermark,
        "file",
        "watermark:logo.png",
        "`logo.png`, or without a name a built-in text, over the image, at a random position, size and opacity",
        knows_crops=True,
    ),
    "camera": Kind(
        Camera,
        None,
        "camera",
        "a phone in low light: shot noise of 50 to 5,000 photons and read noise of up to 0.01 in linear light, a gamma of "
        "2.2, and JPEG of quality 50 to 95",
        "noise and JPEG as of a phone",
        knows_crops=True,
    ),
}
EXAMPLES = [kind.example for kind in CORRUPTIONS.values()]
SPECS_HELP = (
    ", ".join(f"{kind.example} ({kind.unit})" if kind.unit else kind.example for kind in CORRUPTIONS.values())
    + "; with a range such as gaussian:0-0.2, each image gets a strength from it; repeatable"
)
RANGE = re.compile(r"([\d.]+)(?:-([\d.]+))?")
PROBABILITY = re.compile(r"(.+)@(\d*\.?\d+)")


def parse_corruptions(specs: Sequence[str], read_image: ReadImage, *, on_crops: bool = False) -> tuple[Corruption, ...]:
    """Parse specs, such as those in EXAMPLES, in the order in which they are applied; a strength may be a range `LOW-HIGH`.

    `@P` after a spec applies it to each image with probability P. `read_image` reads the file of a watermark. `on_crops` is for
    images that are crops of larger photos, as `Watermark` and `Jpeg` say.

    Raises:
        UsageError: an unknown name, or a strength or a probability out of range.
        VaectlError: a watermark that cannot be read.
    """
    return tuple(parse_corruption(spec, read_image, on_crops) for spec in specs)


def parse_corruption(spec: str, read_image: ReadImage, on_crops: bool) -> Corruption:
    """Parse one spec."""
    found = PROBABILITY.fullmatch(spec)
    if found:
        if not 0 < float(found[2]) <= 1:
            raise UsageError(f"{spec!r}: the probability after @ must be above 0 and at most 1, as in {found[1]}@0.5")
        return Sometimes(parse_corruption(found[1], read_image, on_crops), float(found[2]))
    name, _, value = spec.partition(":")
    if name not in CORRUPTIONS:
        raise unknown_corruption(spec, name)
    kind = CORRUPTIONS[name]
    options = {"on_crops": on_crops} if kind.knows_crops else {}
    if isinstance(kind.argument, Strength):
        return kind.make(parse_bounded(spec, kind, kind.argument), **options)
    if kind.argument == "file":
        return kind.make(read_image(value) if value else default_mark(), **options)
    if value:
        raise UsageError(f"{spec!r}: {name} takes no strength: use {kind.example}")
    return kind.make(**options)


def parse_bounded(spec: str, kind: Kind, bounds: Strength) -> Strength:
    """The strength in a spec; a UsageError if it is not within the bounds."""
    name, _, value = spec.partition(":")
    strength = parse_strength(value)
    if strength and strength.low > strength.high:
        raise UsageError(f"{spec!r} has its limits swapped: use {name}:{strength.high:g}-{strength.low:g}")
    if strength and bounds.high == 1 and 2 <= strength.high <= 255:
        raise UsageError(f"{spec!r}: strengths are between 0 and 1: {strength.high:g} of 255 is {name}:{strength.high / 255:.2g}")
    if not strength or not bounds.low <= strength.low <= strength.high <= bounds.high or not strength.high:
        limits = f"{bounds.low:g} to {bounds.high:g}" if bounds.low else f"a number up to {bounds.high:g}"
        raise UsageError(f"{spec!r}: {name} takes {limits}, as in {kind.example}, or a range LOW-HIGH")
    return strength


def default_mark() -> Image.Image:
    """The watermark where no file is named."""
    from vaectl.images.resize import render_text

    return render_text(DEFAULT_TEXT)


def unknown_corruption(spec: str, name: str) -> UsageError:
    """The error for an unknown corruption."""
    guesses = get_close_matches(name, CORRUPTIONS, 1)
    if guesses:
        return UsageError(f"{spec!r} is not a corruption: did you mean {spec.replace(name, guesses[0], 1)}?")
    return UsageError(f"{spec!r} is not a corruption: use {', '.join(EXAMPLES[:-1])} or {EXAMPLES[-1]}")


def complete_corruption(incomplete: str) -> list[str]:
    """The specs that begin so, for completion; where one names a file, those in its folder."""
    name, colon, start = incomplete.partition(":")
    if colon and name in CORRUPTIONS and CORRUPTIONS[name].argument == "file":
        folder, file = os.path.split(start)
        return [f"{name}:{os.path.join(folder, found)}" for found in sorted(os.listdir(folder or ".")) if found.startswith(file)]
    specs = [name if kind.argument == "file" else kind.example for name, kind in CORRUPTIONS.items()]
    return [spec for spec in specs if spec.startswith(incomplete)]


def noise_range(specs: Sequence[str]) -> Strength | None:
    """The weakest and the strongest sigma of the Gaussian noise in specs; None if there is none."""
    low = high = 0.0
    for spec in specs:
        name, _, value = spec.partition(":")
        strength = parse_strength(value.partition("@")[0]) if name == "gaussian" else None
        if strength:
            low += 0 if "@" in value else strength.low
            high = (high**2 + strength.high**2) ** 0.5
    return Strength(low, high) if high else None


def parse_strength(text: str) -> Strength | None:
    """The strength in "0.25" or "0.1-0.5"; None in anything else."""
    found = RANGE.fullmatch(text)
    try:
        return Strength(float(found[1]), float(found[2] or found[1])) if found else None
    except ValueError:  # two points
        return None
