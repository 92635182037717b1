"""How images of another aspect ratio are fitted to a size: one function each, and their table.

To add one, write its function, its name in `Fit` and its row in FITS; the page has a map of its own, in `assets/resize.js`.
"""

from collections.abc import Callable
from typing import Literal

Box = tuple[float, float, float, float]  # left, upper, right, lower
Size = tuple[int, int]  # width, height
Fit = Literal["crop", "pad", "stretch"]


def crop(box: Box, size: Size) -> tuple[Box, Size]:
    """The largest centered part of the right aspect ratio."""
    (_, _, width, height), ratio = box, size[0] / size[1]
    if width / height > ratio:
        left = (width - ratio * height) * 0.5
        box = (left, 0, left + ratio * height, height)
    elif width / height < ratio:
        top = (height - width / ratio) * 0.5
        box = (0, top, width, top + width / ratio)
    return box, size


def pad(box: Box, size: Size) -> tuple[Box, Size]:
    """The whole image between black bars."""
    (_, _, width, height), (new_width, new_height) = box, size
    inner_width = min(new_width, max(1, round(width / height * new_height)))
    inner_height = min(new_height, max(1, round(height / width * new_width)))
    return box, (inner_width, inner_height)


def stretch(box: Box, size: Size) -> tuple[Box, Size]:
    """The whole image, aspect ratio ignored."""
    return box, size


# Each takes the box of an image, which begins at 0, and the new size: the part to resize, and the size that part takes.
FITS: dict[str, Callable[[Box, Size], tuple[Box, Size]]] = {"crop": crop, "pad": pad, "stretch": stretch}
