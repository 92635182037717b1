"""Picture bytes to pixels and back. Pixels are float32 in [0, 1], (height, width, channels) with channels last."""

import logging
import os
import warnings
from collections.abc import Callable
from functools import cache
from glob import glob
from io import BytesIO
from math import ceil, prod
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps

from vaectl.errors import Remark, VaectlError
from vaectl.frame import Frame
from vaectl.io import streams
from vaectl.io.arrays import refuse
from vaectl.io.files import PICTURES, Reader
from vaectl.layers import Shape

Array = NDArray[np.float32]

# What Pillow logs of damaged files is for programmers; ours is an error.
logging.getLogger("PIL").addHandler(logging.NullHandler())

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
SMOOTH = Image.Resampling.LANCZOS
FILL: dict[str, Callable[[Image.Image, tuple[int, int], Image.Resampling], Image.Image]] = {
    "crop": ImageOps.fit,
    "pad": ImageOps.pad,
    "stretch": Image.Image.resize,
}
DRAFT = 2  # at so many times the size that is wanted, decoding at a fraction is not to be seen any more
MOST_PIXELS = 89_478_485  # where Pillow itself begins to warn: 256 MB at 24 bits
# Of what is larger, so many bytes may come from one: scanned pages come near it, and bombs grow by a thousand.
SAFE_TO_UNPACK, MOST_UNPACKED = 1 << 26, 500
PILLOW_FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "apng": "PNG"}
LUMINANCE = (0.299, 0.587, 0.114)  # as Pillow weighs red, green and blue
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
    if image.mode.startswith("I"):
        return Image.fromarray(np.asarray(image, dtype=np.float32) / 65535)
    if image.mode == "F":
        return image
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
    elif image.mode.startswith("I"):
        values = np.asarray(image, np.uint16)[..., np.newaxis]
    elif image.mode == "F":
        values = np.rint(np.asarray(image).clip(0, 1) * 65535).astype(np.uint16)[..., np.newaxis]
    else:
        kind = ("L" if is_grey(image) else "RGB") + ("A" if image.has_transparency_data else "")
        values = np.asarray(image.convert(kind))
    largest = np.float32(65535 if values.dtype == np.uint16 else 255)
    pixels: Array = np.divide(values.reshape(*values.shape[:2], -1), largest, dtype=np.float32)
    alpha = 1 - pixels.shape[2] % 2
    colours = in_channels(pixels[..., : pixels.shape[2] - alpha], channels)
    return np.concatenate([colours, pixels[..., pixels.shape[2] - alpha :]], axis=2), values.dtype.itemsize * 8


def is_turned(data: bytes) -> bool:
    """Whether a picture is to be turned or mirrored, by its EXIF note."""
    with Image.open(BytesIO(data)) as image:
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) != 1)


def sixteen_bits(data: bytes, name: str) -> NDArray[np.uint16]:
    """The values of a PNG of 16 bits, (H, W, C)."""
    from imagecodecs import png_decode

    try:
        return png_decode(data)
    except Exception as error:  # its own kinds of errors, on damaged bytes
        raise VaectlError(f"{name} is damaged or no picture", REPLACE) from error


def in_channels(pixels: Array, channels: int) -> Array:
    """Colours as grey or grey as colours, (H, W, channels)."""
    if pixels.shape[2] > channels:
        grey: Array = pixels @ np.array(LUMINANCE, np.float32)
        return grey[..., np.newaxis]
    return np.broadcast_to(pixels, (*pixels.shape[:2], channels))


def opened(data: bytes, name: str, frame: Frame | None = None) -> Image.Image:
    """A picture of any mode, upright by its EXIF note, all its pixels read.

    Raises:
        VaectlError: bytes that are damaged, too large, or no picture.
    """
    if data.startswith(PNG):  # whose last rows Pillow does not miss
        streams.read_png(Reader(BytesIO(data), name))
    try:
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
    except VaectlError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise VaectlError(f"{name} has over {MOST_PIXELS} pixels", "make it smaller") from error
    except Exception as error:  # on damaged bytes Pillow raises whatever its decoders meet
        raise VaectlError(f"{name} is damaged or no picture", REPLACE) from error
    if animated:
        warnings.warn(f"{name} is animated: its first frame is taken", Remark, stacklevel=2)
    return upright


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
            channels = 1 if is_grey(image) or image.mode.startswith("I") or image.mode == "F" else 3
            return (image.width, image.height, channels) if sideways else (image.height, image.width, channels)
    except Exception:  # on damaged bytes Pillow raises whatever its decoders meet
        return None


def is_grey(image: Image.Image) -> bool:
    """Whether the picture has no colours by its mode."""
    return image.mode in ("1", "L", "LA", "La")


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


def lettering(words: str) -> Image.Image:
    """White letters on a transparent ground."""
    font = ImageFont.load_default(64)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(words))
    image = Image.new("LA", (right - left, bottom - top), (255, 0))
    ImageDraw.Draw(image).text((-left, -top), words, (255, 255), font)
    return image


def fit(image: Image.Image, frame: Frame) -> Array:
    """The picture, (H, W, C), at the size and with the channels of the frame, resized smoothly."""
    height, width, channels = frame.shape
    if image.mode != "F":
        image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = FILL[frame.fit](image, (width, height), SMOOTH)
    pixels = np.asarray(image, dtype=np.float32) / (1 if image.mode == "F" else 255)
    return np.broadcast_to(pixels.reshape(height, width, -1), frame.shape).clip(0, 1)


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


def to_image(pixels: Array) -> Image.Image:
    """One picture for Pillow, in mode L, LA, RGB or RGBA."""
    values = np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
    return Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)
