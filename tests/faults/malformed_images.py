"""Images built from their parts, which are then repeated, moved, relabelled or given wrong sizes: what random bytes rarely reach.

Each generator takes a seeded `random.Random` and returns the bytes of one file. Checksums are right unless they are the fault.
"""

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, TiffImagePlugin

Generator = Callable[[random.Random], bytes]

SIDES = (1, 2, 3, 7, 8, 9, 16, 33)
CLAIMED_SIDES = (0, 1, 5, 640, 4000, 8000, 65_500, 65_535, 2**31 - 1)
REPEATS = (2, 3, 17, 300, 3000)
MAX_REPEATED_BYTES = 4 << 20
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by color type
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16", "I;16B")
BMP_KINDS = [(1, 0), (4, 0), (8, 0), (16, 0), (24, 0), (32, 0), (16, 3), (32, 3), (4, 2), (8, 1)]  # bits, compression
TIFF_TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def repeat(part: bytes, rng: random.Random) -> list[bytes]:
    """The same part two to thousands of times."""
    return [part] * min(rng.choice(REPEATS), 2 + MAX_REPEATED_BYTES // (len(part) + 1))


def edit_list(parts: list[bytes], rng: random.Random) -> list[bytes]:
    """Drop, repeat, move or cut one part of a file."""
    index = rng.randrange(len(parts))
    part = parts[index]
    others = parts[:index] + parts[index + 1 :]
    match rng.randrange(4):
        case 0:
            return others
        case 1:
            return parts[:index] + repeat(part, rng) + parts[index + 1 :]
        case 2:
            target = rng.randrange(len(others) + 1)
            return [*others[:target], part, *others[target:]]
        case _:
            return [*parts[:index], part[: rng.randrange(len(part) + 1)], *parts[index + 1 :]]


def insert(parts: list[bytes], part: bytes, rng: random.Random) -> list[bytes]:
    """Insert a part, once or many times, anywhere."""
    index = rng.randrange(len(parts) + 1)
    return parts[:index] + rng.choice([[part], repeat(part, rng)]) + parts[index:]


def overwrite(part: bytes, start: int, value: bytes) -> bytes:
    """Replace the bytes at `start`."""
    return part[:start] + value + part[start + len(value) :]


def some_bytes(rng: random.Random) -> bytes:
    """Random bytes of a length that is of importance somewhere, or zeros."""
    length = rng.choice([0, 1, 2, 3, 4, 6, 7, 8, 9, 13, 26, 256, 257, 768, 769, 5000])
    return rng.choice([rng.randbytes(length), bytes(length)])


def save(image: Image.Image, format: str, **options: object) -> bytes:
    """Encode with Pillow."""
    image.save(stream := io.BytesIO(), format, **options)
    return stream.getvalue()


def noise(rng: random.Random, mode: str = "RGB") -> Image.Image:
    """A small image of random pixels."""
    width, height = rng.choice(SIDES), rng.choice(SIDES)
    return Image.frombytes("RGB", (width, height), rng.randbytes(3 * width * height)).convert(mode)


def make_exif(rng: random.Random) -> bytes:
    """EXIF data with an orientation, or with one that is damaged."""
    exif = Image.Exif()
    exif[0x0112] = rng.choice([1, 3, 6, 8, 0, 9, 65535])
    exif[0x010E] = "text"
    data = exif.tobytes()[6:]
    return rng.choice([data, data[: rng.randrange(len(data))], data[:4] + rng.randbytes(len(data) - 4), some_bytes(rng)])


@dataclass(frozen=True)
class Chunk:
    """A chunk of a PNG; `length` and `checksum` are those of its data unless they are wrong."""

    name: bytes
    data: bytes = b""
    length: int | None = None
    checksum: int | None = None

    def to_bytes(self) -> bytes:
        length = len(self.data) if self.length is None else self.length
        checksum = zlib.crc32(self.name + self.data) if self.checksum is None else self.checksum
        return length.to_bytes(4, "big") + self.name + self.data + checksum.to_bytes(4, "big")


def png_rows(width: int, height: int, bits: int, interlaced: bool, rng: random.Random) -> bytes:
    """Random pixels of `bits` each as rows with filters, in the seven passes of Adam7 if they are `interlaced`."""
    rows = []
    for left, top, across, down in ADAM7 if interlaced else [(0, 0, 1, 1)]:
        columns, count = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0:
            rows += [bytes([rng.randrange(5)]) + rng.randbytes(-(-columns * bits // 8)) for _ in range(count)]
    return b"".join(rows)


def png_chunks(rng: random.Random) -> list[Chunk]:
    """The chunks of a valid PNG of any color type and bit depth, interlaced or not, often with transparency."""
    color_type = rng.choice(list(PNG_DEPTHS))
    depth = rng.choice(PNG_DEPTHS[color_type])
    width, height, interlaced = rng.choice(SIDES), rng.choice(SIDES), rng.random() < 0.4
    rows = png_rows(width, height, depth * PNG_CHANNELS[color_type], interlaced, rng)
    chunks = [Chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, interlaced))]
    if color_type == 3:
        chunks.append(Chunk(b"PLTE", rng.randbytes(3 << depth)))
    if color_type in (0, 2, 3) and rng.random() < 0.6:
        levels = [rng.randrange(1 << depth) for _ in range(PNG_CHANNELS[color_type])]
        is_palette = color_type == 3
        chunks.append(Chunk(b"tRNS", rng.randbytes(1 << depth) if is_palette else struct.pack(f">{len(levels)}H", *levels)))
    return [*chunks, Chunk(b"IDAT", zlib.compress(rows)), Chunk(b"IEND")]


def extra_chunk(rng: random.Random) -> Chunk:
    """A chunk that is known but out of place, of a wrong length, or expands to far more than it holds."""
    unpacked = rng.choice([bytes(50_000_000), bytes(100_000), b"text", b""]) if rng.random() < 0.3 else b"text"
    animation = struct.pack(">IIIIIHHBB", *rng.choices([0, 1, 2, 5, 2**31 - 1], k=5), 1, 0, rng.randrange(4), rng.randrange(3))
    names = b"tRNS PLTE gAMA cHRM sRGB sBIT bKGD hIST pHYs tIME tEXt iCCP zTXt iTXt eXIf acTL fcTL fdAT cICP mDCV".split()
    choices = [
        lambda: Chunk(rng.choice(names), some_bytes(rng)),
        lambda: Chunk(b"tRNS", some_bytes(rng)),
        lambda: Chunk(b"iCCP", b"icc\0\0" + zlib.compress(unpacked, 9)),
        lambda: Chunk(b"zTXt", b"text\0\0" + zlib.compress(unpacked, 9)),
        lambda: Chunk(b"iTXt", b"text\0\1\0\0\0" + zlib.compress(unpacked, 9)),
        lambda: Chunk(b"eXIf", make_exif(rng)),
        lambda: Chunk(b"acTL", struct.pack(">II", rng.choice([0, 1, 2, 2**31 - 1]), 0)),
        lambda: Chunk(rng.choice([b"fcTL", b"fdAT"]), animation + zlib.compress(rng.randbytes(40))),
        lambda: Chunk(bytes(rng.choices(b"aAzZ", k=4)), some_bytes(rng)),
        lambda: Chunk(rng.randbytes(4), some_bytes(rng)),
    ]
    return rng.choice(choices)()


def edit_chunk(chunk: Chunk, rng: random.Random) -> Chunk:
    """Change the type, the length, the checksum or the data of a chunk."""
    match rng.randrange(5):
        case 0:
            names = [b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", chunk.name.swapcase(), bytes(4)]
            return replace(chunk, name=rng.choice(names))
        case 1:
            return replace(chunk, length=rng.choice([0, 1, len(chunk.data) + 1, 2**31 - 1, 2**32 - 1]))
        case 2:
            return replace(chunk, checksum=0)
        case 3 if chunk.name == b"IHDR":
            field = rng.randrange(7)
            if field < 2:
                return replace(chunk, data=overwrite(chunk.data, 4 * field, rng.choice(CLAIMED_SIDES).to_bytes(4, "big")))
            return replace(chunk, data=overwrite(chunk.data, 6 + field, bytes([rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 255])])))
        case _:
            return replace(chunk, data=rng.choice([b"", chunk.data + b"\0", chunk.data[:-1], some_bytes(rng)]))


def make_png(rng: random.Random) -> bytes:
    """A valid PNG in half of the cases; otherwise chunks were added, changed, split, repeated, moved or dropped."""
    chunks = png_chunks(rng)
    for _ in range(rng.choice([0, 0, 1, 1, 2, 4])):
        index = rng.randrange(len(chunks))
        if rng.random() < 0.4:
            chunks.insert(index, extra_chunk(rng))
        elif rng.random() < 0.2 and chunks[index].name == b"IDAT":
            data, size = chunks[index].data, rng.choice([1, 2, 100])
            chunks[index : index + 1] = [Chunk(b"IDAT", data[start : start + size]) for start in range(0, len(data), size)]
        else:
            chunks[index] = edit_chunk(chunks[index], rng)
    parts = [chunk.to_bytes() for chunk in chunks]
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        parts = edit_list(parts, rng) or [b""]
    after = rng.choice([b""] * 8 + [bytes(10_000), some_bytes(rng), PNG_SIGNATURE])
    return PNG_SIGNATURE + b"".join(parts) + after


def jpeg_segments(data: bytes) -> list[bytes]:
    """The segments of a JPEG after its first marker; one that starts a scan includes the scan."""
    segments, position = [], 2
    while position < len(data):
        end = position + 2
        if data[position + 1] != 0xD9:
            end += int.from_bytes(data[end : end + 2], "big")
        if data[position + 1] == 0xDA:
            while data[end] != 0xFF or data[end + 1] == 0 or 0xD0 <= data[end + 1] <= 0xD7:
                end += 1
        segments.append(data[position:end])
        position = end
    return segments


def jpeg_segment(marker: int, data: bytes = b"") -> bytes:
    """A segment of a JPEG."""
    return bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2, "big") + data


