import warnings
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile

from vaectl.errors import Remark, VaectlError
from vaectl.frame import Frame
from vaectl.io import codecs, pictures

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def saved(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def read(data: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return pictures.fit(codecs.decode(data, "x"), Frame(shape))


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_lossless_formats_give_the_pixels_that_went_in(format: str) -> None:
    data = saved(Image.fromarray(RAMP), format, **({"lossless": True} if format == "WEBP" else {}))
    np.testing.assert_allclose(read(data, (6, 8, 1))[..., 0], RAMP / 255, atol=1.01 / 255)


@pytest.mark.fault(19)
def test_sixteen_bits_keep_their_depth() -> None:
    ramp = np.linspace(0, 65535, 48, dtype=np.uint16).reshape(6, 8)
    np.testing.assert_allclose(read(saved(Image.fromarray(ramp)), (6, 8, 1))[..., 0], ramp / 65535, atol=1e-6)
    np.testing.assert_allclose(read(saved(Image.fromarray(ramp)), (6, 8, 3))[..., 2], ramp / 65535, atol=1e-6)


@pytest.mark.fault(19)
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK"])
def test_every_mode_comes_out_as_pillow_shows_it(mode: str) -> None:
    image = Image.fromarray(RAMP).convert("RGB").convert(mode)
    expected = np.asarray(image.convert("RGB"), np.float32) / 255
    data = saved(image, "TIFF" if mode == "CMYK" else "PNG")
    np.testing.assert_allclose(read(data, (6, 8, 3)), expected, atol=2 / 255)


@pytest.mark.fault(19)
@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_transparent_pixels_are_black_whatever_colour_they_hide(mode: str) -> None:
    if mode == "P":
        image = Image.new("P", (4, 4), 1)
        image.putpalette([0, 0, 0, 255, 255, 255])
        data = saved(image, transparency=1)
    else:
        data = saved(Image.new(mode, (4, 4), (255, 0) if mode == "LA" else (255, 255, 255, 0)))
    assert read(data, (4, 4, 1)).max() == 0


@pytest.mark.fault(19)
@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_turns_are_undone(turn: int) -> None:
    exif = Image.Exif()
    exif[274] = turn
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
    expected = undo[turn](RAMP)
    found = read(saved(Image.fromarray(RAMP), exif=exif), (*expected.shape, 1))
    np.testing.assert_allclose(found[..., 0], expected / 255, atol=1e-6)


def test_the_centre_is_cut_to_the_proportions_and_resized() -> None:
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 255
    assert read(saved(Image.fromarray(wide)), (10, 10, 1)).min() > 0.9


def test_colour_becomes_grey_by_brightness() -> None:
    green = read(saved(Image.new("RGB", (3, 3), (0, 255, 0))), (3, 3, 1))
    assert green[0, 0, 0] == pytest.approx(0.587, abs=0.01)


@pytest.mark.fault(20)
def test_an_animation_gives_its_first_frame_and_says_so() -> None:
    frames = [Image.new("L", (4, 4), value) for value in (255, 0)]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.warns(Remark, match="first frame"):
        assert read(data, (4, 4, 1)).min() == 1


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_damaged_pictures_are_refused(format: str) -> None:
    data = saved(Image.effect_noise((64, 64), 90).convert("RGB"), format)
    with pytest.raises(VaectlError, match="x is damaged"):
        codecs.decode(data[: len(data) // 2], "x")


def test_other_formats_are_never_opened() -> None:
    svg, eps = b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    for data in (svg, eps, b"P6\n1 1\n255\nabc"):
        with pytest.raises(VaectlError, match="no picture"):
            codecs.decode(data, "x")


def test_a_picture_of_too_many_pixels_is_refused_without_decoding_it() -> None:
    data = saved(Image.new("1", (12000, 12000)))
    with warnings.catch_warnings(), pytest.raises(VaectlError, match="has over 89478485 pixels"):
        warnings.simplefilter("error")
        codecs.decode(data, "x")


@pytest.mark.parametrize("format", ["png", "webp", "jpg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_can_be_read_again(format: str, channels: int) -> None:
    picture = np.linspace(0, 1, 64 * channels, dtype=np.float32).reshape(8, 8, channels)
    found = read(codecs.encode(picture, format), (8, 8, channels))
    np.testing.assert_allclose(found, picture, atol=0.05 if format == "jpg" else 0.5 / 255 + 1e-6)


def test_a_picture_too_large_for_its_format_is_told() -> None:
    with pytest.raises(VaectlError, match="20000 x 2 does not go into webp"):
        codecs.encode(np.zeros((2, 20000, 1), np.float32), "webp")


def test_too_little_memory_is_not_taken_for_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*values: Any) -> None:
        raise MemoryError

    data = saved(Image.new("L", (8, 8)))
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(VaectlError, match="not enough memory to read x"):
        codecs.decode(data, "x")
