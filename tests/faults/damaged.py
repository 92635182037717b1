"""Hypothesis strategies for damaged files: the parts of a valid file are dropped, repeated, moved, cut, overwritten or added to.

A format knows its parts, so that the damage reaches its decoder: the checksums of a PNG are right, and so is the length of an NPY
header. `FILES` has all the files; each strategy draws the bytes of one.
"""

import ast
import csv
import io
import json
import re
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image, ImageCms
from support import FIXTURES, TINY_PRIOR, make_png, png_chunk, write_tiny_checkpoint

from vaectl.images import codecs
from vaectl.images.metadata import Metadata

Files = st.SearchStrategy[bytes]
Split = Callable[[bytes], list[bytes]]
Join = Callable[[Sequence[bytes]], bytes]

REPEATS = (2, 3, 17, 300, 3000)
MAX_REPEATED_BYTES = 4 << 20
ZEROS = zlib.compress(bytes(50_000_000), 9)
NUMBERS = [
    0,
    1,
    2,
    3,
    4,
    6,
    8,
    16,
    99,
    640,
    8000,
    *((1 << bits) - offset for bits in (7, 8, 15, 16, 31, 32, 63, 64) for offset in (0, 1)),
]
TEXTS = [*b"""0 -1 1e999 NaN null [] {} "x" 99999999999999999999 true ( ' ../""".split(), b"\0", b"\n", b"\x1b[31m"]
NAMES = [
    "x.npy",
    "x_train.npy",
    "a/b.npy",
    "../x.npy",
    "/x.npy",
    "folder/",
    "é.npy",
    "two\nlines",
    "\x1b[31mred",
    "\u202ex",
    "\x85",
]
VALUES = [
    0,
    -1,
    3,
    True,
    1.5,
    2**31,
    2**63,
    10**30,
    1e308,
    None,
    "",
    "x",
    "\x1b[2J",
    "x" * 9000,
    [],
    {},
    [1],
    [[[]]],
    {"layer": "silu"},
]
DTYPES = ["<f4", ">f8", "<f2", "|u1", "|b1", "<i8", "<f16", "<c8", "|O", "<U3", "|V4", "<M8[s]", "f4,i4", "", "<f99"]
PYTHON = ["(" * 3000, "[" * 90 + "]" * 90, "-" * 5000 + "1", "1" * 5000, "1e400", "2**99", "__import__('os')", "(1,) * 10**9"]
FIELDS = ["0", "-1.5", "nan", "-inf", "1e39", "1e-400", "", "word", "1_0", "½", "1" * 5000, "=1+1", "x" * 200_000]


@st.composite
def number_bytes(draw: st.DrawFn) -> bytes:
    """A number that is of importance somewhere, in 1, 2, 4 or 8 bytes of either order."""
    size = draw(st.sampled_from([1, 2, 4, 8]))
    return (draw(st.sampled_from(NUMBERS)) % (1 << 8 * size)).to_bytes(size, draw(st.sampled_from(["little", "big"])))


SOME_BYTES: Files = number_bytes() | st.sampled_from(TEXTS) | st.binary(max_size=300) | st.sampled_from([b"", bytes(5000)])


