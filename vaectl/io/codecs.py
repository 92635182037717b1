"""Image files to pixels and back, with Pillow and imagecodecs; damaged and oversized files are refused."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from glob import glob
from io import BytesIO
from math import ceil, prod
from typing import Any

import numpy as np
import PIL
from PIL import ExifTags, Image, ImageOps

from vaectl.errors import VaectlError, warn
from vaectl.io import streams
from vaectl.io.files import READABLE_FORMATS, PeekableReader
from vaectl.io.images import ResizeSpec, convert_channels, is_gray, to_pil
from vaectl.types import Array

# Pillow logs details of damaged files; users get one error instead.
logging.getLogger("PIL").addHandler(logging.NullHandler())

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
PILLOW_FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "apng": "PNG"}
DEEP_MODES = ("I", "F")  # more than 8 bits
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_MULTICHANNEL = (2, 4, 6)  # color types RGB, gray with alpha, RGBA
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
DRAFT_SCALE = 2  # decoding a JPEG at this multiple of the target size loses nothing visible
MAX_PIXELS = 89_478_485  # where Pillow itself warns: 256 MB at 24 bits
# Above this size, so high a compression ratio means a decompression bomb (about 1000); scanned pages come near it.
MIN_BOMB_BYTES, MAX_COMPRESSION_RATIO = 1 << 26, 500


def decode_image(data: bytes, name: str, spec: ResizeSpec | None = None) -> Image.Image:
    """Decode an image as viewers show it: upright, transparency on black, in mode L, RGB or F.

    16-bit gray and floating-point images keep their depth (mode F, in [0, 1]). With a `spec`, a JPEG much larger than it is
    decoded at a half, a quarter or an eighth of its size, but at least at twice the target size.

    Raises:
        VaectlError: as `open_image`.
    """
    return flatten(open_image(data, name, spec), name)


def flatten(image: Image.Image, name: str = "the image") -> Image.Image:
    """Convert an image of any mode to L, RGB or F, as `decode_image`."""
    if image.mode.startswith(DEEP_MODES):
        return Image.fromarray(deep_values(image, name))
    mode = "L" if is_gray(image) else "RGB"
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return image.convert(mode)


def decode_photo(data: bytes, name: str, channels: int) -> tuple[Array, int]:
    """Decode an image at its own size, upright: pixels (H, W, channels), plus one for alpha if any; and its bits, 8 or 16.

    Raises:
        VaectlError: as `open_image`.
    """
    image = open_image(data, name)
    if data[:8] == PNG_SIGNATURE and data[24] == 16 and data[25] in PNG_MULTICHANNEL and not is_rotated(data):
        from imagecodecs import png_decode  # Pillow reduces it to 8 bits

        with translate_decoder_errors(name):
            values = png_decode(data)
    elif image.mode.startswith(DEEP_MODES):
        values = np.rint(deep_values(image, name) * 65535).astype(np.uint16)[..., np.newaxis]
    else:
        mode = ("L" if is_gray(image) else "RGB") + ("A" if image.has_transparency_data else "")
        values = np.asarray(image.convert(mode))
    largest = np.float32(65535 if values.dtype == np.uint16 else 255)
    pixels: Array = np.divide(values.reshape(*values.shape[:2], -1), largest, dtype=np.float32)
    colors = 1 if pixels.shape[2] < 3 else 3
    converted = convert_channels(pixels[..., :colors], channels)
    return np.concatenate([converted, pixels[..., colors:]], axis=2), values.dtype.itemsize * 8


def deep_values(image: Image.Image, name: str) -> Array:
    """The gray values, in [0, 1], of an integer image of up to 65535, or of a floating-point image.

    Raises:
        VaectlError: values out of range, or NaN.
    """
    largest = 1 if image.mode == "F" else 65535
    values: Array = np.asarray(image, np.float32) / np.float32(largest)
    if not ((values >= 0) & (values <= 1)).all():
        raise VaectlError(f"{name} has values that are not in [0, {largest}]", "scale them first, or remove it")
    return values


def orientation(image: Image.Image) -> Any:
    """The EXIF orientation: 1 (upright) to 8, or anything else if the tag is damaged."""
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def is_rotated(data: bytes) -> bool:
    """Whether EXIF says that the image must be rotated or mirrored."""
    with Image.open(BytesIO(data)) as image:
        return bool(orientation(image) != 1)


def open_image(data: bytes, name: str, spec: ResizeSpec | None = None) -> Image.Image:
    """Load an image in its own mode, made upright by its EXIF orientation.

    Raises:
        VaectlError: the data are damaged, too large, or not an image.
    """
    if data.startswith(PNG_SIGNATURE):  # Pillow accepts a PNG without its last rows
        streams.read_png(PeekableReader(BytesIO(data), name))
    with translate_decoder_errors(name):
        image = Image.open(BytesIO(data), formats=READABLE_FORMATS)
        if prod(image.size) > MAX_PIXELS:
            raise Image.DecompressionBombError
        if (size := unpacked_size(image)) > max(MIN_BOMB_BYTES, MAX_COMPRESSION_RATIO * len(data)):
            raise VaectlError(f"{name} looks like a decompression bomb ({size >> 20} MB unpacked)", "save it again, or smaller")
        if spec:
            height, width, channels = spec.image_shape
            scale = DRAFT_SCALE * max(height, width) / min(image.size)
            image.draft("L" if channels == 1 else None, (ceil(image.width * scale), ceil(image.height * scale)))
        if image.format == "TIFF":
            silence_libtiff()
        animated = getattr(image, "is_animated", False)
        image.load()
        upright = ImageOps.exif_transpose(image)
    if animated:
        warn(f"{name} is animated: only its first frame is read")
    return upright


@contextmanager
def translate_decoder_errors(name: str) -> Iterator[None]:
    """Turn whatever decoders raise into a VaectlError that names the image."""
    try:
        yield
    except VaectlError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise VaectlError(f"{name} has over {MAX_PIXELS} pixels", "make it smaller") from error
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


def peek_size(path: str) -> tuple[int, int, int] | None:
    """(height, width, channels) from the header of an image file, or None if it is damaged or not an image."""
    try:
        with Image.open(path, formats=READABLE_FORMATS) as image:
            height, width = image.size if orientation(image) in SIDEWAYS else image.size[::-1]
            return height, width, 1 if is_gray(image) or image.mode.startswith(DEEP_MODES) else 3
    except Exception:  # on damaged data, decoders may raise anything
        return None


def encode_image(pixels: Array, format: str, bits: int = 8) -> bytes:
    """Encode an image, (H, W, C), as png, jpg, webp, gif or apng; a last channel of 2 or 4 is alpha. 16 `bits` need png.

    Raises:
        VaectlError: the image is too large for the format.
    """
    if bits == 16 and format == "png":
        from imagecodecs import png_encode

        values = np.rint(pixels.clip(0, 1) * 65535).astype(np.uint16)
        return bytes(png_encode(values[..., 0] if values.shape[2] == 1 else values))
    options: dict[str, dict[str, Any]] = {"jpg": {"quality": 95, "subsampling": 0}, "webp": {"lossless": True}}
    image = to_pil(pixels)
    if format == "jpg" and image.mode in ("LA", "RGBA"):  # JPEG has no alpha
        image = image.convert(image.mode[:-1])
    return save_image(image, format, **options.get(format, {}))


def encode_animation(frames: Array, format: str, fps: float) -> bytes:
    """Encode frames, (N, H, W, C), as a looping gif, apng or webp.

    Raises:
        VaectlError: the frames are too large for the format.
    """
    options: dict[str, dict[str, Any]] = {"gif": {"disposal": 1}, "apng": {}, "webp": {"lossless": True}}
    first, *others = map(to_pil, frames)
    timing = {"save_all": True, "append_images": others, "duration": round(1000 / fps), "loop": 0}
    return save_image(first, format, **timing, **options[format])


def save_image(image: Image.Image, format: str, **options: Any) -> bytes:
    """Encode with Pillow; a VaectlError if the image is too large for the format."""
    buffer = BytesIO()
    try:
        image.save(buffer, PILLOW_FORMATS[format], **options)
    except (ValueError, OSError) as error:
        width, height = image.size
        raise VaectlError(f"an image of {width} x {height} is too large for {format}: choose another format") from error
    return buffer.getvalue()
