"""How noisy a photo is, told from the photo alone."""

import numpy as np

from vaectl.types import Array

MAX_BLOCKS = 1 << 18  # a few hundred thousand are as good as millions
NORMAL_MEDIAN = 0.6745  # of the absolute value of N(0, 1)


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