@st.composite
def edit(draw: st.DrawFn, parts: Sequence[bytes], extras: Files = SOME_BYTES) -> list[bytes]:
    """Change one to four of the parts, or insert one of `extras`."""
    edited = list(parts) or [b""]
    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.integers(0, len(edited) - 1))
        part = edited[index]
        change = draw(st.sampled_from(["overwrite", "insert", "repeat", "cut", "move", "drop"]))
        if change == "overwrite":
            start, value = draw(st.integers(0, min(len(part), 40)) | st.integers(0, len(part))), draw(SOME_BYTES)
            edited[index] = part[:start] + value + part[start + len(value) :]
        elif change == "cut":
            edited[index] = part[: draw(st.integers(0, len(part)))]
        elif change in ("insert", "repeat"):
            added = part if change == "repeat" else draw(extras)
            times = draw(st.sampled_from(REPEATS if change == "repeat" else (1, *REPEATS)))
            edited[index:index] = [added] * min(times, 2 + MAX_REPEATED_BYTES // (len(added) + 1))
        else:
            del edited[index]
            if change == "move":
                edited.insert(draw(st.integers(0, len(edited))), part)
        edited = edited or [b""]
    return edited


@st.composite
def edit_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Change a file as a row of bytes, cut where headers end or anywhere."""
    cuts = sorted({0, *draw(st.lists(st.integers(0, min(len(data), 200)) | st.integers(0, len(data)), max_size=4)), len(data)})
    return b"".join(draw(edit([data[start:end] for start, end in pairwise(cuts)])))


@st.composite
def edit_file(draw: st.DrawFn, data: bytes, split: Split, join: Join = b"".join, extras: Files = SOME_BYTES) -> bytes:
    """Change the parts of a file, and sometimes its bytes after that."""
    found = join(draw(edit(split(data), extras)))
    return draw(st.just(found) | edit_bytes(found))


def split_png(data: bytes) -> list[bytes]:
    """The name and the data of each chunk of a PNG."""
    parts, position = [], 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        parts.append(data[position + 4 : position + 8 + length])
        position += 12 + length
    return parts


def join_png(parts: Sequence[bytes]) -> bytes:
    """A PNG of chunks whose lengths and checksums are right."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(part[:4], part[4:]) for part in parts)


PNG_NAMES = b"IHDR IDAT IEND tRNS PLTE gAMA cHRM sRGB sBIT bKGD pHYs tEXt iCCP zTXt iTXt eXIf acTL fcTL fdAT cICP".split()
PNG_BOMBS = [b"iCCPicc\0\0" + ZEROS, b"zTXttext\0\0" + ZEROS, b"iTXttext\0\1\0\0\0" + ZEROS, b"IDAT" + ZEROS]
PNG_CHUNKS = st.sampled_from(PNG_BOMBS) | st.builds(bytes.__add__, st.sampled_from(PNG_NAMES), SOME_BYTES)


def split_jpeg(data: bytes) -> list[bytes]:
    """The segments of a JPEG, the first marker among them; one that starts a scan includes the scan."""
    segments, position = [data[:2]], 2
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


def jpeg_segment(marker: int, data: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2, "big") + data


JPEG_STARTS = [
    b"",
    b"Exif\0\0II*\0",
    b"ICC_PROFILE\0\1\1",
    b"MPF\0II*\0",
    b"Adobe\0\0\0\0\0\0\1",
    b"JFIF\0",
    b"Photoshop 3.0\x008BIM",
]
JPEG_DATA = st.builds(bytes.__add__, st.sampled_from(JPEG_STARTS), SOME_BYTES)
JPEG_SEGMENTS = st.builds(jpeg_segment, st.integers(0xC0, 0xFE), JPEG_DATA) | st.sampled_from([b"\xff" * 200_000, b"\xff\xd8"])


def split_gif(data: bytes) -> list[bytes]:
    """The header of a GIF with its palette, then each extension and each image, then the trailer."""
    position = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    blocks = [data[:position]]
    while data[position] != 0x3B:
        start = position
        flags = data[position + 9] if data[position] == 0x2C else 0
        position += (11 if data[position] == 0x2C else 2) + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        while data[position]:
            position += 1 + data[position]
        position += 1
        blocks.append(data[start:position])
    return [*blocks, data[position:]]


GIF_BLOCKS = st.sampled_from(
    [
        b"!\xfe\0",
        b"!\xf9\4\xff\xff\xff\xff\0",
        b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0",
        b"!\xff\x0bXMP DataXMP",
        b"!\xfe" + b"\xff" * 257,
    ]
)


def split_webp(data: bytes) -> list[bytes]:
    """The chunks of a WebP after its header."""
    parts, position = [], 12
    while position < len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        parts.append(data[position : position + 8 + length + length % 2])
        position += 8 + length + length % 2
    return parts


def join_webp(parts: Sequence[bytes]) -> bytes:
    """A WebP of these chunks, of the right length."""
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


WEBP_NAMES = [b"VP8 ", b"VP8L", b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"ICCP", b"EXIF", b"XMP "]
WEBP_CHUNKS = st.builds(lambda name, data: name + len(data).to_bytes(4, "little") + data, st.sampled_from(WEBP_NAMES), SOME_BYTES)


def split_bmp(data: bytes) -> list[bytes]:
    """The fields of a BMP's two headers, and its pixels."""
    ends = [0, 2, 6, 10, 14, 18, 22, 26, 28, 30, 34, 38, 42, 46, 50, 54, len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


def split_tiff(data: bytes) -> list[bytes]:
    """What precedes the first directory of a little-endian TIFF, each of its entries, and the rest."""
    start = int.from_bytes(data[4:8], "little") + 2
    end = start + 12 * int.from_bytes(data[start - 2 : start], "little")
    return [data[:start], *(data[position : position + 12] for position in range(start, end, 12)), data[end:]]


TIFF_TAGS = [256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 330, 338, 339, 347, 34665, 34675]
TIFF_ENTRIES = st.builds(
    lambda *fields: struct.pack("<HHII", *fields),
    st.sampled_from(TIFF_TAGS),
    st.integers(0, 18),
    *[st.sampled_from([0, 1, 2, 3, 65_535, 2**32 - 1])] * 2,
)


def save(image: Image.Image, format: str, **options: object) -> bytes:
    """Encode with Pillow."""
    image.save(stream := io.BytesIO(), format, **options)
    return stream.getvalue()


def make_images() -> dict[str, Files]:
    """A small image in each format, mode and depth that vaectl reads, damaged."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112], exif[0x8769] = 6, {0x829A: 0.01}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    metadata = {"exif": exif.tobytes(), "icc_profile": profile, "dpi": (300, 300)}
    frames = {"save_all": True, "append_images": [image.rotate(90)]}
    deep = codecs.encode_image(pixels.astype(np.float32) / 255, "tif", Metadata(bits=16, exif=exif.tobytes(), dpi=(72, 72)))
    pngs = {
        "png": save(image, "PNG", **metadata),
        "png-palette": save(image.quantize(16), "PNG", transparency=3),
        "png-animated": save(image, "PNG", **frames),
        "png-alpha-16": make_png(pixels[..., :2].astype(int) * 257, 16, interlaced=True),
        **{
            f"png-gray-{bits}": make_png(pixels[..., :1].astype(int) >> max(0, 8 - bits), bits, [1], interlaced=bits > 2)
            for bits in (1, 2, 4, 8, 16)
        },
    }
    jpegs = {
        "jpeg": save(image, "JPEG", **metadata, xmp=b"<x/>"),
        "jpeg-progressive": save(image.convert("CMYK"), "JPEG", progressive=True, restart_marker_blocks=1),
    }
    webps = {
        "webp": save(image, "WEBP", **metadata),
        "webp-animated": save(image.convert("RGBA"), "WEBP", lossless=True, **frames),
    }
    gifs = {"gif": save(image, "GIF", **frames), "gif-transparent": save(image.quantize(16), "GIF", transparency=1, interlace=1)}
    bmps = {
        "bmp": save(image, "BMP"),
        "bmp-palette": save(image.quantize(16), "BMP"),
        "bmp-bits": save(image.convert("1"), "BMP"),
    }
    tiffs = {f"tiff-{mode}": save(image.convert(mode), "TIFF") for mode in ("1", "L", "P", "RGBA", "CMYK", "YCbCr", "I", "F")}
    tiffs |= {f"tiff-{name}": save(image, "TIFF", compression=name, dpi=(72, 72)) for name in ("tiff_lzw", "jpeg")} | {
        "tiff-16": deep
    }
    return {
        **{name: edit_file(data, split_png, join_png, PNG_CHUNKS) for name, data in pngs.items()},
        **{name: edit_file(data, split_jpeg, extras=JPEG_SEGMENTS) for name, data in jpegs.items()},
        **{name: edit_file(data, split_webp, join_webp, WEBP_CHUNKS) for name, data in webps.items()},
        **{name: edit_file(data, split_gif, extras=GIF_BLOCKS) for name, data in gifs.items()},
        **{name: edit_file(data, split_bmp) for name, data in bmps.items()},
        **{name: edit_file(data, split_tiff, extras=TIFF_ENTRIES) for name, data in tiffs.items()},
        "tiff-big": edit_bytes(save(image, "TIFF", big_tiff=True)),
    }


def save_npy(array: np.ndarray) -> bytes:
    """The array as an NPY file."""
    np.save(stream := io.BytesIO(), array)
    return stream.getvalue()


NPYS = [
    save_npy(array)
    for array in (np.zeros((4, 1), np.float32), np.ones((2, 8, 8), np.uint8), np.asfortranarray(np.zeros((4, 2, 2), ">f8")))
]


@st.composite
def npys(draw: st.DrawFn) -> bytes:
    """An NPY file, whose header has the right length, but strange values in it."""
    data = draw(st.sampled_from(NPYS))
    header = ast.literal_eval(data[10:128].decode())
    header["shape"] = tuple(draw(st.lists(st.sampled_from([1, 2, 4, 8, *VALUES, *NUMBERS]), max_size=5) | st.just([4, 1])))
    header["descr"] = draw(st.sampled_from([*["<f4"] * 5, *DTYPES, *VALUES]))
    header["fortran_order"] = draw(st.sampled_from([False, True, None, 7]))
    found = draw(st.sampled_from(["", "extra", *header]))
    header = header | {found: draw(st.sampled_from(VALUES))} if found else header
    whole = repr(header)
    texts = [*[whole] * 5, *(whole.replace("(", f"({value},", 1) for value in PYTHON), *PYTHON]
    text = draw(st.sampled_from(texts)).encode() + b"\n"
    version = draw(st.sampled_from([1, 2]))
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 * version, "little") + text + data[128:]


@st.composite
def npzs(draw: st.DrawFn) -> bytes:
    """An archive of up to thousands of members, some of strange names or damaged, whose index may disagree with them."""
    stream = io.BytesIO()
    method = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.simplefilter("ignore")  # two members of one name
        members = draw(
            st.lists(
                st.tuples(st.sampled_from(NAMES), st.sampled_from(NPYS) | npys() | SOME_BYTES | st.just(bytes(2_000_000))),
                max_size=3,
            )
        )
        for number in range(draw(st.sampled_from([0, 0, 0, 2000]))):
            members.append((f"{number}.npy", NPYS[0][:130]))
        for name, data in members:
            archive.writestr(name, data)
    data = stream.getvalue()
    return draw(st.just(data) | edit_file(data, lambda data: re.split(b"(?=PK[\1\3\5])", data)))


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A CSV table of latents with strange names, numbers, quotes, line breaks and numbers of fields."""
    width = draw(st.sampled_from([1, 1, 1, 0, 2, 9]))
    rows = draw(st.lists(st.lists(st.sampled_from(["0", *FIELDS]), min_size=width, max_size=width), max_size=4))
    names = [draw(st.sampled_from(["name", "", *NAMES])) for _ in rows]
    lines = [["name", *(f"z{dim}" for dim in range(width))], *([name, *row] for name, row in zip(names, rows, strict=True))]
    csv.writer(text := io.StringIO()).writerows(lines)
    data = text.getvalue().encode()
    found = re.split(rb"(?<=[,\n])", data)
    return draw(
        st.just(data) | edit(found, st.sampled_from([b'"', b";", b"\n" * 1000, b"\xff", b"\0", b"\xef\xbb\xbf"])).map(b"".join)
    )


@st.composite
def edit_json(draw: st.DrawFn, checkpoint: bytes) -> bytes:
    """Change one value in the header or the card of a checkpoint, which is valid otherwise."""
    length = int.from_bytes(checkpoint[:8], "little")
    header = json.loads(checkpoint[8 : 8 + length])
    card = json.loads(header["__metadata__"]["vaectl"])
    parent = draw(st.sampled_from([card, header, card["network"]]))
    for _ in range(6):
        key = draw(st.sampled_from(sorted(parent) if isinstance(parent, dict) else range(len(parent))))
        if not isinstance(parent[key], dict | list) or not parent[key] or draw(st.sampled_from([False] * 4 + [True])):
            break
        parent = parent[key]
    parent[key] = draw(st.sampled_from(VALUES))
    if header.get("__metadata__"):
        header["__metadata__"] = {"vaectl": json.dumps(card)}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + checkpoint[8 + length :]


def make_checkpoints() -> dict[str, Files]:
    """Checkpoints whose JSON or bytes are damaged: without and with a learned prior, and of a network of convolutions."""
    with tempfile.TemporaryDirectory() as folder:
        tiny, prior = (write_tiny_checkpoint(Path(folder) / "x", **arrays).read_bytes() for arrays in ({}, TINY_PRIOR))
    checkpoints = {"checkpoint": tiny, "checkpoint-prior": prior, "checkpoint-unet": (FIXTURES / "unet.safetensors").read_bytes()}
    many = json.dumps(
        {f"{number}\x1b[31m": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(3000)}
    ).encode()
    return {
        **{name: edit_json(data) | edit_bytes(data) for name, data in checkpoints.items()},
        "safetensors": edit_bytes(len(many).to_bytes(8, "little") + many),
    }


IMAGES = make_images()
ARRAYS = {"npy": npys() | st.sampled_from(NPYS).flatmap(edit_bytes), "npz": npzs(), "csv": tables()}
CHECKPOINTS = make_checkpoints()
STREAMS = {
    "stream": st.lists(st.one_of(*IMAGES.values(), st.sampled_from(NPYS), SOME_BYTES), min_size=1, max_size=8).map(b"".join)
}
