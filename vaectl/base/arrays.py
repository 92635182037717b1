"""The arrays that flow between all modules, and checks of their values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaectl.base.errors import VaectlError

# Images (N, H, W, C) in [0, 1], latents (N, D), and weights.
Array = NDArray[np.float32]
# Stored images, 0 to 255.
UInt8Array = NDArray[np.uint8]

# The smallest positive normal and the largest float32, as Python floats.
MIN_FLOAT32, MAX_FLOAT32 = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def to_finite(array: NDArray[Any], name: str, start: int = 0) -> Array:
    """Convert to float32; `start` is the index of the first row, for errors.

    Raises:
        VaectlError: NaN, infinity, or a value outside the range of float32.
    """
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    check_values(~np.isfinite(values), values, name, start, "values are NaN or infinite", "check how it was made")
    return values


def check_values(wrong: NDArray[np.bool_], array: NDArray[Any], name: str, start: int, what: str, advice: str) -> None:
    """Raise a VaectlError that counts the wrong values and shows the first, if there are any."""
    if wrong.any():
        first = tuple(np.argwhere(wrong)[0].tolist())
        index = [start + first[0], *first[1:]]
        raise VaectlError(f"{name}: {int(wrong.sum())} {what}, the first at {index} ({array[first]}): {advice}")
