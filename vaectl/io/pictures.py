"""Picture bytes to pixels and back. Pixels are float32 in [0, 1], (height, width, channels) with channels last."""

import re
import warnings
from io import BytesIO
from math import ceil, prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from vaectl.errors import Remark, VaectlError
from vaectl.io.arrays import refuse
from vaectl.io.files import PICTURES, Reader

Array = NDArray[np.float32]
Shape = tuple[int, ...]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
SMOOTH = Image.Resampling.LANCZOS
MOST_PIXELS = 89_478_485  # where Pillow itself begins to warn: 256 MB at 24 bits
PILLOW_FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "apng": "PNG"}
JPEG_SCAN, JPEG_END, JPEG_MARKER = 0xDA, 0xD9, re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
LONGEST_ROW = 20


def decode(data: bytes, name: str) -> Image.Image:
    """A picture as people see it: upright, transparent parts laid on black, in mode L, RGB or F.

    16-bit grey and floating-point pictures keep their depth (mode F, in [0, 1]).

    Raises:
        VaectlError: as `opened`.
    """
    image = opened(data, name)
    if image.mode.startswith("I"):
        return Image.fromarray(np.asarray(image, dtype=np.float32) / 65535)
    if image.mode == "F":
        return image
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image.convert("RGBA")).convert("L" if is_grey(image) else "RGB")
    return image.convert("L" if is_grey(image) else "RGB")


def opened(data: bytes, name: str) -> Image.Image:
    """A picture of any mode, upright by its EXIF note, all its pixels read.

    Raises:
        VaectlError: bytes that are damaged, too large, or no picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(data), formats=PICTURES)
        if prod(image.size) > MOST_PIXELS:
            raise VaectlError(f"{name} has {prod(image.size)} pixels, over {MOST_PIXELS}: make it smaller")
        if getattr(image, "is_animated", False):
            warnings.warn(f"{name} is animated: its first frame is taken", Remark, stacklevel=2)
        image.load()
        return ImageOps.exif_transpose(image)
    except VaectlError:
        raise
    except Exception as error:  # on damaged bytes Pillow raises whatever its decoders meet
        raise VaectlError(f"{name} is damaged or no picture: replace it or leave it out") from error


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


def fit(image: Image.Image, shape: Shape) -> Array:
    """The picture at the size and with the channels of `shape`: its centre, cut to the shape's proportions, resized smoothly."""
    height, width, channels = shape
    if image.mode != "F":
        image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), SMOOTH)
    pixels = np.asarray(image, dtype=np.float32) / (1 if image.mode == "F" else 255)
    return np.broadcast_to(pixels.reshape(height, width, -1), shape).clip(0, 1)


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


def end_of(data: bytes, kind: str) -> int:
    """Where a JPEG, WEBP or BMP ends in `data`, which may hold more; of other kinds it is not told, and they take all."""
    if kind == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little")
    if kind == "BMP":
        return int.from_bytes(data[2:6], "little")
    at = 2 if kind == "JPEG" else len(data)
    while at + 4 <= len(data):
        marker = data[at + 1]
        if marker == JPEG_END:
            return at + 2
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == JPEG_SCAN:
            # What follows has no length: it runs up to the next marker that is neither stuffing nor a restart.
            found = JPEG_MARKER.search(data, at)
            at = found.start() if found else len(data)
    return len(data)


def read_png(reader: Reader) -> bytes:
    """The bytes of the PNG that comes next in a stream, up to and with its IEND chunk.

    Raises:
        VaectlError: the stream ends within it.
    """
    parts = [reader.read(8)]
    name = b""
    while name != b"IEND":
        head = reader.read(8)
        name = head[4:]
        body = reader.read(int.from_bytes(head[:4], "big") + 4)
        if len(head) + len(body) < 12:
            raise VaectlError(f"{reader.name} ends within a PNG: check the file that was sent")
        parts += [head, body]
    return b"".join(parts)


def encode(pixels: Array, format: str) -> bytes:
    """One picture as png, jpg, webp, gif or apng bytes.

    Raises:
        VaectlError: a picture larger than the format allows.
    """
    options: dict[str, dict[str, Any]] = {"jpg": {"quality": 95, "subsampling": 0}, "webp": {"lossless": True}}
    return saved(to_image(pixels), format, **options.get(format, {}))


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
    """One picture for Pillow, in mode L or RGB."""
    values = np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
    return Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)


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
