"""Several images arranged as one."""

from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np

from vaectl.base.arrays import Array
from vaectl.base.errors import VaectlError
from vaectl.images.formats import MAX_PIXELS

MAX_ROW_IMAGES = 20


def pad_to_common_size(images: Sequence[Array]) -> Array:
    """Stack images of any sizes, (N, H, W, C), padded with transparent black; images without alpha become opaque."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    height, width, channels = (max(image.shape[axis] for image in images) for axis in range(3))
    stack = np.zeros((len(images), height, width, channels), np.float32)
    for padded, image in zip(stack, images, strict=True):
        area = padded[: image.shape[0], : image.shape[1]]
        area[..., : image.shape[2]] = image
        area[..., image.shape[2] :] = 1
    return stack


def check_size(count: int, height: int, width: int) -> None:
    """Raise a VaectlError if `count` images of a height and width are too large to be written as one."""
    if count * height * width > MAX_PIXELS:
        what = f"{count} images of up to {width} x {height} pixels are too large for one image or animation"
        raise VaectlError(what, "write each to a file of its own (-o DIR/), or lower --scale")


def default_columns(count: int) -> int:
    """The columns of a sheet: one row of up to 20 images, else near-square."""
    return count if count <= MAX_ROW_IMAGES else ceil(sqrt(count))


def make_sheet(images: Array, columns: int | None = None) -> Array:
    """Arrange images, (N, H, W, C), row by row in `columns`."""
    count, height, width, channels = images.shape
    if count == 1 and not columns:
        only: Array = images[0]
        return only
    columns = columns or default_columns(count)
    rows = ceil(count / columns)
    padded = np.zeros((rows * columns, height, width, channels), np.float32)
    padded[:count] = images
    tiles = padded.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return tiles.reshape(rows * height, columns * width, channels)


def upscale(images: Array, factor: int) -> Array:
    """Repeat each pixel of (N, H, W, C) as a square of `factor` x `factor`.

    Raises:
        VaectlError: the result would be too large.
    """
    count, height, width, _ = images.shape
    check_size(count, height * factor, width * factor)
    return images.repeat(factor, axis=1).repeat(factor, axis=2)
