"""Pillow images and pixel arrays: float32 in [0, 1], (height, width, channels)."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vaectl.base.arrays import Array, UInt8Array, check_values
from vaectl.base.errors import VaectlError
from vaectl.images.aspect_ratio import FITS, Box

RESAMPLING = Image.Resampling.LANCZOS
LUMINANCE = (0.299, 0.587, 0.114)  # Pillow's weights of red, green and blue


@dataclass(frozen=True)
class ResizeSpec:
    """The image shape (H, W, C) a network takes, and how images of other sizes are fitted to it.

    `fit` is one of FITS.

    Raises:
        ValueError: another fit.
    """

    image_shape: tuple[int, ...]
    fit: str = "crop"

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ValueError(f"{self.fit!r} is not a way to fit images: use {', '.join(FITS)}")


def is_gray(image: Image.Image) -> bool:
    """Whether the image's mode has no color."""
    return image.mode in ("1", "L", "LA", "La")


def convert_mode(image: Image.Image, mode: str) -> Image.Image:
    """The image in a mode; Pillow would copy one that already is."""
    return image if image.mode == mode else image.convert(mode)


def convert_channels(pixels: Array, channels: int) -> Array:
    """Convert color to gray or gray to color: (..., C) to (..., channels)."""
    if pixels.shape[-1] > channels:
        gray: Array = pixels @ np.array(LUMINANCE, np.float32)
        return gray[..., np.newaxis]
    return pixels if pixels.shape[-1] == channels else np.repeat(pixels, channels, axis=-1)


def premultiply(image: Image.Image, channels: int) -> Array:
    """The image's colors times its alpha, and its alpha, as `channels` + 1 channels; opaque if it has no alpha.

    Premultiplied, the hidden color of a transparent pixel does not bleed into its neighbors when the image is resized.
    """
    alpha = np.asarray(image.convert("RGBA"), dtype=np.float32)[..., 3:] / 255
    colors = np.asarray(image.convert("L" if channels == 1 else "RGB"), dtype=np.float32) / 255
    return np.concatenate([colors.reshape(*colors.shape[:2], channels) * alpha, alpha], axis=2)


def resize_pixels(pixels: Array, size: tuple[int, int]) -> Array:
    """Resize an array (H, W, any number of channels) to the height and width in `size`."""
    height, width = size
    planes = (Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(pixels, 2, 0))
    return np.stack([np.asarray(plane.resize((width, height), RESAMPLING)) for plane in planes], axis=2).clip(0, 1)


def resize_image(image: Image.Image, spec: ResizeSpec, box: Box | None = None) -> NDArray[Any]:
    """Fit an image, or what is in its `box`, to the spec, (H, W, C): uint8, or float32 in [0, 1] for an image of mode F."""
    height, width, channels = spec.image_shape
    if image.mode != "F":
        image = convert_mode(image, "L" if channels == 1 else "RGB")
    box = box or (0, 0, *image.size)
    if box != (0, 0, width, height):
        image = resize_box(image, box, (width, height), spec.fit)
    pixels = np.asarray(image).reshape(height, width, -1)
    return np.broadcast_to(pixels.clip(0, 1) if image.mode == "F" else pixels, spec.image_shape)


def resize_box(image: Image.Image, box: Box, size: tuple[int, int], fit: str) -> Image.Image:
    """What is in the box, which begins at 0, fitted to a width and height; what it does not cover is black."""
    box, (width, height) = FITS[fit](box, size)
    resized = image.resize((width, height), RESAMPLING, box)
    if resized.size == size:
        return resized
    canvas = Image.new(image.mode, size)
    canvas.paste(resized, (round((size[0] - width) * 0.5), round((size[1] - height) * 0.5)))
    return canvas


def to_uint8(pixels: NDArray[Any], name: str = "images", start: int = 0) -> UInt8Array:
    """Pixels of any number type as uint8; `start` is the index in `name` of the first row, for errors.

    Raises:
        VaectlError: as `to_pixels`.
    """
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    return np.rint(to_pixels(pixels, name, start) * 255).astype(np.uint8)


def to_pixels(array: NDArray[Any], name: str = "images", start: int = 0) -> Array:
    """The array as float32 in [0, 1]; integers are divided by 255 (16-bit ones by 65535).

    Raises:
        VaectlError: values out of range, NaN or infinite; indices count from row `start` of `name`.
    """
    if array.dtype == bool:
        return array.astype(np.float32)
    if array.dtype == np.uint8:
        pixels: Array = np.divide(array, 255, dtype=np.float32)
        return pixels
    largest = 65535 if array.dtype == np.uint16 else 255 if array.dtype.kind in "iu" else 1
    inside = (array >= 0) & (array <= largest)  # False for NaN
    advice = "divide them by 255, or make them uint8" if largest == 1 else "scale them first"
    check_values(~inside, array, name, start, f"pixels are not in [0, {largest}]", advice)
    return (array / np.float32(largest)).astype(np.float32)


def to_pil(pixels: Array) -> Image.Image:
    """One image (H, W, C) in [0, 1] for Pillow, in mode L, LA, RGB or RGBA."""
    return from_uint8(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8))


def from_uint8(pixels: UInt8Array) -> Image.Image:
    """One image (H, W, C), 0 to 255, for Pillow."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def render_text(text: str) -> Image.Image:
    """White letters on a transparent background."""
    font = ImageFont.load_default(64)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    image = Image.new("LA", (right - left, bottom - top), (255, 0))
    ImageDraw.Draw(image).text((-left, -top), text, (255, 255), font)
    return image


def stack_shape(found: tuple[int, ...], image_shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """The shape (N, H, W, C) that an array of shape `found` stands for.

    It may hold one image or many, flattened or not, without a channel axis if there is one channel.

    Raises:
        VaectlError: images of another size.
    """
    accepted = [image_shape, (prod(image_shape),)]
    if image_shape[2] == 1:
        accepted.append(image_shape[:2])
    if found in accepted:
        return (1, *image_shape)
    if found and found[1:] in accepted:
        return (found[0], *image_shape)
    expected = f"(N, {', '.join(map(str, image_shape))})"
    raise VaectlError(f"{name} is an array of shape {found}: images of shape {expected}, channels last, are expected")


def photo_stack_shape(found: tuple[int, ...], channels: int, name: str) -> tuple[int, ...]:
    """The shape (N, H, W, C) that an array of shape `found` stands for: one image or many, of any size, gray or of `channels`.

    Gray ones need no channel axis. Where color is expected, only a single one can do without: (3, H, W) may be one color image
    with channels first.

    Raises:
        VaectlError: another number of axes or channels, or no pixels.
    """
    without_axis = len(found) == 2 or (channels == 1 and found[-1:] != (1,))
    full = (*found, 1) if without_axis else found
    full = (1, *full) if len(full) == 3 else full
    if len(full) != 4 or full[-1] not in (1, channels) or not prod(full):
        gray = ", or gray ones of (N, height, width, 1)," if channels > 1 else ","
        expected = f"images of shape (N, height, width, {channels}), channels last{gray} are expected"
        raise VaectlError(f"{name} is an array of shape {found}: {expected}")
    return full


def invert(pixels: Array, channels: int | None = None) -> Array:
    """Swap black and white, in the first `channels` if others, such as alpha, follow."""
    result: Array = 1 - pixels
    if channels is not None:
        result[..., channels:] = pixels[..., channels:]
    return result
