import warnings
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from vaectl.base.arrays import Array
from vaectl.base.errors import VaectlError, VaectlWarning
from vaectl.images import codecs, resize
from vaectl.images.resize import ResizeSpec

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def save(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def read(data: bytes, image_shape: tuple[int, ...]) -> Array:
    return resize.to_pixels(resize.resize_image(codecs.decode_image(data, "x"), ResizeSpec(image_shape)))


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_lossless_formats_keep_every_pixel(format: str) -> None:
    data = save(Image.fromarray(RAMP), format, **({"lossless": True} if format == "WEBP" else {}))
    np.testing.assert_allclose(read(data, (6, 8, 1))[..., 0], RAMP / 255, atol=1.01 / 255)


def test_16_bit_images_keep_their_depth() -> None:
    ramp = np.linspace(0, 65535, 48, dtype=np.uint16).reshape(6, 8)
    np.testing.assert_allclose(read(save(Image.fromarray(ramp)), (6, 8, 1))[..., 0], ramp / 65535, atol=1e-6)
    np.testing.assert_allclose(read(save(Image.fromarray(ramp)), (6, 8, 3))[..., 2], ramp / 65535, atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK"])
def test_every_mode_is_read_as_pillow_shows_it(mode: str) -> None:
    image = Image.fromarray(RAMP).convert("RGB").convert(mode)
    expected = np.asarray(image.convert("RGB"), np.float32) / 255
    data = save(image, "TIFF" if mode == "CMYK" else "PNG")
    np.testing.assert_allclose(read(data, (6, 8, 3)), expected, atol=2 / 255)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_transparent_pixels_are_black_whatever_color_they_hide(mode: str) -> None:
    if mode == "P":
        image = Image.new("P", (4, 4), 1)
        image.putpalette([0, 0, 0, 255, 255, 255])
        data = save(image, transparency=1)
    else:
        data = save(Image.new(mode, (4, 4), (255, 0) if mode == "LA" else (255, 255, 255, 0)))
    assert read(data, (4, 4, 1)).max() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_made_upright_by_their_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    undo = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a.T, 2),
        8: np.rot90,
    }
    expected = undo[orientation](RAMP)
    found = read(save(Image.fromarray(RAMP), exif=exif), (*expected.shape, 1))
    np.testing.assert_allclose(found[..., 0], expected / 255, atol=1e-6)


def test_images_are_center_cropped_to_the_aspect_ratio_and_resized() -> None:
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 255
    assert read(save(Image.fromarray(wide)), (10, 10, 1)).min() > 0.9


def test_color_becomes_gray_by_luminance() -> None:
    green = read(save(Image.new("RGB", (3, 3), (0, 255, 0))), (3, 3, 1))
    assert green[0, 0, 0] == pytest.approx(0.587, abs=0.01)


def test_the_first_frame_of_an_animation_is_read_with_a_warning() -> None:
    frames = [Image.new("L", (4, 4), value) for value in (255, 0)]
    with pytest.warns(VaectlWarning, match="holds several images: only the first is read"):
        assert read(save(frames[0], "TIFF", save_all=True, append_images=frames[1:]), (4, 4, 1)).min() == 1
    data = save(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.warns(VaectlWarning, match="first frame"):
        assert read(data, (4, 4, 1)).min() == 1


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_truncated_images_are_refused(format: str) -> None:
    data = save(Image.effect_noise((64, 64), 90).convert("RGB"), format)
    with pytest.raises(VaectlError, match="x is damaged"):
        codecs.decode_image(data[: len(data) // 2], "x")


def test_other_formats_are_refused() -> None:
    svg, eps = b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    for data in (svg, eps, b"P6\n1 1\n255\nabc"):
        with pytest.raises(VaectlError, match="not an image"):
            codecs.decode_image(data, "x")


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    data = save(Image.new("1", (12000, 12000)))
    with warnings.catch_warnings(), pytest.raises(VaectlError, match="has more than 89478485 pixels"):
        warnings.simplefilter("error")
        codecs.decode_image(data, "x")


@pytest.mark.parametrize("format", ["png", "webp", "jpg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_encoded_images_can_be_decoded(format: str, channels: int) -> None:
    image = np.linspace(0, 1, 64 * channels, dtype=np.float32).reshape(8, 8, channels)
    found = read(codecs.encode_image(image, format), (8, 8, channels))
    np.testing.assert_allclose(found, image, atol=0.05 if format == "jpg" else 0.5 / 255 + 1e-6)


def test_an_image_too_large_for_its_format_is_refused() -> None:
    with pytest.raises(VaectlError, match="20000 x 2 is too large for webp"):
        codecs.encode_image(np.zeros((2, 20000, 1), np.float32), "webp")


def test_running_out_of_memory_is_not_reported_as_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*values: Any) -> None:
        raise MemoryError

    data = save(Image.new("L", (8, 8)))
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(VaectlError, match="not enough memory to read x"):
        codecs.decode_image(data, "x")
