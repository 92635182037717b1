"""How noisy a photo is, told from the photo alone, and which weights of a denoiser suit such noise."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from vaectl.base.arrays import Array

T = TypeVar("T")

MAX_BLOCKS = 1 << 18  # a few hundred thousand are as good as millions
NORMAL_MEDIAN = 0.6745  # of the absolute value of N(0, 1)
HAAR = np.array([1, -1], np.float32) / np.float32(2**0.5)
# The highest frequency in the blocks of JPEG, which JPEG makes 0 first.
HIGHEST_COSINE = np.cos(np.arange(1, 16, 2, dtype=np.float32) * np.float32(7 * np.pi / 16)) / 2
WHITE_SHARE = 0.7  # of noise, that must be left at that frequency


@dataclass(frozen=True)
class Expert:
    """Weights of a denoiser for photos with noise between two strengths, as `Noise.white_sigma` tells it.

    Raises:
        ValueError: strengths that are not increasing numbers in [0, 1].
    """

    low: float
    high: float
    weights: Mapping[str, Array]

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"an expert for noise of {self.low} to {self.high}, which is no range in [0, 1]")

    def suits(self, sigma: float) -> bool:
        """Whether it is for this strength."""
        return self.low <= sigma <= self.high


def choose_expert(sigma: float, default: T, experts: Iterable[tuple[Expert, T]]) -> T:
    """What goes with the first expert for noise of this strength; the default if there is no such expert."""
    return next((found for expert, found in experts if expert.suits(sigma)), default)


@dataclass(frozen=True)
class Noise:
    """The noise of a photo, (H, W, C) in [0, 1]; each figure is estimated once, when it is asked for."""

    photo: Array

    @cached_property
    def sigma(self) -> float:
        """The sigma of all its noise, as `estimate_sigma`."""
        return estimate_sigma(self.photo)

    @cached_property
    def white_sigma(self) -> float:
        """The sigma of white noise that differs from channel to channel; in a gray photo, of all noise.

        It is estimated from the differences of channels, because texture is the same in all of them. Noise that has been through
        JPEG is not white, and counts as 0: little of it is left in the highest frequency of JPEG's blocks, or in the differences,
        if JPEG halved the resolution of colors.
        """
        differences = np.diff(self.photo, axis=2)
        is_gray = not differences.any()
        signal = self.photo if is_gray else differences / np.float32(2**0.5)
        fine = self.sigma if is_gray else estimate_sigma(signal)
        highest = estimate_sigma(signal, HIGHEST_COSINE)
        return min(fine, highest) if highest > WHITE_SHARE * fine else 0.0


def estimate_sigma(pixels: Array, kernel: Array = HAAR) -> float:
    """The sigma of white Gaussian noise in an image, (H, W, C) in [0, 1].

    The median of the finest diagonal Haar coefficients, which edges hardly move (Donoho & Johnstone 1994, section 4.2), or of
    those of another separable kernel; fine texture counts as noise. An image smaller than the kernel has none.
    """
    size = len(kernel)
    (height, width), channels = (side // size for side in pixels.shape[:2]), pixels.shape[2]
    step = max(1, height * width // MAX_BLOCKS)
    rows = pixels[: height * size].reshape(height, size, *pixels.shape[1:])[::step, :, : width * size]
    blocks = rows.reshape(len(rows), size, width, size, channels)
    coefficients = np.einsum("nrmsc,r,s->nmc", blocks, kernel, kernel, optimize=True)
    return float(np.median(np.abs(coefficients))) / NORMAL_MEDIAN if coefficients.size else 0.0
