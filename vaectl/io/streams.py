"""Where a picture ends in a stream that goes on with another one."""

import re

from vaectl.errors import VaectlError
from vaectl.io.files import Reader

SMALLEST_BMP = 26  # bytes, its two headers
JPEG_SCAN, JPEG_END, JPEG_MARKER = 0xDA, 0xD9, re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def end_of(data: bytes, kind: str) -> int:
    """Where a JPEG, WEBP or BMP ends in `data`, which may hold more; of other kinds it is not told, and they take all."""
    if kind == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little")
    if kind == "BMP":
        size = int.from_bytes(data[2:6], "little")
        return size if size >= SMALLEST_BMP else len(data)  # some writers leave it 0
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
            raise VaectlError(f"{reader.name} is damaged, it ends within a PNG", "replace it or leave it out")
        parts += [head, body]
    return b"".join(parts)
