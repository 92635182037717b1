"""Valid files, changed at random: each must be read, or refused with one line, in bounded memory and time.

python tests/faults/mutations.py 100000 [SEED]
"""

import io
import json
import os
import random
import sys
import tempfile
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from support import Nursery, Result, tiny_checkpoint

MEMORY = 256 << 20
SECONDS = 10
EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1]
WORDS = [
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"[]",
    b"{}",
    b'"x"',
    b"99999999999999999999",
    b"true",
    b"(",
    b"'",
    b"\0",
    b"\n",
    b"../",
]


@dataclass(frozen=True)
class Kind:
    """A valid file, and the call that reads it from the file `input`."""

    data: bytes
    call: tuple[str, ...]


def pictures() -> dict[str, bytes]:
    """A small picture in every format, mode and depth that is read."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    image = Image.fromarray(noise)
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "png": (image, "PNG", {"exif": exif}),
        "png-palette": (image.quantize(16), "PNG", {"transparency": 3}),
        "png-16": (deep, "PNG", {}),
        "png-alpha": (image.convert("LA"), "PNG", {}),
        "png-animated": (image, "PNG", {"save_all": True, "append_images": [image.rotate(90)]}),
        "jpeg": (image, "JPEG", {"exif": exif}),
        "jpeg-progressive": (image.convert("CMYK"), "JPEG", {"progressive": True}),
        "webp": (image, "WEBP", {}),
        "webp-lossless": (image.convert("RGBA"), "WEBP", {"lossless": True}),
        "gif": (image, "GIF", {"save_all": True, "append_images": [image.rotate(90)]}),
        "bmp": (image, "BMP", {}),
        "bmp-palette": (image.quantize(16), "BMP", {}),
        "tiff": (image, "TIFF", {}),
        "tiff-lzw": (image, "TIFF", {"compression": "tiff_lzw"}),
        "tiff-jpeg": (image, "TIFF", {"compression": "jpeg"}),
    }
    found = {}
    for name, (picture, format, more) in options.items():
        picture.save(stream := io.BytesIO(), format, **more)
        found[name] = stream.getvalue()
    return found


def kinds(checkpoint: bytes) -> dict[str, Kind]:
    """Every kind of file that vaectl reads."""
    latents, stack = np.linspace(-2, 2, 6, dtype=np.float32)[:, np.newaxis], np.zeros((3, 2, 2), np.uint8)
    np.save(npy := io.BytesIO(), latents)
    np.save(fortran := io.BytesIO(), np.asfortranarray(np.zeros((4, 2, 2), ">f8")))
    np.savez(npz := io.BytesIO(), x=stack)
    np.savez_compressed(packed := io.BytesIO(), x=stack)
    with zipfile.ZipFile(other := io.BytesIO(), "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", npy.getvalue())
    encode, decode = ("encode", "input", "-c", "tiny.safetensors"), ("decode", "input", "-c", "tiny.safetensors")
    return {
        "checkpoint": Kind(checkpoint, ("sample", "-n", "2", "-o", "-", "--format", "png", "-c", "input")),
        "checkpoint-info": Kind(checkpoint, ("info", "--json", "input")),
        "npy": Kind(npy.getvalue(), decode),
        "npy-fortran": Kind(fortran.getvalue(), encode),
        "npz": Kind(npz.getvalue(), encode),
        "npz-packed": Kind(packed.getvalue(), encode),
        "npz-lzma": Kind(other.getvalue(), decode),
        **{name: Kind(data, encode) for name, data in pictures().items()},
    }


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The file with one to four changes, most of them where headers are."""
    for _ in range(rng.randint(1, 4)):
        place = min(rng.randrange(len(data) + 1), rng.randrange(len(data) + 1))
        length = rng.choice([1, 2, 4, 8, rng.randrange(1 + len(data) // 2)])
        data = data[:place] + replacement(data[place:], length, others, rng)
    return data


def replacement(rest: bytes, length: int, others: list[bytes], rng: random.Random) -> bytes:
    """What stands in place of the rest of a file: a part of it cut out, changed, doubled, or from another file."""
    kind = rng.randrange(8)
    if kind == 0:
        return b""
    if kind == 1:
        return rest[length:]
    if kind == 2:
        return bytes([rng.randrange(256)]) + rest[1:]
    if kind == 3 and rest:
        return bytes([rest[0] ^ 1 << rng.randrange(8)]) + rest[1:]
    if kind == 4:
        size, order = rng.choice([1, 2, 4, 8]), rng.choice(["little", "big"])
        return (rng.choice(EXTREMES) % 256**size).to_bytes(size, order) + rest[size:]
    if kind == 5:
        return rng.choice(WORDS) + rest[rng.choice([0, 1, 2, 4]) :]
    if kind == 6:
        donor = rng.choice(others)
        start = rng.randrange(len(donor))
        return donor[start : start + length] + rest[rng.choice([0, length]) :]
    return rest[:length] * 2 + rest[length:]


def edited(checkpoint: bytes, rng: random.Random) -> bytes:
    """A checkpoint with one value of its JSON changed, and all around it right."""
    length = int.from_bytes(checkpoint[:8], "little")
    header = json.loads(checkpoint[8 : 8 + length])
    card = json.loads(header["__metadata__"]["vaectl"])
    place = rng.choice([card, header, card["network"]])
    for _ in range(6):
        key = rng.choice(list(place) if isinstance(place, dict) else list(range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.2:
            break
        place = place[key]
    values = [0, -1, 1, 3, 2**31, 2**63, 10**30, 0.5, 1e308, "", "x", None, True, [], {}, [1], [[[]]], {"layer": "silu"}]
    place[key] = rng.choice(values)
    if header.get("__metadata__"):
        header["__metadata__"] = {"vaectl": json.dumps(card)}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + checkpoint[8 + length :]


def changed(kind: str, files: dict[str, Kind], rng: random.Random) -> bytes:
    """A valid file of this kind, changed."""
    if kind.startswith("checkpoint") and rng.random() < 0.5:
        return edited(files[kind].data, rng)
    return mutated(files[kind].data, [other.data for other in files.values()], rng)


def broken_rule(result: Result, folder: Path) -> str | None:
    """What a reader did that it must not."""
    said = result.stderr.decode(errors="replace")
    left = set(os.listdir(folder)) - {"input", "tiny.safetensors"}
    if result.returncode not in (0, 1):
        return f"exit code {result.returncode}: {said}"
    if "Traceback" in said or any(not line.startswith("vaectl ") for line in said.splitlines()):
        return said
    if result.returncode == 1 and (said.count("\n") != 1 or result.stdout):
        return f"{said!r} and {len(result.stdout)} bytes"
    return f"left {left}" if left else None


def read(kind: Kind, data: bytes, nursery: Nursery, folder: Path) -> Result:
    """Let vaectl read a file."""
    (folder / "input").write_bytes(data)
    return nursery.call(kind.call, cwd=folder, memory=MEMORY, timeout=SECONDS)


def try_many(count: int, seed: int) -> tuple[Counter[int], list[str]]:
    """How many changed files were read or refused, and each that broke the rule."""
    rng, codes, broken = random.Random(seed), Counter[int](), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nursery = Nursery(torch=False)
        checkpoint = tiny_checkpoint(folder / "tiny.safetensors").read_bytes()
        files = kinds(checkpoint)
        for number in range(count):
            kind = list(files)[number % len(files)]
            data = changed(kind, files, rng)
            result = read(files[kind], data, nursery, folder)
            codes[result.returncode] += 1
            if what := broken_rule(result, folder):
                broken.append(f"{kind}: {what}: {data.hex()}")
        nursery.close()
    return codes, broken


def main(count: int, seed: int) -> None:
    """Try so many, on two cores."""
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(try_many, (count // 2, count - count // 2), (seed, seed + 1)))
    codes = sum((codes for codes, _ in results), Counter[int]())
    broken = [line for _, lines in results for line in lines]
    print(f"{count} changed files: {codes[0]} were read, {codes[1]} refused, {len(broken)} broke the rule")
    print("\n".join(line[:2000] for line in broken))
    sys.exit(bool(broken))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
