import io
import os
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from support import FIXTURES, VAECTL, Result, environment, make_png, one_line, png_chunk, write_png

from vaectl.images import codecs
from vaectl.images.resize import ResizeSpec, resize_image

Call = Callable[..., Result]
Fails = Callable[..., str]
NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)


def encode(format: str, **options: object) -> bytes:
    Image.fromarray(NOISE).save(stream := io.BytesIO(), format, **options)
    return stream.getvalue()


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


@pytest.mark.parametrize("name", DAMAGED)
def test_an_error_names_the_damaged_image(name: str, fails: Fails, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(DAMAGED[name])
    fails("encode", name, "-c", tiny, words=(f"'{name}'",))
    fails("encode", "-c", tiny, input=DAMAGED[name], words=("stdin",))


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


def compress_zeros(count: int, repetitions: int) -> bytes:
    """What zlib decompresses to so many times `count` zeros, without compressing more than `count` of them."""
    compressor = zlib.compressobj(9, wbits=-15)
    block = compressor.compress(bytes(count)) + compressor.flush(zlib.Z_FULL_FLUSH)
    checksum = (count * repetitions % 65521) << 16 | 1
    return b"\x78\xda" + block * repetitions + compressor.flush() + checksum.to_bytes(4, "big")


def bombs() -> dict[str, bytes]:
    """Images of a few kilobytes that would fill the memory when decoded."""
    side = 9000
    zeros = compress_zeros((3 * side + 1) * 90, side // 90)
    bits = compress_zeros((60_000 // 8 + 1) * 600, 100)
    size = (9000, 8000)
    found = {
        "under.png": png(side, side, data=zeros),
        "over.png": png(60_000, 60_000, 1, 0, bits),
        "huge.png": png(2**31 - 1, 2**31 - 1),
    }
    constant = {
        "still.webp": (Image.new("RGB", size), {"lossless": True}),
        "packed.tif": (Image.new("RGB", size), {"compression": "tiff_deflate"}),
        "flat.gif": (Image.new("L", size), {}),
    }
    for name, (image, options) in constant.items():
        image.save(stream := io.BytesIO(), Image.registered_extensions()[f".{name.split('.')[1]}"], **options)
        found[name] = stream.getvalue()
    found["claims.bmp"] = b"BM" + (70).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    found["claims.bmp"] += (30_000).to_bytes(4, "little") * 2 + b"\1\0\x18\0" + bytes(24) + bytes(16)
    return found


def test_a_decompression_bomb_is_refused_before_memory_is_allocated(fails: Fails, tiny: Path, tmp_path: Path) -> None:
    for name, data in bombs().items():
        assert len(data) < 1_000_000
        (tmp_path / name).write_bytes(data)
        fails("encode", name, "-c", tiny, words=(f"'{name}'",), memory=150 << 20)


def test_an_image_of_too_many_pixels_is_refused_however_large_its_file(fails: Fails, tiny: Path) -> None:
    rows = np.random.default_rng(0).bytes(10_000 * 1251)
    data = png(10_000, 10_000, 1, 0, zlib.compress(rows, 0))
    fails("encode", "-c", tiny, input=data, words=("stdin has more than 89478485 pixels",))


def test_a_large_scanned_page_is_read(run: Call, tiny: Path, tmp_path: Path) -> None:
    page = np.zeros((5000, 7000), np.uint8)
    page[::7, ::5] = 255
    Image.fromarray(page).convert("1").save(tmp_path / "page.png")
    run("encode", "page.png", "-c", tiny)


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


def test_a_tiff_named_png_is_read_as_a_tiff(run: Call, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode("TIFF"))
    (tmp_path / "a.tif").write_bytes(encode("TIFF"))
    one, two = (run("encode", name, "-c", tiny) for name in ("a.png", "a.tif"))
    assert one.stdout == two.stdout and not one.stderr


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


def test_a_bmp_without_its_size_in_the_header_is_read(run: Call, tiny: Path) -> None:
    data = bytearray(encode("BMP"))
    data[2:6] = bytes(4)
    assert run("encode", "-c", tiny, "--skip-bad", "--format", "csv", input=bytes(data)).stdout.count(b"\n") == 2


def associated_alpha() -> bytes:
    """A gray TIFF whose pixels are multiplied by their alpha, which Pillow reads in mode La but does not write."""
    pixels = np.zeros((4, 5, 2), np.uint8)
    pixels[:2] = (100, 200)
    Image.fromarray(pixels).save(stream := io.BytesIO(), "TIFF")
    unassociated = (338).to_bytes(2, "little") + b"\3\0\1\0\0\0\2\0"
    assert unassociated in stream.getvalue()
    return stream.getvalue().replace(unassociated, unassociated[:-2] + b"\1\0")


def test_associated_alpha_is_laid_on_black(run: Call, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "alpha.tif").write_bytes(associated_alpha())
    with Image.open(tmp_path / "in" / "alpha.tif") as image:
        assert image.mode == "La"
    on_black = np.zeros((4, 5), np.uint8)
    on_black[:2] = 100
    write_png(tmp_path / "black.png", on_black)
    vae, unet = FIXTURES / "vae.safetensors", FIXTURES / "unet.safetensors"
    alpha, black = (np.frombuffer(run("encode", name, "-c", vae).stdout[128:], "<f4") for name in ("in/alpha.tif", "black.png"))
    np.testing.assert_allclose(alpha, black, atol=0.01)
    run("interpolate", "in/alpha.tif", "black.png", "-c", vae, "-o", "walk.npy")
    run("denoise", "in", "-c", unet, "-o", "out/")
    with Image.open(tmp_path / "out" / "alpha.png") as image:
        np.testing.assert_array_equal(image.getchannel("A"), [[200] * 5] * 2 + [[0] * 5] * 2)
    run("denoise", "black.png", "-c", unet, "--corrupt", "watermark:in/alpha.tif", "-o", "marked.png")
    run("train", "ae", "--data", "in", "--epochs", 1, "--hidden", 4, "--latent", 2)
    run("evaluate", "--data", "in")


def test_images_of_every_mode_that_a_tiff_has_are_read(run: Call, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "I", "I;16"):
        Image.new(mode, (5, 4)).save(tmp_path / "in" / f"{mode.replace(';', '-')}.tif")
    assert run("encode", "in", "-c", tiny, "--format", "csv").stdout.count(b"\n") == 14


def test_a_png_of_zeros_is_refused_at_its_first_chunk(run: Call, fails: Fails, tiny: Path, tmp_path: Path) -> None:
    with (tmp_path / "sparse.png").open("wb") as stream:
        stream.write(b"\x89PNG\r\n\x1a\n")
        stream.truncate(300 << 20)
    result = run("encode", "sparse.png", "-c", tiny, code=1, memory=256 << 20)  # less than the file
    one_line(result, "'sparse.png' is damaged (bad PNG chunk)")
    (tmp_path / "sparse.png").unlink()
    (tmp_path / "many.png").write_bytes(png(8, 8)[:33] + png_chunk(b"tEXt", b"") * 300_000)
    fails("encode", "many.png", "-c", tiny, words=("'many.png' has more than 262144 PNG chunks",))


@pytest.mark.parametrize("start", [png(8, 8)[:8], png(8, 8)[:33], png(8, 8)[:33] + b"\xff\xff\xff\xf0IDAT"])
def test_a_png_without_end_on_a_pipe_is_refused(start: bytes, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "start").write_bytes(start)
    command = f"cat start /dev/zero | {VAECTL} encode -c {tiny}"
    result = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, timeout=120)
    assert result.returncode == 1 and result.stderr.count(b"\n") == 1
    assert b"stdin is damaged" in result.stderr or b"stdin is larger than 536870912 bytes" in result.stderr


def progressive(scans: int) -> bytes:
    """A JPEG whose last scan is repeated."""
    Image.new("RGB", (3000, 2000)).save(stream := io.BytesIO(), "JPEG", progressive=True)
    data = stream.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * scans + data[-2:]


def test_a_jpeg_of_a_thousand_scans_is_refused(fails: Fails, run: Call, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "scans.jpg").write_bytes(progressive(1000))
    fails("encode", "scans.jpg", "-c", tiny, words=("'scans.jpg' is a JPEG with too many scans",))
    run("encode", "-c", tiny, input=progressive(20))


@pytest.mark.parametrize(("filling", "what"), [(b"\xff" * (1 << 20), "fill bytes"), (b"\xff\xe5\0\2" * 20_000, "segments")])
def test_a_jpeg_of_filling_is_refused(filling: bytes, what: str, fails: Fails, tiny: Path) -> None:
    data = encode("JPEG")
    fails("encode", "-c", tiny, input=data[:2] + filling + data[2:], words=(f"stdin is a JPEG with too many {what}",))


def test_a_jpeg_with_some_filling_is_read(run: Call, tiny: Path) -> None:
    data = encode("JPEG", comment=b"x" * 60_000)
    filled = data[:2] + b"\xff" * 100 + b"\xff\xe5\0\2" * 300 + data[2:]
    assert run("encode", "-c", tiny, input=filled).stdout == run("encode", "-c", tiny, input=data).stdout


def test_a_sheet_that_would_be_too_large_is_refused(fails: Fails, run: Call, tmp_path: Path) -> None:
    write_png(tmp_path / "wide.png", np.zeros((1, 9600, 3), np.uint8))
    write_png(tmp_path / "tall.png", np.zeros((9600, 1, 3), np.uint8))
    unet = FIXTURES / "unet.safetensors"
    words = ("2 images of up to 9600 x 9600 pixels are too large", "-o DIR/")
    for name in ("sheet.png", "walk.gif"):
        fails("denoise", "wide.png", "tall.png", "-c", unet, "-o", name, words=words, memory=512 << 20)
    fails("sample", "-c", FIXTURES / "vae.safetensors", "-n", 2000, "--scale", 100, "-o", "x.png", words=("too large", "--scale"))
    run("denoise", "wide.png", "tall.png", "-c", unet, "-o", "out/")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_gray_value_is_transparent_at_every_depth(bits: int, run: Call, tmp_path: Path) -> None:
    largest = 2**bits - 1
    gray = np.full((8, 8, 1), largest, np.int64)
    gray[:, :4] = largest // 2 if bits > 1 else 0
    data = make_png(gray, bits, [largest])
    on_black = np.where(gray == largest, 0, gray) * 255 // largest
    write_png(tmp_path / "black.png", on_black.astype(np.uint8))
    vae, unet = FIXTURES / "vae.safetensors", FIXTURES / "unet.safetensors"
    transparent, black = (run("encode", "-c", vae, input=found).stdout for found in (data, (tmp_path / "black.png").read_bytes()))
    np.testing.assert_allclose(np.frombuffer(transparent[128:], "<f4"), np.frombuffer(black[128:], "<f4"), atol=0.02)
    run("denoise", "-c", unet, "-o", "out.png", input=data)
    assert codecs.decode_photo((tmp_path / "out.png").read_bytes(), "out.png", 3)[0][0, :, 3].tolist() == [1] * 4 + [0] * 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_png_of_16_bits_is_turned_at_16_bits(orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (4, 6, 3))
    exif = Image.Exif()
    exif[274] = orientation
    found, encoding = codecs.decode_photo(make_png(pixels, 16, exif=exif.tobytes()[6:]), "x", 3)
    planes = [Image.fromarray((pixels[..., channel] / 65535).astype(np.float32)) for channel in range(3)]
    upright = [ImageOps.exif_transpose(with_exif(plane, exif)) for plane in planes]
    assert encoding.bits == 16
    np.testing.assert_allclose(found, np.stack(upright, axis=2), atol=1e-6)


def with_exif(image: Image.Image, exif: Image.Exif) -> Image.Image:
    """The image with an EXIF orientation."""
    image.getexif().update(exif)
    return image


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_an_interlaced_png_of_16_bits_is_read_in_silence(channels: int, run: Call, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (13, 11, channels))
    transparent = pixels[0, 0].tolist() if channels in (1, 3) else ()
    found = []
    for interlaced in (False, True):
        data = make_png(pixels, 16, transparent, interlaced=interlaced)
        found.append(codecs.decode_photo(data, "x", 3)[0])
        result = run("denoise", "-q", "-c", FIXTURES / "unet.safetensors", "-o", "out.png", input=data)
        assert not result.stderr
    np.testing.assert_array_equal(*found)
    np.testing.assert_array_equal(codecs.decode_photo(make_png(pixels[:1, :1], 16, interlaced=True), "x", 1)[0].shape[:2], (1, 1))


@pytest.mark.parametrize("kind", ["length", "type", "cut", "noise"])
def test_what_follows_a_damaged_image_in_a_stream_is_reported_as_lost(kind: str, run: Call, fails: Fails, tiny: Path) -> None:
    good, other = encode("PNG"), encode("JPEG")
    damaged = {
        "length": good[:33] + b"\0\0\1" + good[36:],
        "type": good[:37] + b"\0" + good[38:],
        "cut": good[:700],
        "noise": b"neither an image nor an array",
    }[kind]
    stream = good + other + damaged + good
    fails("encode", "-c", tiny, input=stream, words=("stdin",))
    result = run("encode", "-c", tiny, "--skip-bad", "--format", "csv", input=stream, code=1)
    assert [line.split(b",")[0] for line in result.stdout.splitlines()[1:]] == [b"stdin-00000", b"stdin-00001"]
    listed, lost, total = result.stderr.splitlines()
    assert listed.endswith(b": skipped")
    assert lost == b"vaectl encode: stdin: what follows the damaged image is lost"
    assert total.endswith(b"skipped 1 image that could not be read")


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_jpeg_decoded_at_a_fraction_of_its_size_resembles_the_whole(fit: str) -> None:
    waves = np.add.outer(np.sin(np.arange(1001) / 16), np.sin(np.arange(1003) / 16)) * 60 + 127
    Image.fromarray(waves.astype(np.uint8)).save(stream := io.BytesIO(), "JPEG", quality=95)
    spec = ResizeSpec((61, 55, 1), fit)
    whole = resize_image(codecs.decode_image(stream.getvalue(), "x"), spec)
    reduced = codecs.decode_resized(stream.getvalue(), "x", spec)
    assert np.abs(whole.astype(int) - reduced.astype(int)).max() <= 8


def test_a_png_of_16_bits_with_doubtful_chunks_is_read_or_refused_in_silence(run: Call, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (5, 6, 3))
    data = make_png(pixels, 16, pixels[0, 0].tolist())
    twice = data[:33] + data[33:51] + data[33:]  # two transparent colors
    method = data[:26] + b"\1" + data[27:29] + zlib.crc32(data[12:26] + b"\1" + data[27:29]).to_bytes(4, "big") + data[33:]
    unet = FIXTURES / "unet.safetensors"
    assert not run("denoise", "-q", "-c", unet, "-o", "out.png", input=twice).stderr
    one_line(run("denoise", "-c", unet, "-o", "out.png", input=method, code=1), "stdin is damaged")
