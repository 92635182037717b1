"""Pictures of Pillow's and pixels: float32 in [0, 1], (height, width, channels) with channels last."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from vaectl.errors import VaectlError
from vaectl.frame import Frame
from vaectl.io.arrays import refuse
from vaectl.layers import Shape

Array = NDArray[np.float32]

SMOOTH = Image.Resampling.LANCZOS
FILL: dict[str, Callable[[Image.Image, tuple[int, int], Image.Resampling], Image.Image]] = {
    "crop": ImageOps.fit,
    "pad": ImageOps.pad,
    "stretch": Image.Image.resize,
}
LUMINANCE = (0.299, 0.587, 0.114)  # as Pillow weighs red, green and blue


def is_grey(image: Image.Image) -> bool:
    """Whether the picture has no colours by its mode."""
    return image.mode in ("1", "L", "LA", "La")


def in_channels(pixels: Array, channels: int) -> Array:
    """Colours as grey or grey as colours, (H, W, channels)."""
    if pixels.shape[2] > channels:
        grey: Array = pixels @ np.array(LUMINANCE, np.float32)
        return grey[..., np.newaxis]
    return np.broadcast_to(pixels, (*pixels.shape[:2], channels))


def premultiplied(image: Image.Image, channels: int) -> Array:
    """The picture's colours times its alpha, and its alpha, as `channels` + 1 channels; opaque where it has none.

    Multiplied first, a transparent pixel's hidden colour does not bleed into its neighbours when the picture is resized.
    """
    alpha = np.asarray(image.convert("RGBA"), dtype=np.float32)[..., 3:] / 255
    colours = np.asarray(image.convert("L" if channels == 1 else "RGB"), dtype=np.float32) / 255
    return np.concatenate([colours.reshape(*colours.shape[:2], channels) * alpha, alpha], axis=2)


def resized(pixels: Array, size: tuple[int, int]) -> Array:
    """The picture, (H, W, any channels), at another height and width, resized smoothly."""
    height, width = size
    planes = (Image.fromarray(np.ascontiguousarray(plane)).resize((width, height), SMOOTH) for plane in np.moveaxis(pixels, 2, 0))
    return np.stack([np.asarray(plane) for plane in planes], axis=2).clip(0, 1)


def fit(image: Image.Image, frame: Frame) -> Array:
    """The picture, (H, W, C), at the size and with the channels of the frame, resized smoothly."""
    height, width, channels = frame.shape
    if image.mode != "F":
        image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = FILL[frame.fit](image, (width, height), SMOOTH)
    pixels = np.asarray(image, dtype=np.float32) / (1 if image.mode == "F" else 255)
    return np.broadcast_to(pixels.reshape(height, width, -1), frame.shape).clip(0, 1)


def to_image(pixels: Array) -> Image.Image:
    """One picture for Pillow, in mode L, LA, RGB or RGBA."""
    values = np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
    return Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)


def lettering(words: str) -> Image.Image:
    """White letters on a transparent ground."""
    font = ImageFont.load_default(64)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(words))
    image = Image.new("LA", (right - left, bottom - top), (255, 0))
    ImageDraw.Draw(image).text((-left, -top), words, (255, 255), font)
    return image


def stack_shape(found: Shape, picture: Shape, name: str) -> Shape:
    """The (N, H, W, C) that an array of shape `found` stands for, when the pictures are (H, W, C).

    One picture or many, flat or not, the channel axis left out or not where there is one channel.

    Raises:
        VaectlError: an array of pictures of another size.
    """
    ways = [picture, (prod(picture),)]
    if picture[2] == 1:
        ways.append(picture[:2])
    if found in ways:
        return (1, *picture)
    if found[1:] in ways and found:
        return (found[0], *picture)
    size = " x ".join(map(str, picture))
    raise VaectlError(f"{name} is an array of {found}: pictures of {size} are expected, as (N, {', '.join(map(str, picture))})")


def pixels(array: NDArray[Any], name: str, start: int = 0) -> Array:
    """The array as float32 in [0, 1]: whole numbers are divided by 255 (16-bit ones by 65535).

    Raises:
        VaectlError: values out of range, NaN or infinity; they are counted from row `start` of `name`.
    """
    if array.dtype == bool:
        return array.astype(np.float32)
    largest = 65535 if array.dtype == np.uint16 else 255 if array.dtype.kind in "iu" else 1
    inside = (array >= 0) & (array <= largest)  # NaN is not inside
    refuse(~inside, array, name, start, f"pixels are not in [0, {largest}]", "scale them first")
    return (array / np.float32(largest)).astype(np.float32)


def inverted(pixels: Array) -> Array:
    """White for black."""
    result: Array = 1 - pixels
    return result
