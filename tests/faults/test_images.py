import io
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import Result, write_png

Call = Callable[..., Result]
Fails = Callable[..., str]
NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)


def encode(format: str, **options: object) -> bytes:
    Image.fromarray(NOISE).save(stream := io.BytesIO(), format, **options)
    return stream.getvalue()


def png_chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def png(width: int, height: int, bits: int = 8, color_type: int = 2, data: bytes = b"") -> bytes:
    """A PNG that claims any size, with `data` as its compressed pixels."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, color_type, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def flip_byte(data: bytes, index: int) -> bytes:
    return data[:index] + bytes([data[index] ^ 0xFF]) + data[index + 1 :]


DAMAGED = {
    "cut.png": encode("PNG")[:-900],
    "cut.jpg": encode("JPEG")[:-500],
    "cut.webp": encode("WEBP", lossless=True)[:-500],
    "cut.gif": encode("GIF")[:-500],
    "cut.bmp": encode("BMP")[:-500],
    "cut.tif": encode("TIFF", compression="tiff_lzw")[:-500],
    "checksum.png": flip_byte(encode("PNG"), 60),
    "header.png": flip_byte(encode("PNG"), 18),
    "flat.png": png(0, 5),
    "thin.png": png(5, 0),
    "none.png": png(5, 5),
    "start.jpg": b"\xff\xd8\xff",
    "start.webp": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
    "start.gif": b"GIF89a\0\0\0\0",
    "start.bmp": b"BM" + bytes(60),
    "start.tif": b"II*\0\xff\xff\xff\xff",
}


@pytest.mark.fault(17)
@pytest.mark.parametrize("name", DAMAGED)
def test_an_error_names_the_damaged_image(name: str, fails: Fails, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(DAMAGED[name])
    fails("encode", name, "-c", tiny, words=(f"'{name}'",))
    fails("encode", "-c", tiny, input=DAMAGED[name], words=("stdin",))


@pytest.mark.fault(17)
def test_damaged_images_in_a_folder_are_listed_and_counted_with_skip_bad(
    run: Call, fails: Fails, tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, data in DAMAGED.items():
        (folder / name).write_bytes(data)
    write_png(folder / "good.png", NOISE)
    fails(
        "encode",
        "photos",
        "-c",
        tiny,
        words=(
            "is damaged or not an image",
            "--skip-bad",
        ),
    )
    result = run("encode", "photos", "-c", tiny, "--skip-bad", "--format", "csv")
    assert [line.split(",")[0] for line in result.stdout.decode().splitlines()] == ["name", "good.png"]
    warnings = result.stderr.decode()
    assert all(f"photos/{name}'" in warnings for name in DAMAGED)
    assert f"skipped {len(DAMAGED)} images that could not be read" in warnings


def bombs() -> dict[str, bytes]:
    """Images of a few kilobytes that would fill the memory when decoded."""
    side = 9000
    zeros = zlib.compress(bytes((3 * side + 1) * side), 9)
    bits = zlib.compress(bytes((60_000 // 8 + 1) * 60_000), 9)
    constant = Image.new("RGB", (9000, 8000))
    found = {
        "under.png": png(side, side, data=zeros),
        "over.png": png(60_000, 60_000, 1, 0, bits),
        "huge.png": png(2**31 - 1, 2**31 - 1),
    }
    for name, options in {
        "still.webp": {"lossless": True},
        "packed.tif": {"compression": "tiff_deflate"},
        "flat.gif": {},
    }.items():
        constant.save(stream := io.BytesIO(), Image.registered_extensions()[f".{name.split('.')[1]}"], **options)
        found[name] = stream.getvalue()
    found["claims.bmp"] = b"BM" + (70).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    found["claims.bmp"] += (30_000).to_bytes(4, "little") * 2 + b"\1\0\x18\0" + bytes(24) + bytes(16)
    return found


@pytest.mark.fault(18)
def test_a_decompression_bomb_is_refused_before_memory_is_allocated(fails: Fails, tiny: Path, tmp_path: Path) -> None:
    for name, data in bombs().items():
        assert len(data) < 1_000_000
        (tmp_path / name).write_bytes(data)
        fails("encode", name, "-c", tiny, words=(f"'{name}'",), memory=150 << 20)


@pytest.mark.fault(18)
def test_an_image_of_too_many_pixels_is_refused_however_large_its_file(fails: Fails, tiny: Path) -> None:
    rows = np.random.default_rng(0).bytes(10_000 * 1251)
    data = png(10_000, 10_000, 1, 0, zlib.compress(rows, 0))
    fails("encode", "-c", tiny, input=data, words=("stdin has over 89478485 pixels",))


@pytest.mark.fault(18)
def test_a_large_scanned_page_is_read(run: Call, tiny: Path, tmp_path: Path) -> None:
    page = np.zeros((5000, 7000), np.uint8)
    page[::7, ::5] = 255
    Image.fromarray(page).convert("1").save(tmp_path / "page.png")
    run("encode", "page.png", "-c", tiny)


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(canary) (w) file\nshowpage\n",
        b"%PDF-1.4\n1 0 obj\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"\xc5\xd0\xd3\xc6" + bytes(40),
        b"8BPS\0\1" + bytes(40),
        b"P6\n9 9\n255\n" + bytes(243),
    ],
    ids=["EPS", "PDF", "SVG", "DOS EPS", "PSD", "PPM"],
)
def test_documents_are_refused_without_starting_a_program(data: bytes, fails: Fails, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for program in ("gs", "inkscape", "convert", "magick", "pdftoppm", "rsvg-convert"):
        (tmp_path / "bin" / program).write_text("#!/bin/sh\ntouch canary\n")
        (tmp_path / "bin" / program).chmod(0o755)
    (tmp_path / "scan.png").write_bytes(data)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    fails("encode", "scan.png", "-c", tiny, words=("'scan.png' is neither an image nor an array",), PATH=path)


@pytest.mark.fault(21)
def test_a_tiff_named_png_is_read_as_a_tiff(run: Call, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode("TIFF"))
    (tmp_path / "a.tif").write_bytes(encode("TIFF"))
    one, two = (run("encode", name, "-c", tiny) for name in ("a.png", "a.tif"))
    assert one.stdout == two.stdout and not one.stderr


@pytest.mark.fault(19)
@pytest.mark.parametrize("value", [200.0, -1.0, np.nan, np.inf])
def test_values_out_of_range_are_refused(value: float, fails: Fails, run: Call, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    write_png(folder / "a.png", NOISE)
    Image.fromarray(np.full((4, 4), value, np.float32)).save(folder / "b.tif")
    fails("encode", "deep", "-c", tiny, words=("b.tif' has values that are not in [0, 1]",))
    result = run("encode", "deep", "-c", tiny, "--skip-bad", "--format", "csv")
    assert result.stdout.decode().count("\n") == 2
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(tmp_path / "c.tif")
    fails("encode", "c.tif", "-c", tiny, words=("not in [0, 65535]",))


@pytest.mark.fault(17)
def test_a_bmp_without_its_size_in_the_header_is_read(run: Call, tiny: Path) -> None:
    data = bytearray(encode("BMP"))
    data[2:6] = bytes(4)
    assert run("encode", "-c", tiny, "--skip-bad", "--format", "csv", input=bytes(data)).stdout.count(b"\n") == 2
