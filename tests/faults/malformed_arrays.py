"""NPY, NPZ, CSV, safetensors and streams of several files, from parts with faults in their headers, names and numbers.

Each generator takes a seeded `random.Random` and returns the bytes of one file.
"""

import csv
import io
import json
import random
import struct
import warnings
import zipfile

import numpy as np
from malformed_images import IMAGES, PNG_SIGNATURE, make_mode, png_chunks, some_bytes

DTYPES = ("<f4", ">f8", "<f2", "|u1", "|b1", "<i8", ">u2", "<f16", "<c8", "|O", "<U3", "|V4", "<M8[s]", "f4,i4", "", "x", "<f99")
SIZES = (0, 1, 2, 3, 8, 1000, -1, 2**31, 2**63, 10**30, True, 1.5, "2", None, (), (2,))
PLAIN_NAMES = ("x.npy", "x_train.npy", "x_test.npy", "x", "a/b.npy", "../x.npy", "/x.npy", "folder/", "é.npy")
NAMES = (*PLAIN_NAMES, "two\nlines", "\x1b[31mred", "\x9b2J", "bell\x07", "\u202ereversed", "\x85", "\u2028")
TABLE_CHANGES = ((b"\r\n", b"\n"), (b"\r\n", b"\r"), (b",", b";"), (b'"', b""), (b"-", b"\xff"), (b"1", b"\0"))
TABLE_VALUES = ["nan", "-inf", "1e39", "1e-400", "", "word", "0x1", "1_0", "½", "1" * 5000, "=1+1", "z0"]
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
MEMBER_COUNTS = (0, 1, 1, 1, 1, 2, 3, 100, 2000)


def npy_header(rng: random.Random) -> str:
    """The header of an NPY file, most often one that NumPy reads."""
    shape = tuple(
        rng.choice(SIZES) if rng.random() < 0.1 else rng.choice([1, 2, 8]) for _ in range(rng.choice([0, 1, 2, 3, 3, 4, 40]))
    )
    entries = {"descr": rng.choice([*DTYPES, "<f4", "<f4", "|u1", "|u1"]), "fortran_order": rng.random() < 0.3, "shape": shape}
    if rng.random() < 0.2:
        entries[rng.choice([*entries, "extra"])] = rng.choice([None, 7, "text", [], {}, (1,) * 1000])
    if rng.random() < 0.1:
        del entries[rng.choice(list(entries))]
    text = repr(entries)
    if rng.random() < 0.1:
        nested = rng.choice(
            [
                "(" * 3000,
                "[" * 90 + "]" * 90,
                "-" * 5000 + "1",
                "1" * 5000,
                "1e400",
                "'" + "x" * 9000 + "'",
                "2**99",
                "__import__('os')",
            ]
        )
        text = rng.choice([text.replace("(", f"({nested},", 1), nested])
    return text


def make_npy(rng: random.Random) -> bytes:
    """An NPY file with few or too many bytes, whose header may be damaged, of the wrong length, or of a strange type or shape."""
    text = npy_header(rng).encode("utf-8", "replace")
    text += b" " * rng.choice([0, 1, 63, 9000]) + rng.choice([b"\n", b"\n", b"\n", b"", b"\0"])
    version = rng.choice([1, 1, 1, 2, 2, 3, 0, 255])
    length = rng.choice([len(text)] * 8 + [0, len(text) + 5, 65_535])
    size = 2 if version == 1 else 4
    data = rng.choice(
        [bytes(512), rng.randbytes(512), bytes(64), bytes(192), b"", struct.pack("<64f", *[rng.random() for _ in range(64)])]
    )
    return b"\x93NUMPY" + bytes([version, rng.choice([0] * 9 + [1])]) + min(length, 65_535).to_bytes(size, "little") + text + data


def small_npy(rng: random.Random) -> bytes:
    """A valid NPY file of images of 2 x 2, or of latents."""
    array = rng.choice([np.zeros((3, 2, 2), np.uint8), np.ones((2, 8, 8), np.uint8), np.zeros((4, 1), np.float32)])
    np.save(stream := io.BytesIO(), array)
    return stream.getvalue()


def make_npz(rng: random.Random) -> bytes:
    """An archive with any number of members, whose names may hold control characters and whose index may disagree with them."""
    stream = io.BytesIO()
    count = rng.choice(MEMBER_COUNTS)
    compression = rng.choice(COMPRESSIONS) if count < 100 else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", compression) as archive:
        warnings.simplefilter("ignore")  # two members of one name
        archive.comment = rng.choice([b""] * 4 + [some_bytes(rng)])
        for number in range(count):
            name = rng.choice([*NAMES, "x_train.npy", f"{number}.npy"]) if count < 100 else f"{number}{rng.choice(NAMES)}"
            if rng.random() < 0.2 and count < 100:
                data = rng.choice([make_npy(rng), some_bytes(rng), bytes(2_000_000), stream.getvalue(), make_mode(rng)])
            else:
                data = small_npy(rng)
            archive.writestr(name, data)
    data = bytearray(stream.getvalue())
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        signature = rng.choice([b"PK\1\2", b"PK\5\6", b"PK\3\4"])
        start = data.find(signature)
        if start >= 0:
            position = start + rng.randrange(4, 46 if signature == b"PK\1\2" else 22)
            width = rng.choice([1, 2, 4])
            data[position : position + width] = rng.choice([0, 1, 2, 8, 99, 255]).to_bytes(width, "little")
    return bytes(data) + rng.choice([b""] * 6 + [some_bytes(rng), bytes(data)])


