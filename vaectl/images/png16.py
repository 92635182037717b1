"""PNG files of 16 bits, which Pillow reduces to 8 in color."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaectl.base.arrays import Array

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # of each color type
# The first row and column of each pass of an interlaced image, and its steps (PNG, third edition, section 8.2).
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def is_png16(data: bytes) -> bool:
    """Whether an image is a PNG of 16 bits."""
    return data.startswith(SIGNATURE) and data[24] == 16


def decode(data: bytes) -> NDArray[np.uint16]:
    """Decode a whole PNG: (H, W, channels); a transparent color becomes alpha, as one more channel.

    libpng sees the chunks that matter, and passes of an interlaced image one by one, or it would warn on stderr.
    """
    width, height, color = *struct.unpack_from(">II", data, 16), data[25]
    if any(data[26:28]) or data[28] > 1:
        raise ValueError("unknown compression, filter or interlace method")
    idat = b"".join(body for kind, body in chunks(data) if kind == b"IDAT")
    transparent = [(kind, body) for kind, body in chunks(data) if kind == b"tRNS"][:1]
    if not data[28]:
        return decode_progressive(data[16:29], transparent, idat)
    filtered = zlib.decompressobj().decompress(idat, 3 * height + 2 * height * width * CHANNELS[color] + 64)
    values = np.zeros((height, width, CHANNELS[color] + len(transparent)), np.uint16)
    start = 0
    for top, left, down, right in ADAM7:
        rows, columns = len(range(top, height, down)), len(range(left, width, right))
        if rows and columns:
            end = start + rows * (1 + 2 * columns * CHANNELS[color])
            header = struct.pack(">II", columns, rows) + data[24:28] + b"\0"
            part = decode_progressive(header, transparent, zlib.compress(filtered[start:end], 0))
            values[top::down, left::right] = part
            start = end
    return values


def decode_progressive(header: bytes, transparent: list[tuple[bytes, bytes]], idat: bytes) -> NDArray[np.uint16]:
    """Decode a PNG that is not interlaced, as `decode`."""
    from imagecodecs import png_decode

    parts = [(b"IHDR", header), *transparent, (b"IDAT", idat), (b"IEND", b"")]
    values: NDArray[Any] = png_decode(SIGNATURE + b"".join(map(write_chunk, parts)))
    return values.reshape(*values.shape[:2], -1)


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The type and the body of each chunk."""
    position = len(SIGNATURE)
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        yield data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        position += 12 + length


def write_chunk(chunk: tuple[bytes, bytes]) -> bytes:
    """The bytes of a chunk."""
    kind, body = chunk
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def encode(pixels: Array, ancillary: bytes = b"") -> bytes:
    """Encode an image, (H, W, C) in [0, 1], with the metadata of another PNG."""
    from imagecodecs import png_encode

    values = np.rint(pixels.clip(0, 1) * 65535).astype(np.uint16)
    encoded = bytes(png_encode(values[..., 0] if values.shape[2] == 1 else values))
    metadata = [chunk for chunk in chunks(ancillary) if chunk[0] not in (b"IHDR", b"IDAT", b"IEND")]
    end = len(SIGNATURE) + 25  # of the header
    return encoded[:end] + b"".join(map(write_chunk, metadata)) + encoded[end:]
