"""Where an image ends in a stream of several."""

import re

from vaectl.errors import VaectlError
from vaectl.io.files import PeekableReader

MIN_BMP_BYTES = 26  # both headers
JPEG_SCAN, JPEG_END, JPEG_MARKER = 0xDA, 0xD9, re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def find_image_end(data: bytes, format: str) -> int:
    """Find where the JPEG, WEBP or BMP at the start of `data` ends; other formats take all of it."""
    if format == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little")
    if format == "BMP":
        size = int.from_bytes(data[2:6], "little")
        return size if size >= MIN_BMP_BYTES else len(data)  # some writers leave it 0
    position = 2 if format == "JPEG" else len(data)
    while position + 4 <= len(data):
        marker = data[position + 1]
        if marker == JPEG_END:
            return position + 2
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == JPEG_SCAN:
            # A scan has no length: it ends at the next marker other than byte stuffing and restarts.
            found = JPEG_MARKER.search(data, position)
            position = found.start() if found else len(data)
    return len(data)


def read_png(reader: PeekableReader) -> bytes:
    """Read a PNG up to the end of its IEND chunk.

    Raises:
        VaectlError: the PNG is truncated.
    """
    parts = [reader.read(8)]
    chunk = b""
    while chunk != b"IEND":
        head = reader.read(8)
        chunk = head[4:]
        body = reader.read(int.from_bytes(head[:4], "big") + 4)
        if len(head) + len(body) < 12:
            raise VaectlError(f"{reader.name} is damaged (truncated PNG)", "replace or remove it")
        parts += [head, body]
    return b"".join(parts)
