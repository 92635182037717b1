"""Picture bytes to pictures and back: what Pillow and imagecodecs read and write, and what they are kept from."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from glob import glob
from io import BytesIO
from math import ceil, prod
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from vaectl.errors import Remark, VaectlError
from vaectl.frame import Frame
from vaectl.io import streams
from vaectl.io.files import PICTURES, Reader
from vaectl.io.pictures import Array, in_channels, is_grey, to_image

# What Pillow logs of damaged files is for programmers; ours is an error.
logging.getLogger("PIL").addHandler(logging.NullHandler())

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
DRAFT = 2  # at so many times the size that is wanted, decoding at a fraction is not to be seen any more
MOST_PIXELS = 89_478_485  # where Pillow itself begins to warn: 256 MB at 24 bits
# Of what is larger, so many bytes may come from one: scanned pages come near it, and bombs grow by a thousand.
SAFE_TO_UNPACK, MOST_UNPACKED = 1 << 26, 500
PILLOW_FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "apng": "PNG"}
DEEP = ("I", "F")  # modes of more than 8 bits
COLOURED = (2, 4, 6)  # kinds of PNG with colours, alpha or both
PNG = b"\x89PNG\r\n\x1a\n"
REPLACE = "replace it or leave it out"
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def decode(data: bytes, name: str, frame: Frame | None = None) -> Image.Image:
    """A picture as people see it: upright, transparent parts laid on black, in mode L, RGB or F.

    16-bit grey and floating-point pictures keep their depth (mode F, in [0, 1]). A JPEG that is to become much smaller, to fill
    a `frame`, is decoded at a half, a quarter or an eighth of its size, at least twice the frame's.

    Raises:
        VaectlError: as `opened`.
    """
    image = opened(data, name, frame)
    if image.mode.startswith(DEEP):
        return Image.fromarray(deep_values(image, name))
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image.convert("RGBA")).convert("L" if is_grey(image) else "RGB")
    return image.convert("L" if is_grey(image) else "RGB")


def photograph(data: bytes, name: str, channels: int) -> tuple[Array, int]:
    """A picture of its own size, upright, (H, W, C), with its alpha as one channel more; and its bits a value, 8 or 16.

    Raises:
        VaectlError: as `opened`.
    """
    image = opened(data, name)
    if data[:8] == PNG and data[24] == 16 and data[25] in COLOURED and not is_turned(data):
        values = sixteen_bits(data, name)  # which Pillow reads at 8 bits
    elif image.mode.startswith(DEEP):
        values = np.rint(deep_values(image, name) * 65535).astype(np.uint16)[..., np.newaxis]
    else:
        kind = ("L" if is_grey(image) else "RGB") + ("A" if image.has_transparency_data else "")
        values = np.asarray(image.convert(kind))
    largest = np.float32(65535 if values.dtype == np.uint16 else 255)
    pixels: Array = np.divide(values.reshape(*values.shape[:2], -1), largest, dtype=np.float32)
    alpha = 1 - pixels.shape[2] % 2
    colours = in_channels(pixels[..., : pixels.shape[2] - alpha], channels)
    return np.concatenate([colours, pixels[..., pixels.shape[2] - alpha :]], axis=2), values.dtype.itemsize * 8


def deep_values(image: Image.Image, name: str) -> Array:
    """The grey values, in [0, 1], of a picture of more than 8 bits: of whole numbers up to 65535, or of fractions.

    Raises:
        VaectlError: values beyond these, or NaN.
    """
    largest = 1 if image.mode == "F" else 65535
    values: Array = np.asarray(image, np.float32) / np.float32(largest)
    if not ((values >= 0) & (values <= 1)).all():
        raise VaectlError(f"{name} has values that are not in [0, {largest}]", "scale them first, or leave it out")
    return values


def is_turned(data: bytes) -> bool:
    """Whether a picture is to be turned or mirrored, by its EXIF note."""
    with Image.open(BytesIO(data)) as image:
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) != 1)


def sixteen_bits(data: bytes, name: str) -> NDArray[np.uint16]:
    """The values of a PNG of 16 bits, (H, W, C)."""
    from imagecodecs import png_decode

    with told(name):
        return png_decode(data)


def opened(data: bytes, name: str, frame: Frame | None = None) -> Image.Image:
    """A picture of any mode, upright by its EXIF note, all its pixels read.

    Raises:
        VaectlError: bytes that are damaged, too large, or no picture.
    """
    if data.startswith(PNG):  # whose last rows Pillow does not miss
        streams.read_png(Reader(BytesIO(data), name))
    with told(name):
        image = Image.open(BytesIO(data), formats=PICTURES)
        if prod(image.size) > MOST_PIXELS:
            raise Image.DecompressionBombError
        if unpacked(image) > max(SAFE_TO_UNPACK, MOST_UNPACKED * len(data)):
            raise VaectlError(
                f"{name} would unpack to {unpacked(image) >> 20} MB from next to nothing", "save it anew, or smaller"
            )
        if frame:
            scale = DRAFT * max(frame.shape[:2]) / min(image.size)
            image.draft("L" if frame.shape[2] == 1 else None, (ceil(image.width * scale), ceil(image.height * scale)))
        if image.format == "TIFF":
            hush_libtiff()
        animated = getattr(image, "is_animated", False)
        image.load()
        upright = ImageOps.exif_transpose(image)
    if animated:
        warnings.warn(f"{name} is animated: its first frame is taken", Remark, stacklevel=2)
    return upright


@contextmanager
def told(name: str) -> Iterator[None]:
    """Turns what decoders raise into errors that name the picture."""
    try:
        yield
    except VaectlError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise VaectlError(f"{name} has over {MOST_PIXELS} pixels", "make it smaller") from error
    except MemoryError as error:
        raise VaectlError(f"there is not enough memory to read {name}", "make it smaller or leave it out") from error
    except Exception as error:  # on damaged bytes decoders raise whatever they meet
        raise VaectlError(f"{name} is damaged or no picture", REPLACE) from error


@cache
def hush_libtiff() -> None:
    """Keep libtiff from writing on stderr what it thinks of a file; Pillow has no word for it."""
    import ctypes
    import ctypes.util

    folder = os.path.dirname(PIL.__file__)
    bundled = [*glob(f"{folder}/../pillow.libs/libtiff*"), *glob(f"{folder}/.dylibs/libtiff*")]
    for path in bundled or filter(None, [ctypes.util.find_library("tiff")]):
        library = ctypes.CDLL(path)
        for setter in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)


def unpacked(image: Image.Image) -> int:
    """How many bytes a picture takes in memory."""
    return prod(image.size) * len(image.getbands()) * (4 if image.mode in ("I", "F") else 1)


def glance(path: str) -> tuple[int, int, int] | None:
    """The height, width and channels of the picture in a file, by its first bytes; None where it is none or damaged."""
    try:
        with Image.open(path, formats=PICTURES) as image:
            sideways = image.getexif().get(ExifTags.Base.Orientation, 1) in SIDEWAYS
            channels = 1 if is_grey(image) or image.mode.startswith(DEEP) else 3
            return (image.width, image.height, channels) if sideways else (image.height, image.width, channels)
    except Exception:  # on damaged bytes Pillow raises whatever its decoders meet
        return None


def encode(pixels: Array, format: str, depth: int = 8) -> bytes:
    """One picture as png, jpg, webp, gif or apng bytes; a png may have 16 bits a value. A last channel of 2 or 4 is alpha.

    Raises:
        VaectlError: a picture larger than the format allows.
    """
    if depth == 16 and format == "png":
        from imagecodecs import png_encode

        values = np.rint(pixels.clip(0, 1) * 65535).astype(np.uint16)
        return bytes(png_encode(values[..., 0] if values.shape[2] == 1 else values))
    options: dict[str, dict[str, Any]] = {"jpg": {"quality": 95, "subsampling": 0}, "webp": {"lossless": True}}
    image = to_image(pixels)
    if format == "jpg" and image.mode in ("LA", "RGBA"):  # it knows no alpha
        image = image.convert(image.mode[:-1])
    return saved(image, format, **options.get(format, {}))


def animation(frames: Array, format: str, fps: float) -> bytes:
    """Pictures, (N, H, W, C), one after another and over again, as gif, apng or webp bytes.

    Raises:
        VaectlError: pictures larger than the format allows.
    """
    options: dict[str, dict[str, Any]] = {"gif": {"disposal": 1}, "apng": {}, "webp": {"lossless": True}}
    first, *others = map(to_image, frames)
    timing = {"save_all": True, "append_images": others, "duration": round(1000 / fps), "loop": 0}
    return saved(first, format, **timing, **options[format])


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    """The bytes of a file; a VaectlError where the format does not take it."""
    buffer = BytesIO()
    try:
        image.save(buffer, PILLOW_FORMATS[format], **options)
    except (ValueError, OSError) as error:
        width, height = image.size
        raise VaectlError(f"a picture of {width} x {height} does not go into {format}: choose another format") from error
    return buffer.getvalue()
