"""Fuzzing: files changed at random, and files built from faulty parts. vaectl must read each, or refuse it with one line.

    python tests/faults/fuzz.py 100000 [--seed S] [--kind WORD]
    python tests/faults/fuzz.py --case KIND:NUMBER [--seed S] [--save FILE]

The second line repeats one case. `judge.py` has the rule; the slowest call and the largest memory are printed at the end.
"""

import argparse
import io
import json
import random
import sys
import tempfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

sys.path.insert(0, str(Path(__file__).parents[1]))
from judge import Call, Tally
from malformed_arrays import make_npy, make_npz, make_safetensors, make_stream, make_table
from malformed_images import IMAGES
from support import FIXTURES, TINY_PRIOR, ForkServer, MeasuredResult, write_tiny_checkpoint

from vaectl.images import codecs
from vaectl.images.metadata import Encoding

EXTREME_INTEGERS = [0, 1, *((1 << bits) - offset for bits in (7, 8, 15, 16, 31, 32, 63, 64) for offset in (0, 1))]
SPECIAL_TEXTS = [*b"""0 -1 1e999 NaN null [] {} "x" 99999999999999999999 true ( ' ../""".split(), b"\0", b"\n"]
JSON_VALUES = [0, -1, 1, 3, 2**31, 2**63, 10**30, 0.5, 1e308, "", "x", None, True, [], {}, [1], [[[]]], {"layer": "silu"}]


Change = Callable[[random.Random], bytes]


@dataclass(frozen=True)
class Kind:
    """A kind of case: how its file is made, and the commands that read it, of which each case takes one.

    `input` in a command is the file; without it, the file is its stdin.
    """

    make: Change
    commands: tuple[str, ...]


def make_images() -> dict[str, bytes]:
    """Make a small image in each format, mode and depth that vaectl reads."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    image = Image.fromarray(noise)
    image16 = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x8769] = {0x829A: 0.01}
    metadata = {
        "exif": exif.tobytes(),
        "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "dpi": (300, 300),
    }
    deep = codecs.encode_image(noise.astype(np.float32) / 255, "tif", Encoding(bits=16, exif=exif.tobytes(), dpi=(72, 72)))
    images: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "png": (image, "PNG", {"exif": exif}),
        "png-palette": (image.quantize(16), "PNG", {"transparency": 3}),
        "png-16": (image16, "PNG", {}),
        "png-alpha": (image.convert("LA"), "PNG", {}),
        "png-animated": (image, "PNG", {"save_all": True, "append_images": [image.rotate(90)]}),
        "jpeg": (image, "JPEG", {"exif": exif}),
        "jpeg-metadata": (image, "JPEG", metadata | {"xmp": b"<x/>"}),
        "jpeg-progressive": (image.convert("CMYK"), "JPEG", {"progressive": True}),
        "webp": (image, "WEBP", metadata),
        "webp-lossless": (image.convert("RGBA"), "WEBP", {"lossless": True}),
        "gif": (image, "GIF", {"save_all": True, "append_images": [image.rotate(90)]}),
        "bmp": (image, "BMP", {}),
        "bmp-palette": (image.quantize(16), "BMP", {}),
        "tiff": (image, "TIFF", metadata),
        "tiff-lzw": (image, "TIFF", {"compression": "tiff_lzw"}),
        "tiff-jpeg": (image, "TIFF", {"compression": "jpeg"}),
    }
    encoded = {}
    for name, (source, format, options) in images.items():
        source.save(stream := io.BytesIO(), format, **options)
        encoded[name] = stream.getvalue()
    return encoded | {"tiff-16": deep}


ENCODE, DECODE = "encode input -c tiny.safetensors", "decode input -c tiny.safetensors"
READ_IMAGES = (
    ENCODE,
    "encode -c tiny.safetensors",
    "encode input input --skip-bad --format csv -c tiny.safetensors",
    "denoise input -o - -c unet.safetensors",
    "denoise --compare -o - --format jpg -c unet.safetensors",
    "denoise input -o - --format tif -c unet.safetensors",
    "interpolate input input --steps 2 --format npy -c tiny.safetensors",
)
READ_STREAMS = (
    "encode -c tiny.safetensors",
    "encode --skip-bad --format csv -c tiny.safetensors",
    "interpolate -c tiny.safetensors",
)
READ_ARRAYS = (
    ENCODE,
    DECODE,
    "decode -c tiny.safetensors",
    "interpolate input input --steps 2",
    "denoise input -o - -c unet.safetensors",
)
SAMPLE = "sample -n 2 -o - --format png -c input"
READ_CHECKPOINTS = ("info input", "info --json input", SAMPLE, "encode tiny.png -c input", "denoise tiny.png -c input")


def make_valid_files(checkpoint: bytes, prior: bytes) -> dict[str, tuple[bytes, str]]:
    """Make a file of each kind that vaectl reads, and a command that reads it."""
    latents, images = np.linspace(-2, 2, 6, dtype=np.float32)[:, np.newaxis], np.zeros((3, 2, 2), np.uint8)
    np.save(npy := io.BytesIO(), latents)
    np.save(fortran := io.BytesIO(), np.asfortranarray(np.zeros((4, 2, 2), ">f8")))
    np.savez(npz := io.BytesIO(), x=images)
    np.savez_compressed(deflated := io.BytesIO(), x=images)
    with zipfile.ZipFile(lzma := io.BytesIO(), "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", npy.getvalue())
    return {
        "checkpoint": (checkpoint, SAMPLE),
        "checkpoint-prior": (prior, SAMPLE),
        "checkpoint-info": (checkpoint, "info --json input"),
        "checkpoint-format1": ((FIXTURES / "unet.safetensors").read_bytes(), "info input"),
        "npy": (npy.getvalue(), DECODE),
        "npy-fortran": (fortran.getvalue(), ENCODE),
        "npz": (npz.getvalue(), ENCODE),
        "npz-deflated": (deflated.getvalue(), ENCODE),
        "npz-lzma": (lzma.getvalue(), DECODE),
        "csv": (b'name,label,z0\n"a,\nb",one,-1.5\nc,,2e-3\n' * 2, DECODE),
        **{name: (data, ENCODE) for name, data in make_images().items()},
    }


def make_kinds() -> dict[str, Kind]:
    """All kinds of cases by name: valid files of every kind, changed at random, and files built from faulty parts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.safetensors"
        tiny, prior = (write_tiny_checkpoint(path, **arrays).read_bytes() for arrays in ({}, TINY_PRIOR))
        files = make_valid_files(tiny, prior)
    donors = [data for data, _ in files.values()]

    def changed(data: bytes, has_json: bool) -> Change:
        return lambda rng: change_json(data, rng) if has_json and rng.random() < 0.5 else change_bytes(data, donors, rng)

    return {
        **{name: Kind(changed(data, name.startswith("checkpoint")), (command,)) for name, (data, command) in files.items()},
        **{name: Kind(make, READ_IMAGES) for name, make in IMAGES.items()},
        "npy-header": Kind(make_npy, READ_ARRAYS),
        "npz-members": Kind(make_npz, READ_ARRAYS),
        "csv-table": Kind(make_table, READ_ARRAYS),
        "safetensors-header": Kind(make_safetensors, READ_CHECKPOINTS),
        "streams": Kind(make_stream, READ_STREAMS),
    }


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