def extra_segment(rng: random.Random) -> bytes:
    """A segment that is known but out of place, empty, or of a wrong length."""
    choices = [
        lambda: jpeg_segment(0xE1, b"Exif\0\0" + make_exif(rng)),
        lambda: jpeg_segment(0xE2, b"ICC_PROFILE\0" + bytes(rng.choices([0, 1, 2, 255], k=2)) + some_bytes(rng)),
        lambda: jpeg_segment(0xE2, b"MPF\0" + make_exif(rng)),
        lambda: jpeg_segment(0xED, b"Photoshop 3.0\x008BIM" + some_bytes(rng)),
        lambda: jpeg_segment(0xEE, b"Adobe" + bytes(6) + bytes([rng.randrange(4)])),
        lambda: jpeg_segment(0xE0, b"JFIF\0" + some_bytes(rng)),
        lambda: jpeg_segment(0xFE, bytes(65_000)),
        lambda: jpeg_segment(0xDD, rng.choice([0, 1, 65_535]).to_bytes(2, "big")),
        lambda: jpeg_segment(0xDC, rng.choice([0, 1, 65_535]).to_bytes(2, "big")),
        lambda: jpeg_segment(rng.choice([0xDB, 0xC4, 0xDA, 0xC0, 0xC2, 0xCC]), some_bytes(rng)),
        lambda: jpeg_segment(rng.randrange(0xC0, 0xFF)),
        lambda: bytes([0xFF, rng.randrange(256)]),
        lambda: bytes([0xFF, rng.randrange(0xC0, 0xFF), 0, rng.choice([0, 1])]),
        lambda: b"\xff" * rng.choice([1, 2, 1000, 200_000]),
        lambda: b"\xff\xd8",
    ]
    return rng.choice(choices)()