def make_table(rng: random.Random) -> bytes:
    """A CSV table of latents with odd names, numbers, quotes, line breaks and numbers of fields."""
    width, labeled = rng.choice([1, 1, 1, 1, 0, 2, 9]), rng.random() < 0.3
    lines = [["name", *["label"] * labeled, *(f"z{dim}" for dim in range(width))]]
    for _ in range(rng.choice([0, 1, 3, 3, 300])):
        numbers = [rng.choice(["0", "-1.5", "1e-3"] * 90 + TABLE_VALUES) for _ in range(width)]
        lines.append([rng.choice([*NAMES, "name", ""]), *["one"] * labeled, *numbers])
    if rng.random() < 0.2:
        line = rng.choice(lines)
        line[rng.randrange(len(line)) :] = rng.choice([[], ["", ""], ["x" * 200_000], ["name", "z0"]])
    if rng.random() < 0.1:
        lines.append(rng.choice(lines))
    csv.writer(text := io.StringIO(), quoting=rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])).writerows(lines)
    data = rng.choice([b"", b"", b"\xef\xbb\xbf"]) + text.getvalue().encode("utf-8", "replace")
    if rng.random() < 0.3:
        data = data.replace(*rng.choice(TABLE_CHANGES))
    return data + rng.choice([b"", b"", b"", b'"', b"\n" * 1000, b"a,0", some_bytes(rng)])


def make_safetensors(rng: random.Random) -> bytes:
    """A safetensors file whose names, types, shapes, offsets or metadata are odd, damaged, or far too many."""
    count = rng.choice([0, 1, 2, 3, 3000])
    header: dict[str, object] = {}
    offset = 0
    for number in range(count):
        shape = [rng.choice([1, 2, 3]) for _ in range(rng.choice([0, 1, 2]))]
        dtype = rng.choice(["F32", "F32", "F32", "F64", "U8", "BF16", "F16", "I64", "BOOL", "X", "", "f32"])
        size = int(np.prod(shape)) * {"F32": 4, "F64": 8, "I64": 8, "U8": 1, "BOOL": 1}.get(dtype, 2)
        entry: dict[str, object] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        if rng.random() < 2 / (count + 1):
            entry[rng.choice(list(entry))] = rng.choice([[], [0], [-1], [2**63, 2**64], [0, 1, 2], "x", None, {}, 1e400, [[1]]])
        header[f"{number}{rng.choice(['', '.weight', chr(27) + '[31m', chr(10), 'é'])}"] = entry
        offset += size
    card = rng.choice(
        ["{}", "[]", "null", "{", '{"a":1,"a":2}', '{"format":1}', '{"format":10000000000}', "[" * 5000, "1" * 5000, "\x1b[2J"]
    )
    metadata = rng.choice(
        [{"vaectl": card}, {"vaectl": card}, {"pt": "1"}, {"\x1b[31m": "x", "a\nb": "y"}, {}, [], None, {"vaectl": 1}]
    )
    if metadata != {} or rng.random() < 0.5:
        header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    if rng.random() < 0.2:
        text = rng.choice(
            [text[:-1], text + b" " * 9, b"{" * 500, b"{}", b'{"x":' + b"[" * 100_000, text.replace(b":", b"", 1), b"{\xff}"]
        )
    length = rng.choice([len(text)] * 9 + [0, 1, len(text) + 1, 1 << 20, 2**63, 2**64 - 1])
    return length.to_bytes(8, "little") + text + bytes(rng.choice([offset, offset, offset, 0, offset + 1]))


def make_stream(rng: random.Random) -> bytes:
    """Several images and arrays one after another, with damage in or between them."""
    parts = []
    for _ in range(rng.choice([1, 2, 3, 3, 8, 50])):
        make = rng.choice([make_mode, make_mode, make_valid_png, *IMAGES.values(), small_npy, make_npy])
        part = make(rng)[:200_000]
        if rng.random() < 0.15:
            part = part[: rng.randrange(len(part) + 1)]
        parts.append(part)
        if rng.random() < 0.15:
            parts.append(rng.choice([b"\0", b"\n", bytes(1000), b"\xff" * 1000, PNG_SIGNATURE, some_bytes(rng)]))
    return b"".join(parts)


def make_valid_png(rng: random.Random) -> bytes:
    """A valid PNG of any color type and bit depth."""
    return PNG_SIGNATURE + b"".join(chunk.to_bytes() for chunk in png_chunks(rng))
