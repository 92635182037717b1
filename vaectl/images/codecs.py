"""Image files to pixels and back, with Pillow and imagecodecs; damaged and oversized files are refused."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from glob import glob
from io import BytesIO
from math import ceil, prod
from typing import Any, BinaryIO

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from vaectl.base.arrays import Array
from vaectl.base.errors import VaectlError, warn
from vaectl.images import high_depth
from vaectl.images.aspect_ratio import Box
from vaectl.images.formats import BY_NAME, MAX_PIXELS, READABLE_FORMATS
from vaectl.images.metadata import Metadata, read_metadata, save_options
from vaectl.images.resize import ResizeSpec, convert_channels, convert_mode, is_gray, resize_image, to_pil, to_pixels

# Pillow logs details of damaged files; users get one error instead.
logging.getLogger("PIL").addHandler(logging.NullHandler())

DEEP_MODES = ("I", "F")  # more than 8 bits
# What makes an array upright, by EXIF orientation.
TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: np.rot90,
}
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
DRAFT_SCALE = 2  # decoding a JPEG at this multiple of the target size loses nothing visible
# Above this size, so high a compression ratio means a decompression bomb (about 1000); scanned pages come near it.
MIN_BOMB_BYTES, MAX_COMPRESSION_RATIO = 1 << 26, 500


def decode_image(data: bytes, name: str) -> Image.Image:
    """Decode an image as viewers show it: upright, transparency on black, in mode L, RGB or F.

    16-bit gray and floating-point images keep their depth (mode F, in [0, 1]).

    Raises:
        VaectlError: as `open_image`.
    """
    with translate_decoder_errors(name):
        return flatten(open_image(data, name)[0], name)


def decode_resized(data: bytes, name: str, spec: ResizeSpec, *, keep_size: bool = False) -> NDArray[Any]:
    """Decode an image and fit it to the spec, or with `keep_size` only to its channels: (H, W, C), as `resize_image`.

    A JPEG much larger than the spec is decoded at a half, a quarter or an eighth of its size, but at least at twice the target.

    Raises:
        VaectlError: as `open_image`.
    """
    with translate_decoder_errors(name):
        image, box = open_image(data, name, None if keep_size else spec)
        if keep_size:
            spec = ResizeSpec((image.height, image.width, spec.image_shape[2]))
        return resize_image(flatten(image, name), spec, box)


def flatten(image: Image.Image, name: str = "the image") -> Image.Image:
    """Convert an image of any mode to L, RGB or F, as `decode_image`."""
    if image.mode.startswith(DEEP_MODES):
        return Image.fromarray(np.where(opaque(image), deep_values(image, name), 0))
    mode = "L" if is_gray(image) else "RGB"
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        black.alpha_composite(convert_mode(image, "RGBA"))
        image = black
    return convert_mode(image, mode)


def decode_photo(data: bytes, name: str, channels: int) -> tuple[Array, Metadata]:
    """Decode an image at its own size, upright: pixels (H, W, channels), plus one for alpha if any; and its metadata.

    Raises:
        VaectlError: as `open_image`.
    """
    with translate_decoder_errors(name):
        header = open_header(data, name)
        metadata = read_metadata(header)
        if high_depth.is_deep(header, data):
            turn = TURNS.get(orientation(header), np.asarray)
            values: NDArray[Any] = turn(high_depth.decode(data, header.format))
        elif (image := load_upright(header, data)).mode.startswith(DEEP_MODES):
            values = np.rint(deep_values(image, name) * 65535).astype(np.uint16)[..., np.newaxis]
        else:
            mode = ("L" if is_gray(image) else "RGB") + ("A" if image.has_transparency_data else "")
            values = np.asarray(convert_mode(image, mode))
        warn_of_frames(header, name)
    largest = np.float32(65535 if values.dtype == np.uint16 else 255)
    pixels: Array = np.divide(values.reshape(*values.shape[:2], -1), largest, dtype=np.float32)
    colors = 1 if pixels.shape[2] < 3 else 3
    converted = convert_channels(pixels[..., :colors], channels)
    metadata = replace(metadata, bits=values.dtype.itemsize * 8, gray=colors == 1)
    return np.concatenate([converted, pixels[..., colors:]], axis=2), metadata


def deep_values(image: Image.Image, name: str) -> Array:
    """The gray values, in [0, 1], of an integer image of up to 65535, or of a floating-point image.

    Raises:
        VaectlError: values out of range, or NaN.
    """
    largest = 1 if image.mode == "F" else 65535
    with np.errstate(invalid="ignore"):  # NaN is refused below
        values: Array = np.asarray(image, np.float32) / np.float32(largest)
    if not ((values >= 0) & (values <= 1)).all():
        raise VaectlError(f"{name} has values that are not in [0, {largest}]", "scale its values, or remove the file")
    return values


def opaque(image: Image.Image) -> NDArray[np.bool_]:
    """Which pixels of a deep image are not of its transparent gray value, if it has one."""
    visible: NDArray[np.bool_] = np.asarray(image) != image.info.get("transparency", -1)
    return visible


def orientation(image: Image.Image) -> Any:
    """The EXIF orientation: 1 (upright) to 8, or anything else if the tag is damaged."""
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def open_image(data: bytes, name: str, spec: ResizeSpec | None = None) -> tuple[Image.Image, Box | None]:
    """Load an image in a mode that Pillow converts, made upright by its EXIF orientation.

    The box is where the image is in a reduced JPEG, whose last row and column may be fractions of a pixel.

    Raises:
        VaectlError: the data are damaged, too large, or not an image.
    """
    with translate_decoder_errors(name):
        image = open_header(data, name)
        box = reduce_jpeg(image, spec) if spec and orientation(image) == 1 else None
        upright = load_upright(image, data)
        warn_of_frames(image, name)
    return upright, box


def open_header(data: bytes, name: str) -> Image.Image:
    """Read the header of an image, whose pixels are not decoded yet.

    Raises:
        VaectlError: the image is too large.
    """
    image = Image.open(BytesIO(data), formats=READABLE_FORMATS)
    if prod(image.size) > MAX_PIXELS:
        raise Image.DecompressionBombError
    if (size := unpacked_size(image)) > max(MIN_BOMB_BYTES, MAX_COMPRESSION_RATIO * len(data)):
        raise VaectlError(f"{name} looks like a decompression bomb ({size >> 20} MB unpacked)", "save it again, or smaller")
    return image


def load_upright(image: Image.Image, data: bytes) -> Image.Image:
    """Decode the pixels of an image, in a mode that Pillow converts, and turn it by its EXIF orientation."""
    if image.format == "TIFF":
        silence_libtiff()
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return to_common_mode(image, data)


def warn_of_frames(image: Image.Image, name: str) -> None:
    """Warn if the image is not the only one of its file."""
    if getattr(image, "is_animated", False):
        is_stack = image.format in ("TIFF", "MPO")
        what = "holds several images: only the first is read" if is_stack else "is animated: only its first frame is read"
        warn(f"{name} {what}")


def reduce_jpeg(image: Image.Image, spec: ResizeSpec) -> Box | None:
    """Let a JPEG be decoded at a fraction of its size, but at least at DRAFT_SCALE times that of the spec."""
    height, width, channels = spec.image_shape
    scale = DRAFT_SCALE * max(height, width) / min(image.size)
    reduced = image.draft("L" if channels == 1 else None, (ceil(image.width * scale), ceil(image.height * scale)))
    return reduced[1] if reduced else None


def to_common_mode(image: Image.Image, data: bytes) -> Image.Image:
    """An image of a mode that converts to gray and color, with its transparent color as its decoder gives the pixels."""
    transparency = image.info.get("transparency")
    if image.format == "PNG" and transparency is not None:
        depth, color = data[24:26]
        if color == 0 and depth in (2, 4):  # Pillow scales the pixels, but not this
            image.info["transparency"] = transparency * 255 // (2**depth - 1)
        elif color == 2 and depth == 16:
            image.info["transparency"] = tuple(value >> 8 for value in transparency)
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = (ImageCms.createProfile(space) for space in ("LAB", "sRGB"))
        return ImageCms.buildTransform(lab, srgb, "LAB", "RGB").apply(image)
    if image.mode == "CMYK" and (profile := image.info.get("icc_profile")):
        return convert_cmyk(image, profile)
    return convert_mode(image, {"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode))


def convert_cmyk(image: Image.Image, profile: bytes) -> Image.Image:
    """A CMYK image in sRGB, by its color profile; a damaged profile, or one of another color space, is ignored."""
    from PIL import ImageCms

    try:
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(BytesIO(profile), srgb, "CMYK", "RGB").apply(image)
    except ImageCms.PyCMSError:
        return image


@contextmanager
def translate_decoder_errors(name: str) -> Iterator[None]:
    """Turn whatever decoders raise into a VaectlError that names the image."""
    try:
        yield
    except VaectlError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise VaectlError(f"{name} has more than {MAX_PIXELS} pixels", "make it smaller") from error
    except MemoryError as error:
        raise VaectlError(f"not enough memory to read {name}", "make it smaller or remove it") from error
    except Exception as error:  # on damaged data, decoders may raise anything
        raise VaectlError(f"{name} is damaged or not an image", "replace or remove it") from error


@cache
def silence_libtiff() -> None:
    """Stop libtiff from printing to stderr, which Pillow has no option for."""
    import ctypes
    import ctypes.util

    folder = os.path.dirname(PIL.__file__)
    bundled = [*glob(f"{folder}/../pillow.libs/libtiff*"), *glob(f"{folder}/.dylibs/libtiff*")]
    for path in bundled or filter(None, [ctypes.util.find_library("tiff")]):
        library = ctypes.CDLL(path)
        for setter in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)


def unpacked_size(image: Image.Image) -> int:
    """How many bytes the image takes in memory."""
    return prod(image.size) * len(image.getbands()) * (4 if image.mode in DEEP_MODES else 1)


def peek_size(path: str | BinaryIO) -> tuple[int, int, int] | None:
    """(height, width, channels) from the header of an image file, or None if it is damaged or not an image."""
    try:
        with Image.open(path, formats=READABLE_FORMATS) as image:
            height, width = image.size if orientation(image) in SIDEWAYS else image.size[::-1]
            return height, width, 1 if is_gray(image) or image.mode.startswith(DEEP_MODES) else 3
    except Exception:  # on damaged data, decoders may raise anything
        return None


def encode_image(pixels: Array, format: str, metadata: Metadata | None = None) -> bytes:
    """Encode an image, (H, W, C), in one of IMAGE_FORMATS; a last channel of 2 or 4 is alpha.

    Metadata that the format has no place for are left out, as are 16 bits; what came from a gray image becomes gray again.

    Raises:
        VaectlError: the image is too large for the format.
    """
    metadata = replace(metadata or Metadata(), format=format)
    if metadata.gray and pixels.shape[2] > 2:
        pixels = np.concatenate([pixels[..., :3].mean(axis=2, keepdims=True), pixels[..., 3:]], axis=2)
    image = to_pil(pixels)
    if not BY_NAME[format].has_alpha and image.mode in ("LA", "RGBA"):
        image = image.convert(image.mode[:-1])
    options = save_options(metadata, image.mode)
    if metadata.bits == BY_NAME[format].bits == 16:
        if format == "png":
            return high_depth.encode_png(pixels, save_image(image.crop((0, 0, 1, 1)), format, **options))
        return high_depth.encode_tiff(pixels, options)
    return save_image(image, format, **BY_NAME[format].save_options, **options)


def compress_jpeg(pixels: Array, quality: int) -> Array:
    """An image (H, W, C) after JPEG compression of this quality, with halved chroma."""
    with Image.open(BytesIO(save_image(to_pil(pixels), "jpg", quality=quality))) as image:
        return to_pixels(np.asarray(image)).reshape(pixels.shape)


def encode_animation(frames: Array, format: str, fps: float) -> bytes:
    """Encode frames, (N, H, W, C), as a looping animation in one of ANIMATED_FORMATS.

    Raises:
        VaectlError: the frames are too large for the format.
    """
    first, *others = map(to_pil, frames)
    timing: dict[str, Any] = {"save_all": True, "append_images": others, "duration": round(1000 / fps), "loop": 0}
    if format == "gif":
        timing["disposal"] = 1  # each frame stays until the next covers it
    return save_image(first, format, **timing, **BY_NAME[format].save_options)


def save_image(image: Image.Image, format: str, **options: Any) -> bytes:
    """Encode with Pillow; a VaectlError if the image is too large for the format."""
    buffer = BytesIO()
    try:
        image.save(buffer, BY_NAME[format].pillow, **options)
    except (ValueError, OSError) as error:
        width, height = image.size
        raise VaectlError(f"an image of {width} x {height} is too large for {format}: choose another format") from error
    return buffer.getvalue()