def edit_segment(segment: bytes, rng: random.Random) -> bytes:
    """Change the marker, the length or a field of a segment; in a frame header, mostly its size."""
    if segment[1:2] in b"\xc0\xc1\xc2" and len(segment) > 11 and rng.random() < 0.8:
        start, side = rng.choice([5, 7]), rng.choice(CLAIMED_SIDES[:-1])
        if rng.random() < 0.6:
            return overwrite(segment, start, side.to_bytes(2, "big"))
        return overwrite(segment, rng.randrange(4, len(segment)), bytes([rng.choice([0, 1, 2, 4, 12, 16, 0x11, 0x44, 255])]))
    match rng.randrange(3):
        case 0:
            return overwrite(segment, 1, bytes([rng.randrange(0xC0, 0xFF)]))
        case 1:
            return overwrite(segment, 2, rng.choice([0, 1, 2, 3, 60_000, 65_535]).to_bytes(2, "big"))
        case _:
            return overwrite(segment, rng.randrange(min(2, len(segment)), len(segment) + 1), rng.randbytes(1))


def make_jpeg(rng: random.Random) -> bytes:
    """A JPEG whose segments and scans were added, changed, repeated up to thousands of times, moved or dropped."""
    options = {"progressive": rng.random() < 0.6, "restart_marker_blocks": rng.choice([0, 1, 3])}
    data = save(noise(rng, rng.choice(["L", "RGB", "CMYK"])), "JPEG", **options)
    segments = jpeg_segments(data)
    for _ in range(rng.choice([0, 1, 1, 2, 3, 5])):
        index = rng.randrange(len(segments))
        change = rng.random()
        if change < 0.4:
            segments = insert(segments, extra_segment(rng), rng)
        elif change < 0.7:
            segments[index] = edit_segment(segments[index], rng)
        elif change < 0.85:
            scans = [number for number, segment in enumerate(segments) if segment[1:2] == b"\xda"] or [0]
            index = rng.choice(scans)
            segments[index : index + 1] = repeat(segments[index], rng)
        else:
            segments = edit_list(segments, rng) or [b""]
    return b"\xff\xd8" + b"".join(segments) + rng.choice([b""] * 6 + [data, some_bytes(rng)])


