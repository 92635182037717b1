"""How noisy a photo is, told from the photo alone, and which weights of a denoiser suit such noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from vaectl.types import Array

T = TypeVar("T")

MAX_BLOCKS = 1 << 18  # a few hundred thousand are as good as millions
NORMAL_MEDIAN = 0.6745  # of the absolute value of N(0, 1)


@dataclass(frozen=True)
class Expert:
    """Weights of a denoiser for photos with noise between two strengths, as `estimate_white_sigma` tells it.

    Raises:
        ValueError: strengths that are not increasing numbers in [0, 1].
    """

    low: float
    high: float
    weights: Mapping[str, Array]

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"an expert for noise of {self.low} to {self.high}, which is no range in [0, 1]")


def choose_expert(photo: Array, default: T, experts: Sequence[tuple[Expert, T]]) -> T:
    """What goes with the first expert in the noise of a photo, (H, W, C) in [0, 1]; the default if there is no such expert."""
    sigma = estimate_white_sigma(photo) if experts else 0.0
    return next((found for expert, found in experts if expert.low <= sigma <= expert.high), default)


def estimate_sigma(pixels: Array) -> float:
    """The sigma of white Gaussian noise in an image, (H, W, C) in [0, 1].

    The median of the finest diagonal Haar coefficients, which edges hardly move (Donoho & Johnstone 1994, section 4.2); fine
    texture counts as noise. An image of fewer than 2 x 2 pixels has none.
    """
    height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
    step = 2 * max(1, height * width // 4 // MAX_BLOCKS)
    top, bottom = pixels[:height:step, :width], pixels[1:height:step, :width]
    diagonal = (top[:, ::2] - top[:, 1::2] - bottom[:, ::2] + bottom[:, 1::2]) / 2
    return float(np.median(np.abs(diagonal))) / NORMAL_MEDIAN if diagonal.size else 0.0


def estimate_white_sigma(photo: Array) -> float:
    """The sigma of noise that differs from channel to channel, in a photo (H, W, C) in [0, 1]; in a gray one, of all noise.

    It is estimated from the differences of channels. Texture is the same in all of them, and so is what JPEG leaves of noise,
    since it halves the resolution of colors: neither counts.
    """
    differences = np.diff(photo, axis=2)
    return estimate_sigma(differences) / 2**0.5 if differences.any() else estimate_sigma(photo)