def make_case(kind: str, number: int, seed: int, kinds: dict[str, Kind]) -> tuple[bytes, Call]:
    """Make the file of a case, and the call that reads it; the same at every time."""
    rng = random.Random(f"{seed}:{kind}:{number}")
    data = kinds[kind].make(rng)
    arguments = tuple(rng.choice(kinds[kind].commands).split())
    if "input" in arguments:
        return data, Call(arguments, ("'input'", "'input:"))
    return data, Call(arguments, ("stdin",), data)


def write_models(folder: Path) -> None:
    """Write what the commands read beside `input`."""
    write_tiny_checkpoint(folder / "tiny.safetensors")
    (folder / "unet.safetensors").write_bytes((FIXTURES / "unet.safetensors").read_bytes())
    Image.new("L", (2, 2)).save(folder / "tiny.png")


def run_case(data: bytes, call: Call, server: ForkServer, folder: Path) -> tuple[MeasuredResult, str | None]:
    """Run vaectl in a folder where `data` is the file `input`; return the result and which rule it broke, if any."""
    (folder / "input").write_bytes(data)
    return call.run(server, folder)


def how_to_repeat(kind: str, number: int, seed: int, call: Call) -> str:
    """The command that repeats a case, and what it calls."""
    return f"python tests/faults/fuzz.py --case {kind}:{number} --seed {seed}    # vaectl {' '.join(call.arguments)}"


def fuzz(cases: list[tuple[str, int]], seed: int, kinds: dict[str, Kind]) -> Tally:
    """Run cases, and tally how they ended."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_models(folder)
        server = ForkServer(torch=False)
        for kind, number in cases:
            data, call = make_case(kind, number, seed, kinds)
            tally.add(how_to_repeat(kind, number, seed, call), *run_case(data, call, server, folder))
        server.close()
    return tally


def repeat_case(kind: str, number: int, seed: int, save: str | None, kinds: dict[str, Kind]) -> None:
    """Run one case, print all of it, and save its file if `save` names one."""
    if save:
        Path(save).write_bytes(make_case(kind, number, seed, kinds)[0])
    tally = fuzz([(kind, number)], seed, kinds)
    print(tally.describe())
    sys.exit(bool(tally.violations))


def main() -> None:
    """Fuzz in two threads and print the outcome, or repeat one case; exit with 1 if a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=100_000, help="how many files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", default="", help="only kinds whose name contains this")
    parser.add_argument("--case", metavar="KIND:NUMBER", help="repeat one case")
    parser.add_argument("--save", metavar="FILE", help="write the file of the case here")
    options = parser.parse_args()
    kinds = make_kinds()
    if options.case:
        kind, number = options.case.split(":")
        repeat_case(kind, int(number), options.seed, options.save, kinds)
    chosen = [kind for kind in kinds if options.kind in kind]
    cases = [(chosen[index % len(chosen)], index // len(chosen)) for index in range(options.count)]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda half: fuzz(half, options.seed, kinds), (cases[::2], cases[1::2]))
    first.merge(second)
    print(first.describe())
    sys.exit(bool(first.violations))


if __name__ == "__main__":
    main()