def gif_blocks(data: bytes) -> list[bytes]:
    """The header of a GIF with its palette, then each extension and each image, then the trailer."""
    position = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    blocks = [data[:position]]
    while position < len(data):
        start = position
        if data[position] == 0x2C:
            flags = data[position + 9]
            position += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        elif data[position] == 0x21:
            position += 2
        else:
            blocks.append(data[position:])
            break
        while data[position]:
            position += 1 + data[position]
        position += 1
        blocks.append(data[start:position])
    return blocks


def make_gif(rng: random.Random) -> bytes:
    """A GIF, often with transparency and several frames, whose blocks were added, changed, repeated, moved or dropped."""
    options: dict[str, object] = {"interlace": rng.randrange(2), "disposal": rng.randrange(4), "comment": b"text"}
    if rng.random() < 0.6:
        options["transparency"] = rng.choice([0, 1, 255])
    if rng.random() < 0.5:
        options |= {"save_all": True, "append_images": [noise(rng), noise(rng, "P")], "duration": rng.choice([0, 20])}
    blocks = gif_blocks(save(noise(rng, rng.choice(["P", "L", "1", "RGB", "RGBA"])), "GIF", **options))
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        index = rng.randrange(len(blocks))
        if rng.random() < 0.5:
            value = rng.choice([bytes([rng.randrange(256)]), rng.choice(CLAIMED_SIDES[:-1]).to_bytes(2, "little")])
            blocks[index] = overwrite(blocks[index], rng.randrange(min(14, len(blocks[index])) + 1), value)
        elif rng.random() < 0.5:
            label = rng.choice([b"\xfe", b"\xf9\4", b"\xff\x0bNETSCAPE2.0", b"\xff\x0bXMP DataXMP", bytes([rng.randrange(256)])])
            blocks = insert(blocks, b"\x21" + label + rng.choice([b"\0", b"\3\1\0\0\0", b"\xff" * 257, b""]), rng)
        else:
            blocks = edit_list(blocks, rng) or [b""]
    return b"".join(blocks)


