"""Many pictures as one."""

from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

LONGEST_ROW = 20


def alike(pictures: Sequence[Array]) -> Array:
    """Pictures of any sizes as one array, (N, H, W, C): black and transparent beyond their edges, opaque without an alpha."""
    if len({picture.shape for picture in pictures}) == 1:
        return np.stack(pictures)
    height, width, channels = (max(picture.shape[axis] for picture in pictures) for axis in range(3))
    stack = np.zeros((len(pictures), height, width, channels), np.float32)
    for place, picture in zip(stack, pictures, strict=True):
        part = place[: picture.shape[0], : picture.shape[1]]
        part[..., : picture.shape[2]] = picture
        if picture.shape[2] < channels:
            part[..., picture.shape[2] :] = 1
    return stack


def sheet(pictures: Array, columns: int | None = None) -> Array:
    """Many pictures as one: row by row, in `columns`; one row up to 20 pictures, else near-square, where none are given."""
    count, height, width, channels = pictures.shape
    if columns is None:
        columns = count if count <= LONGEST_ROW else ceil(sqrt(count))
    rows = ceil(count / columns)
    padded = np.zeros((rows * columns, height, width, channels), np.float32)
    padded[:count] = pictures
    tiles = padded.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return tiles.reshape(rows * height, columns * width, channels)


def enlarge(pictures: Array, scale: int) -> Array:
    """Each pixel as a square of `scale` x `scale`."""
    return pictures.repeat(scale, axis=1).repeat(scale, axis=2)
