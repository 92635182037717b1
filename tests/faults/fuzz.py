"""Fuzzing: valid files of all kinds, changed at random. vaectl must read each, or exit with 1 and one line on stderr.

    python tests/faults/fuzz.py 100000 [SEED]

Memory and time are bounded; a file that breaks a rule is printed in hexadecimal.
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
from support import FORMAT1, ForkServer, Result, write_tiny_checkpoint

MAX_MEMORY_BYTES = 256 << 20
MAX_SECONDS = 10
EXTREME_INTEGERS = [0, 1, *((1 << bits) - offset for bits in (7, 8, 15, 16, 31, 32, 63, 64) for offset in (0, 1))]
SPECIAL_TEXTS = [*b"""0 -1 1e999 NaN null [] {} "x" 99999999999999999999 true ( ' ../""".split(), b"\0", b"\n"]
JSON_VALUES = [0, -1, 1, 3, 2**31, 2**63, 10**30, 0.5, 1e308, "", "x", None, True, [], {}, [1], [[[]]], {"layer": "silu"}]


@dataclass(frozen=True)
class ValidFile:
    """The bytes of a valid file, and the arguments with which vaectl reads them from a file named `input`."""

    data: bytes
    arguments: tuple[str, ...]


def make_images() -> dict[str, bytes]:
    """Make a small image in each format, mode and depth that vaectl reads."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    image = Image.fromarray(noise)
    image16 = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    images: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "png": (image, "PNG", {"exif": exif}),
        "png-palette": (image.quantize(16), "PNG", {"transparency": 3}),
        "png-16": (image16, "PNG", {}),
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
    encoded = {}
    for name, (source, format, options) in images.items():
        source.save(stream := io.BytesIO(), format, **options)
        encoded[name] = stream.getvalue()
    return encoded


def make_valid_files(checkpoint: bytes) -> dict[str, ValidFile]:
    """Make a file of each kind that vaectl reads."""
    latents, images = np.linspace(-2, 2, 6, dtype=np.float32)[:, np.newaxis], np.zeros((3, 2, 2), np.uint8)
    np.save(npy := io.BytesIO(), latents)
    np.save(fortran := io.BytesIO(), np.asfortranarray(np.zeros((4, 2, 2), ">f8")))
    np.savez(npz := io.BytesIO(), x=images)
    np.savez_compressed(deflated := io.BytesIO(), x=images)
    with zipfile.ZipFile(lzma := io.BytesIO(), "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", npy.getvalue())
    encode, decode = ("encode", "input", "-c", "tiny.safetensors"), ("decode", "input", "-c", "tiny.safetensors")
    return {
        "checkpoint": ValidFile(checkpoint, ("sample", "-n", "2", "-o", "-", "--format", "png", "-c", "input")),
        "checkpoint-info": ValidFile(checkpoint, ("info", "--json", "input")),
        "checkpoint-format1": ValidFile((FORMAT1 / "unet.safetensors").read_bytes(), ("info", "input")),
        "npy": ValidFile(npy.getvalue(), decode),
        "npy-fortran": ValidFile(fortran.getvalue(), encode),
        "npz": ValidFile(npz.getvalue(), encode),
        "npz-deflated": ValidFile(deflated.getvalue(), encode),
        "npz-lzma": ValidFile(lzma.getvalue(), decode),
        **{name: ValidFile(data, encode) for name, data in make_images().items()},
    }


def change_file(kind: str, files: dict[str, ValidFile], rng: random.Random) -> bytes:
    """Change a valid file of this kind at random."""
    if kind.startswith("checkpoint") and rng.random() < 0.5:
        return change_json(files[kind].data, rng)
    return change_bytes(files[kind].data, [other.data for other in files.values()], rng)


def change_bytes(data: bytes, donors: list[bytes], rng: random.Random) -> bytes:
    """Make one to four changes, most of them near the start, where headers are."""
    for _ in range(rng.randint(1, 4)):
        start = min(rng.randrange(len(data) + 1), rng.randrange(len(data) + 1))
        length = rng.choice([1, 2, 4, 8, rng.randrange(1 + len(data) // 2)])
        data = data[:start] + change_start(data[start:], length, donors, rng)
    return data


def change_start(data: bytes, length: int, donors: list[bytes], rng: random.Random) -> bytes:
    """Change the first bytes: remove, flip, overwrite or repeat them, or take some from another file."""
    match rng.randrange(8):
        case 0:
            return b""
        case 1:
            return data[length:]
        case 2:
            return bytes([rng.randrange(256)]) + data[1:]
        case 3 if data:
            return bytes([data[0] ^ 1 << rng.randrange(8)]) + data[1:]
        case 4:
            size = rng.choice([1, 2, 4, 8])
            integer = (rng.choice(EXTREME_INTEGERS) % (1 << 8 * size)).to_bytes(size, "little")
            return rng.choice([integer, integer[::-1]]) + data[size:]
        case 5:
            return rng.choice(SPECIAL_TEXTS) + data[rng.choice([0, 1, 2, 4]) :]
        case 6:
            donor = rng.choice(donors)
            start = rng.randrange(len(donor))
            return donor[start : start + length] + data[rng.choice([0, length]) :]
        case _:
            return data[:length] * 2 + data[length:]


def change_json(checkpoint: bytes, rng: random.Random) -> bytes:
    """Change one value in the JSON of a checkpoint, which is valid otherwise."""
    length = int.from_bytes(checkpoint[:8], "little")
    header = json.loads(checkpoint[8 : 8 + length])
    card = json.loads(header["__metadata__"]["vaectl"])
    parent = rng.choice([card, header, card["network"]])
    for _ in range(6):
        key = rng.choice(list(parent) if isinstance(parent, dict) else list(range(len(parent))))
        if not isinstance(parent[key], dict | list) or not parent[key] or rng.random() < 0.2:
            break
        parent = parent[key]
    parent[key] = rng.choice(JSON_VALUES)
    if header.get("__metadata__"):
        header["__metadata__"] = {"vaectl": json.dumps(card)}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + checkpoint[8 + length :]


def run_vaectl(arguments: tuple[str, ...], data: bytes, server: ForkServer, folder: Path) -> Result:
    """Run vaectl in a folder where `data` is the file `input`."""
    (folder / "input").write_bytes(data)
    return server.call(arguments, cwd=folder, memory=MAX_MEMORY_BYTES, timeout=MAX_SECONDS)


def find_violation(result: Result, folder: Path) -> str | None:
    """Return which rule vaectl broke, if it broke one."""
    message = result.stderr.decode(errors="replace")
    if result.returncode not in (0, 1):
        return f"exit code {result.returncode}: {message}"
    if "Traceback" in message or any(not line.startswith("vaectl ") for line in message.splitlines()):
        return message
    if result.returncode == 1 and (message.count("\n") != 1 or result.stdout):
        return f"{message!r} on stderr and {len(result.stdout)} bytes on stdout"
    leftovers = set(os.listdir(folder)) - {"input", "tiny.safetensors"}
    return f"files left behind: {leftovers}" if leftovers else None


def fuzz(count: int, seed: int) -> tuple[Counter[int], list[str]]:
    """Try changed files of all kinds in turn; return how often each exit code came, and the violations."""
    rng, exit_codes, violations = random.Random(seed), Counter[int](), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = ForkServer(torch=False)
        files = make_valid_files(write_tiny_checkpoint(folder / "tiny.safetensors").read_bytes())
        for index in range(count):
            kind = list(files)[index % len(files)]
            data = change_file(kind, files, rng)
            result = run_vaectl(files[kind].arguments, data, server, folder)
            exit_codes[result.returncode] += 1
            if violation := find_violation(result, folder):
                violations.append(f"{kind}: {violation}: {data.hex()}")
        server.close()
    return exit_codes, violations


def main(count: int, seed: int) -> None:
    """Fuzz in two threads and print the outcome; exit with 1 if a rule was broken."""
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(fuzz, (count // 2, count - count // 2), (seed, seed + 1)))
    exit_codes = sum((codes for codes, _ in results), Counter[int]())
    violations = [line for _, lines in results for line in lines]
    print(f"{count} changed files: {exit_codes[0]} read, {exit_codes[1]} refused, {len(violations)} violations")
    print("\n".join(line[:2000] for line in violations))
    sys.exit(bool(violations))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