def make_bmp(rng: random.Random) -> bytes:
    """A BMP of any header version, bit depth and compression, whose fields need not agree."""
    header_size = rng.choice([12, 40, 40, 40, 52, 56, 64, 108, 124] * 4 + [16, 0, 2**31])
    width, height = rng.choice(SIDES), rng.choice(SIDES) * rng.choice([1, 1, -1])
    bits, compression = rng.choice(BMP_KINDS)
    if rng.random() < 0.2:
        bits, compression = rng.choice([0, 1, 2, 4, 8, 16, 24, 32, 64]), rng.choice([0, 1, 2, 3, 4, 5, 6, 11])
    claimed_width, claimed_height = width, height
    if rng.random() < 0.2:
        claimed_width, claimed_height = rng.choice([-1, *CLAIMED_SIDES]), rng.choice([-(2**31), *CLAIMED_SIDES])
    colors = rng.choice([0] * 6 + [1, 2, 256, 2**32 - 1])
    masks = rng.choice([(0xF800, 0x7E0, 0x1F, 0), (0xFF0000, 0xFF00, 0xFF, 0xFF << 24), (0, 0, 0, 0), (2**32 - 1,) * 4])
    if header_size == 12:
        header = struct.pack("<IHHHH", 12, claimed_width & 0xFFFF, claimed_height & 0xFFFF, 1, bits)
    else:
        header = struct.pack("<IiiHHIIiiII", header_size, claimed_width, claimed_height, 1, bits, compression, 0, 0, 0, colors, 0)
        header += struct.pack("<4I", *masks) + bytes(68)
        header = header[: max(40, min(header_size, 124))]
    palette = rng.randbytes((3 if header_size == 12 else 4) * min(256, colors or (1 << bits if bits <= 8 else 0)))
    rows = -(-width * bits // 32) * 4 * abs(height)
    pixels = rng.randbytes(rng.choice([rows] * 6 + [rows // 2, 2 * rows]))
    offset = 14 + len(header) + len(palette)
    start = rng.choice([offset] * 6 + [0, 14, 2**31])
    size = rng.choice([offset + len(pixels)] * 4 + [0, 26, 2**32 - 1])
    return b"BM" + struct.pack("<III", size, 0, start) + header + palette + pixels


TiffEntry = tuple[int, int, list[int]]
"""A tag, its type, and its values."""


def tiff_entries(rng: random.Random) -> tuple[str, list[TiffEntry], bytes]:
    """The byte order, the tags and the pixels of a TIFF of any mode that Pillow knows: La, LA, PA, CMYK, LAB, I;16, F, ..."""
    order, photometric, formats, fill_order, bits, extra = rng.choice(list(TiffImagePlugin.OPEN_INFO))
    width, height = rng.choice(SIDES), rng.choice(SIDES)
    rows = rng.randbytes(-(-width * sum(bits) // 8) * height)
    compression = rng.choice([1] * 20 + [8, 8, 32946, 32773, 5, 7, 4, 6, 50000])
    pixels = zlib.compress(rows) if compression in (8, 32946) else rows
    entries: list[TiffEntry] = [
        (256, 3, [width]),
        (257, 3, [height]),
        (258, 3, list(bits)),
        (259, 3, [compression]),
        (262, 3, [photometric]),
        (266, 3, [fill_order]),
        (273, 4, [8]),
        (274, 3, [rng.choice([1, 1, 1, 6, 9])]),
        (277, 3, [len(bits)]),
        (278, 3, [height]),
        (279, 4, [len(pixels)]),
        (284, 3, [rng.choice([1] * 9 + [2])]),
        (317, 3, [rng.choice([1] * 9 + [2, 3])]),
        (339, 3, list(formats)),
    ]
    if photometric == 3:
        entries.append((320, 3, [rng.randrange(65_536) for _ in range(3 << min(8, bits[0]))]))
    if extra:
        entries.append((338, 3, list(extra)))
    return (">" if order == b"MM" else "<"), entries, pixels


def edit_entry(entry: TiffEntry, rng: random.Random) -> TiffEntry:
    """Change the tag, the type, the number or the size of the values."""
    tag, type, values = entry
    match rng.randrange(4):
        case 0:
            return rng.choice([256, 257, 258, 322, 323, 324, 325, 330, 347, 34665, 34675, 42112, 65_535]), type, values
        case 1:
            return tag, rng.choice([0, 99, *TIFF_TYPES]), values
        case 2:
            return tag, type, rng.choice([[], values * rng.choice(REPEATS[:-1]), values[:1]])
        case _:
            return tag, type, [rng.choice([0, 1, 2, 3, 4, 6, 8, 12, 16, 32, 64, *CLAIMED_SIDES])] * len(values)


def make_tiff(rng: random.Random) -> bytes:
    """A TIFF of any mode and byte order, as BigTIFF too, whose tags were added, changed, repeated, moved or dropped."""
    order, entries, pixels = tiff_entries(rng)
    for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
        index = rng.randrange(len(entries))
        if rng.random() < 0.7:
            entries[index] = edit_entry(entries[index], rng)
        elif rng.random() < 0.5:
            del entries[index]
        else:
            entries.insert(rng.randrange(len(entries)), entries[index])
    is_big = rng.random() < 0.2
    word, count_code, header_size, table = ("Q", "Q", 16, 20) if is_big else ("I", "H", 8, 12)
    entries = [(tag, type, [header_size] if tag == 273 and values == [8] else values) for tag, type, values in entries]
    start = header_size + len(pixels)
    position = start + struct.calcsize(count_code) + table * len(entries) + struct.calcsize(word)
    rows, after = [], b""
    for tag, type, values in entries:
        size = TIFF_TYPES.get(type, 1)
        data = b"".join((value % (1 << 8 * size)).to_bytes(size, "big" if order == ">" else "little") for value in values)
        if len(data) > struct.calcsize(word):
            data, after = struct.pack(order + word, position + len(after)), after + data
        rows.append(struct.pack(f"{order}HH{word}", tag, type, len(values)) + data.ljust(struct.calcsize(word), b"\0"))
    following = rng.choice([0] * 8 + [start, 8, 2**32 - 1])
    directory = struct.pack(order + count_code, rng.choice([len(rows)] * 9 + [65_535])) + b"".join(rows)
    magic = struct.pack(order + ("HHHQ" if is_big else "HI"), *((43, 8, 0, start) if is_big else (42, start)))
    return (b"MM" if order == ">" else b"II") + magic + pixels + directory + struct.pack(order + word, following) + after


def webp_chunk(name: bytes, data: bytes, length: int | None = None) -> bytes:
    """A chunk of a WebP."""
    return name + (len(data) if length is None else length).to_bytes(4, "little") + data + bytes(len(data) % 2)


def webp_chunks(data: bytes) -> Iterator[bytes]:
    """The chunks of a WebP after its header."""
    position = 12
    while position < len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        yield data[position : position + 8 + length + length % 2]
        position += 8 + length + length % 2


def make_webp(rng: random.Random) -> bytes:
    """A WebP, often animated or with alpha, whose chunks were added, changed, repeated, moved or dropped."""
    image = noise(rng, rng.choice(["RGB", "RGBA"]))
    options: dict[str, object] = {"lossless": rng.random() < 0.5, "exif": b"Exif\0\0" + make_exif(rng)}
    if rng.random() < 0.4:
        options |= {"save_all": True, "append_images": [image.rotate(180), image]}
    chunks = list(webp_chunks(save(image, "WEBP", **options)))
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        index = rng.randrange(len(chunks))
        if rng.random() < 0.3:
            chunks[index] = overwrite(chunks[index], rng.randrange(min(24, len(chunks[index])) + 1), rng.randbytes(1))
        elif rng.random() < 0.5:
            name = rng.choice([b"VP8 ", b"VP8L", b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"ICCP", b"EXIF", b"XMP ", rng.randbytes(4)])
            length = rng.choice([None, None, 0, 1, 2**31, 2**32 - 1])
            chunks = insert(chunks, webp_chunk(name, some_bytes(rng), length), rng)
        else:
            chunks = edit_list(chunks, rng) or [b""]
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + rng.choice([len(body)] * 8 + [0, 4, len(body) - 1, len(body) + 9, 2**32 - 1]).to_bytes(4, "little") + body


def make_mode(rng: random.Random) -> bytes:
    """A valid image of a mode and format as Pillow saves it, of an unusual aspect ratio in some cases."""
    format = rng.choice(["PNG", "TIFF", "GIF", "BMP", "WEBP", "JPEG"])
    mode = rng.choice(MODES)
    width, height = rng.choice([(9, 11)] * 4 + [(1, 1), (1, 5000), (5000, 1), (65_000, 1), (700, 500)])
    values = np.frombuffer(rng.randbytes(4 * width * height), np.uint8).reshape(height, width, 4)
    if mode in ("I", "F"):
        largest, dtype = rng.choice([1, 255, 65_535, 1e9]), np.float32 if mode == "F" else np.int32
        image = Image.fromarray((values[..., 0] / 255 * largest).astype(dtype))
    elif mode.startswith("I;16"):
        image = Image.frombytes(mode, (width, height), values[..., :2].tobytes())
    else:
        image = convert_from_rgba(Image.fromarray(values), mode)
    transparency = {"transparency": rng.randrange(256)} if format in ("PNG", "GIF") and mode in ("L", "P", "1") else {}
    try:
        return save(image, format, **transparency)
    except (OSError, ValueError):  # the format does not have this mode
        return save(noise(rng), format)


def convert_from_rgba(image: Image.Image, mode: str) -> Image.Image:
    """Convert to any mode, through another one where there is no direct way."""
    through = {"La": "LA", "PA": "P", "LAB": "RGB", "HSV": "RGB", "YCbCr": "RGB", "CMYK": "RGB", "RGBX": "RGB"}
    if mode == "LAB":
        return Image.frombytes("LAB", image.size, image.convert("RGB").tobytes())
    return (image.convert(through[mode]) if mode in through else image).convert(mode)


IMAGES: dict[str, Generator] = {
    "png-chunks": make_png,
    "jpeg-segments": make_jpeg,
    "gif-blocks": make_gif,
    "bmp-fields": make_bmp,
    "tiff-tags": make_tiff,
    "webp-chunks": make_webp,
    "image-modes": make_mode,
}
