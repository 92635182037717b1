"""The bytes of one image, in a file or in a stream of several, and the limits that keep hostile ones from taking forever."""

import re

from vaectl.base.errors import VaectlError
from vaectl.images import formats
from vaectl.io.files import PeekableReader

MIN_BMP_BYTES = 26  # both headers
# Real images stay far below these limits, at which one still takes a few seconds only.
MAX_PNG_CHUNKS = 1 << 18
MAX_JPEG_SEGMENTS, MAX_JPEG_FILLING = 10_000, 1 << 16
MAX_JPEG_SCANNED = 1 << 31  # pixels, all scans together: a decoder visits every pixel in every scan
JPEG_START, JPEG_SCAN, JPEG_END = 0xD8, 0xDA, 0xD9
JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the segments that hold height and width
JPEG_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
JPEG_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # not byte stuffing, a restart or a fill byte


def read_image(reader: PeekableReader, format: str) -> bytes:
    """Read one image without decoding it; in a stream, others may follow. After an error, nobody knows where.

    Raises:
        VaectlError: the image is truncated or too large, or built to take a decoder forever.
    """
    if format == "PNG":
        data = read_png(reader)
        if not reader.is_stream:
            reader.skip_rest()
        return data
    data = reader.read(formats.MAX_IMAGE_BYTES)
    if reader.peek(1):
        raise too_large(reader.name)
    end = find_image_end(data, format, reader.name)
    if not reader.is_stream:
        return data
    reader.unread(data[end:])
    return data[:end]


def read_png(reader: PeekableReader) -> bytes:
    """Read a PNG up to the end of its IEND chunk, as `read_image`."""
    parts, size = [reader.read(8)], 8
    for _ in range(MAX_PNG_CHUNKS):
        head = reader.read(8)
        parts.append(head)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) == 8 and (not kind.isalpha() or (kind == b"IHDR") != (len(parts) == 2)):
            raise VaectlError(f"{reader.name} is damaged (bad PNG chunk)", "replace or remove it")
        size += 12 + length
        if size > formats.MAX_IMAGE_BYTES:
            raise too_large(reader.name)
        body = reader.read(length + 4)
        parts.append(body)
        if len(head) + len(body) < 12 + length:
            raise VaectlError(f"{reader.name} is damaged (truncated PNG)", "replace or remove it")
        if kind == b"IEND":
            return b"".join(parts)
    raise VaectlError(f"{reader.name} has more than {MAX_PNG_CHUNKS} PNG chunks", "save it again")


def too_large(name: str) -> VaectlError:
    """The error for an image of too many bytes."""
    return VaectlError(f"{name} is larger than {formats.MAX_IMAGE_BYTES} bytes", "make it smaller")


def find_image_end(data: bytes, format: str, name: str) -> int:
    """Find where the JPEG, WEBP or BMP at the start of `data` ends; other formats take all of it.

    Raises:
        VaectlError: a JPEG that is built to take a decoder forever.
    """
    if format == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little")
    if format == "BMP":
        size = int.from_bytes(data[2:6], "little")
        return size if size >= MIN_BMP_BYTES else len(data)  # some writers leave it 0
    return find_jpeg_end(data, name) if format == "JPEG" else len(data)


def find_jpeg_end(data: bytes, name: str) -> int:
    """Find where a JPEG ends: at its end marker, or where the next one begins if it is truncated."""
    position, segments, scans, pixels, filling = 2, 0, 0, 0, 0
    while found := JPEG_MARKER.search(data, position):
        filling += found.end() - position - 2
        marker, start, position = found[1][0], found.end() - 2, found.end()
        if marker == JPEG_END:
            return position
        if marker == JPEG_START:
            return start
        segments += 1
        if marker in JPEG_FRAMES:
            height, width = data[position + 3 : position + 5], data[position + 5 : position + 7]
            pixels = int.from_bytes(height, "big") * int.from_bytes(width, "big")
        if marker not in JPEG_WITHOUT_LENGTH:
            position += int.from_bytes(data[position : position + 2], "big")
        if marker == JPEG_SCAN:
            scans += 1
            end = JPEG_SCAN_END.search(data, position)  # a scan has no length
            position = end.start() if end else len(data)
        too_many = "segments" if segments > MAX_JPEG_SEGMENTS else "fill bytes" if filling > MAX_JPEG_FILLING else ""
        if scans * pixels > MAX_JPEG_SCANNED:
            too_many = "scans"
        if too_many:
            raise VaectlError(f"{name} is a JPEG with too many {too_many}", "save it again")
    return len(data)
