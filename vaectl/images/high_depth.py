"""PNG and TIFF files of 16 bits, which Pillow reduces to 8 in color."""

import logging
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaectl.base.arrays import Array

# They log details of doubtful and damaged files; users get one error instead.
for library in ("imagecodecs", "tifffile"):
    logging.getLogger(library).addHandler(logging.NullHandler())

PNG_HEADER_BYTES = 33  # the signature and the chunk IHDR
BITS_PER_SAMPLE, PHOTOMETRIC, IMAGE_WIDTH = 258, 262, 256  # tags of TIFF
RGB, ASSOCIATED = 2, 1  # values of PHOTOMETRIC and of extra samples


def is_deep(image: Image.Image, data: bytes) -> bool:
    """Whether an image that Pillow has opened is a PNG of 16 bits, or a TIFF in RGB or RGBA of 16 bits."""
    if image.format == "PNG":
        return data[24] == 16
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(BITS_PER_SAMPLE)
    return image.format == "TIFF" and tags.get(PHOTOMETRIC) == RGB and bits in ((16,) * 3, (16,) * 4)


def decode(data: bytes, format: str | None) -> NDArray[np.uint16]:
    """Decode an image that `is_deep`: (H, W, channels); the transparent color of a PNG becomes alpha, as one more channel."""
    if format == "TIFF":
        return decode_tiff(data)
    from imagecodecs import png_decode

    values: NDArray[Any] = png_decode(data)
    return values.reshape(*values.shape[:2], -1)


def decode_tiff(data: bytes) -> NDArray[np.uint16]:
    """Decode a TIFF in color: (H, W, 3), or (H, W, 4) with alpha."""
    from tifffile import TiffFile

    with TiffFile(BytesIO(data)) as file:
        page: Any = file.pages[0]
        values: NDArray[Any] = page.asarray()
        if page.planarconfig == 2:
            values = np.moveaxis(values, 0, 2)
        associated = tuple(page.extrasamples) == (ASSOCIATED,)
    if values.dtype != np.uint16 or values.shape != (page.imagelength, page.imagewidth, page.samplesperpixel):
        raise ValueError("not an image of 16 bits")
    if associated:  # colors were multiplied by alpha
        alpha = np.maximum(values[..., 3:], 1).astype(np.float32)
        values[..., :3] = np.rint((values[..., :3] * (65535 / alpha)).clip(0, 65535))
    return values


def encode_png(pixels: Array, small: bytes) -> bytes:
    """Encode an image, (H, W, C) in [0, 1], with the metadata of a small PNG that Pillow wrote: imagecodecs writes none."""
    from imagecodecs import png_encode

    values = np.rint(pixels.clip(0, 1) * 65535).astype(np.uint16)
    encoded = bytes(png_encode(values[..., 0] if values.shape[2] == 1 else values))
    metadata = small[PNG_HEADER_BYTES : small.rindex(b"IDAT") - 4]  # all chunks up to the length of this one
    return encoded[:PNG_HEADER_BYTES] + metadata + encoded[PNG_HEADER_BYTES:]


def encode_tiff(pixels: Array, options: dict[str, Any]) -> bytes:
    """Encode an image, (H, W, C) in [0, 1]; `options` are Pillow's.

    tifffile writes no directories of EXIF, so Pillow writes the values as bytes, twice as wide, and the header is then corrected.
    """
    from tifffile import TiffFile

    if pixels.shape[2] == 2:  # Pillow does not read gray with alpha at 16 bits
        pixels = pixels[..., [0, 0, 0, 1]]
    values = np.rint(pixels.clip(0, 1) * 65535).astype("<u2")
    height, width, channels = values.shape
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    Image.frombytes(mode, (2 * width, height), values.tobytes()).save(buffer := BytesIO(), "TIFF", **options)
    for tag, value in ((IMAGE_WIDTH, width), (BITS_PER_SAMPLE, (16,) * channels)):
        buffer.seek(0)
        with TiffFile(buffer) as file:
            file.pages.first.tags[tag].overwrite(value)
    return buffer.getvalue()
