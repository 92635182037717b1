"""A photograph stays a photograph: what its file holds beside pixels survives denoising."""

import struct
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from vaectl.images import codecs
from vaectl.images.metadata import Metadata, set_upright

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rights>Ada</rights></x:xmpmeta>'
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
FORMATS = ["png", "jpg", "webp", "tif"]


def exif(orientation: int = 6) -> bytes:
    """EXIF of a camera, with a turn."""
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.Make] = "Camera"
    tags[ExifTags.IFD.Exif] = {int(ExifTags.Base.ExposureTime): 0.01}
    tags[ExifTags.IFD.GPSInfo] = {1: "N", 2: (47.0, 22.0, 1.5)}
    return tags.tobytes()


def write(format: str) -> bytes:
    """A photo with every kind of metadata that the format has."""
    buffer, image = BytesIO(), Image.fromarray(PIXELS)
    if format == "png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        image.save(buffer, "PNG", exif=exif(), icc_profile=SRGB, dpi=(300, 300), pnginfo=info)
    elif format == "tif":
        tags = Image.Exif()
        tags.load(exif())
        tags[700] = XMP
        image.save(buffer, "TIFF", tiffinfo=tags, icc_profile=SRGB, dpi=(300, 300))
    else:
        name = {"jpg": "JPEG", "webp": "WEBP"}[format]
        options: dict[str, Any] = {"quality": 100, "lossless": format == "webp"}
        image.save(buffer, name, exif=exif(), icc_profile=SRGB, dpi=(300, 300), xmp=XMP, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_the_profile_exif_xmp_and_resolution_are_kept(source: str, target: str) -> None:
    pixels, encoding = codecs.decode_photo(write(source), "photo", 3)
    assert (encoding.format, encoding.bits) == (source, 8)
    assert pixels.shape == (8, 6, 3)  # turned
    with warnings.catch_warnings(action="error"):
        found = Image.open(BytesIO(codecs.encode_image(pixels, target, encoding)))
        found.load()
    tags = found.getexif()
    assert found.size == (6, 8)
    assert tags.get(ExifTags.Base.Orientation, 1) == 1
    assert tags[ExifTags.Base.Make] == "Camera"
    assert tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] == pytest.approx(0.01)
    assert tags.get_ifd(ExifTags.IFD.GPSInfo)[2] == (47.0, 22.0, 1.5)
    assert found.info["icc_profile"] == SRGB
    assert found.info["xmp"] == XMP
    if "webp" not in (source, target):  # which has no place for it but EXIF
        assert found.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("target", ["png", "tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_tiff_of_16_bits_in_color_is_read_and_written_at_16_bits(channels: int, target: str) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (9, 7, channels)).astype(np.uint16)
    buffer = BytesIO()
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    tifffile.imwrite(buffer, deep, photometric="rgb", compression="zlib", iccprofile=SRGB, resolution=(300, 300), **extra)
    pixels, encoding = codecs.decode_photo(buffer.getvalue(), "photo", 3)
    assert encoding.bits == 16
    written = codecs.encode_image(pixels, target, encoding)
    found: NDArray[Any] = imagecodecs.png_decode(written) if target == "png" else tifffile.imread(BytesIO(written))
    np.testing.assert_array_equal(found, deep)
    again = Image.open(BytesIO(written))
    assert again.size == (7, 9)
    assert again.info["icc_profile"] == SRGB and again.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    np.testing.assert_allclose(codecs.decode_photo(written, "again", 3)[0], pixels, atol=1e-6)


@pytest.mark.parametrize(("planar", "byteorder"), [("contig", ">"), ("separate", "<")])
def test_tiffs_of_16_bits_differ_in_layout_and_byte_order(planar: str, byteorder: Any) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (9, 7, 3)).astype(np.uint16)
    buffer = BytesIO()
    stored = np.moveaxis(deep, 2, 0) if planar == "separate" else deep
    tifffile.imwrite(buffer, stored, photometric="rgb", planarconfig=planar, byteorder=byteorder)
    np.testing.assert_allclose(codecs.decode_photo(buffer.getvalue(), "photo", 3)[0], deep / 65535, atol=1e-6)


def test_associated_alpha_is_divided_out() -> None:
    straight = np.array([[[60000, 100, 30000, 32768], [1, 2, 3, 0]]], np.uint16)
    stored = straight.copy()
    stored[..., :3] = np.rint(straight[..., :3] * (straight[..., 3:] / 65535))
    buffer = BytesIO()
    tifffile.imwrite(buffer, stored, photometric="rgb", extrasamples=["assocalpha"])
    found = codecs.decode_photo(buffer.getvalue(), "photo", 3)[0] * 65535
    np.testing.assert_allclose(found[0, 0], straight[0, 0], atol=2)


def test_gray_with_alpha_at_16_bits_is_written_as_tiff_in_color() -> None:
    pixels = np.random.default_rng(0).random((4, 5, 2)).astype(np.float32)
    found, encoding = codecs.decode_photo(codecs.encode_image(pixels, "tif", Metadata(bits=16)), "photo", 1)
    assert encoding.bits == 16
    np.testing.assert_allclose(found, pixels, atol=1e-4)


def cmyk(profile: bytes) -> bytes:
    """A CMYK JPEG in light cyan."""
    buffer = BytesIO()
    Image.new("CMYK", (16, 16), (100, 0, 0, 0)).save(buffer, "JPEG", icc_profile=profile, quality=100)
    return buffer.getvalue()


@pytest.mark.parametrize("profile", [b"", SRGB, b"\0" * 200])
def test_a_cmyk_photo_becomes_rgb_without_its_profile(profile: bytes) -> None:
    pixels, _ = codecs.decode_photo(cmyk(profile), "photo", 3)
    np.testing.assert_allclose(pixels[8, 8], np.array([155, 255, 255]) / 255, atol=0.02)
    assert "icc_profile" not in Image.open(BytesIO(codecs.encode_image(pixels, "jpg", Metadata(icc_profile=cmyk_profile())))).info


def cmyk_profile() -> bytes:
    """The header of a CMYK profile; nobody can make a whole one here."""
    return SRGB[:16] + b"CMYK" + SRGB[20:]


def test_a_profile_of_colors_is_not_written_into_a_gray_image() -> None:
    pixels, encoding = codecs.decode_photo(write("png"), "photo", 1)
    assert "icc_profile" not in Image.open(BytesIO(codecs.encode_image(pixels, "png", encoding))).info


@pytest.mark.parametrize(
    "damage", [b"", b"Exif\0\0", b"Exif\0\0II", b"Exif\0\0XX*\0\x08\0\0\0\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff\1\0"]
)
def test_damaged_exif_is_left_out(damage: bytes) -> None:
    assert set_upright(damage) is None


def test_only_the_turn_of_exif_changes() -> None:
    before, after = exif(6), set_upright(exif(6))
    assert after is not None and len(after) == len(before)
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1


@pytest.mark.parametrize("target", FORMATS)
def test_metadata_too_large_for_a_format_are_left_out(target: str) -> None:
    note = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x9286, 7, 70_000, 26) + b"\0\0\0\0" + b"x" * 70_000
    pixels = np.zeros((4, 4, 3), np.float32)
    written = codecs.encode_image(pixels, target, Metadata(exif=note, xmp=b"<x>" + b" " * 70_000 + b"</x>", dpi=(65_535, 1)))
    assert Image.open(BytesIO(written)).size == (4, 4)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_a_gray_photo_that_was_denoised_in_color_is_written_in_gray(mode: str) -> None:
    buffer = BytesIO()
    Image.new(mode, (5, 4), 1 if mode == "1" else (99, 50) if mode == "LA" else 99).save(buffer, "PNG")
    pixels, encoding = codecs.decode_photo(buffer.getvalue(), "photo", 3)
    assert pixels.shape[2] == (4 if mode == "LA" else 3)
    written = Image.open(BytesIO(codecs.encode_image(pixels, "png", encoding)))
    assert written.mode == {"1": "L"}.get(mode, mode)
    np.testing.assert_array_equal(np.asarray(written), np.asarray(Image.open(buffer).convert(written.mode)))


def test_a_small_file_of_each_format_is_read_back(tmp_path: Path) -> None:
    for format in FORMATS:
        for channels in (1, 2, 3, 4):
            pixels = np.full((1, 1, channels), 0.6, np.float32)
            colors = channels if channels < 3 else 3
            found = codecs.decode_photo(codecs.encode_image(pixels, format), "photo", colors - (colors == 2))[0]
            np.testing.assert_allclose(found[..., 0], 0.6, atol=0.01)
