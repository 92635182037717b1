from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from vaectl.base.errors import UsageError, VaectlError
from vaectl.images.corruption import CORRUPTIONS, Kind, NumpyRandom, apply_corruptions, parse_corruptions
from vaectl.io.inputs import read_image_file
from vaectl.models.torch_engine import TorchRandom


def corrupted(spec: str, clean: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    result: NDArray[np.float32] = apply_corruptions(parse_corruptions([spec], read_image_file), clean, NumpyRandom(seed))
    return result


GRAY = np.full((4, 50, 50, 3), 0.5, np.float32)


def test_gaussian_noise_has_its_sigma_and_stays_in_range() -> None:
    assert corrupted("gaussian:0.1", GRAY).std() == pytest.approx(0.1, rel=0.05)
    white = corrupted("gaussian:0.1", np.ones_like(GRAY))
    assert white.max() == 1
    assert white.min() < 1


def test_a_mask_blackens_pixels_with_its_probability_in_all_channels() -> None:
    result = corrupted("mask:0.3", GRAY)
    assert set(np.unique(result)) == {0, 0.5}
    assert (result == 0).mean() == pytest.approx(0.3, abs=0.02)
    assert (result == result[..., :1]).all()


def test_salt_and_pepper_are_equally_likely() -> None:
    result = corrupted("salt-pepper:0.2", GRAY)
    assert (result == 0).mean() == pytest.approx(0.1, abs=0.01)
    assert (result == 1).mean() == pytest.approx(0.1, abs=0.01)
    assert (result == 0.5).mean() == pytest.approx(0.8, abs=0.02)


def logo(path: Path, mode: str = "RGBA", size: tuple[int, int] = (10, 6)) -> str:
    """The spec of a red watermark; in mode RGBA its right half is transparent."""
    image = Image.new(mode, size, (255, 0, 0))
    if mode == "RGBA":
        image.paste((0, 255, 0, 0), (size[0] // 2, 0, *size))
    image.save(path)
    return f"watermark:{path}"


def test_a_watermark_keeps_its_color_and_its_transparency(tmp_path: Path) -> None:
    result = corrupted(logo(tmp_path / "logo.png"), GRAY)
    touched = np.abs(result - 0.5).max(axis=3) > 0.01
    assert 0.02 < touched.mean() < 0.6
    assert (result[touched][:, 0] > 0.5).all() and (result[touched][:, 1] < 0.51).all()
    np.testing.assert_allclose(result[~touched], 0.5, atol=0.02)


def test_a_watermark_differs_between_images_and_stays_inside_them(tmp_path: Path) -> None:
    spec = logo(tmp_path / "logo.png", "RGB", (9, 9))
    many = corrupted(spec, np.zeros((300, 20, 20, 1), np.float32))
    heights = (many.max(axis=(2, 3)) > 0).sum(axis=1)
    assert heights.min() == 8 and heights.max() == 20  # from 0.4 of the image to all of it
    assert len(np.unique(many.max(axis=(1, 2, 3)).round(3))) > 100
    tops = (many.max(axis=(2, 3)) > 0).argmax(axis=1)
    assert len(np.unique(tops)) > 5


@pytest.mark.parametrize("size", [(2, 2), (500, 40)])
def test_a_watermark_of_any_size_is_scaled_to_the_image(size: tuple[int, int], tmp_path: Path) -> None:
    result = corrupted(logo(tmp_path / "logo.png", "RGB", size), np.zeros((5, 12, 30, 3), np.float32))
    assert result.shape == (5, 12, 30, 3)
    assert (result.max(axis=(1, 2, 3)) > 0).all()


def test_a_watermark_without_a_file_is_text() -> None:
    assert (corrupted("watermark", np.zeros((5, 28, 28, 1), np.float32)).max(axis=(1, 2, 3)) > 0.1).all()


def test_corruptions_are_applied_in_order() -> None:
    both = parse_corruptions(["mask:0.5", "gaussian:0.1"], read_image_file)
    result = apply_corruptions(both, GRAY, NumpyRandom(0))
    assert 0.2 < (result < 0.35).mean() < 0.6
    masked_last = apply_corruptions(both[::-1], GRAY, NumpyRandom(0))
    assert (masked_last == 0).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "spec",
    [
        "gaussian:0.2", "gaussian:0-0.4", "poisson:5-50", "mask:0.3", "mask:0.1-0.6", "salt-pepper:0.2", "blur:0.5-2",
        "jpeg:10-40", "camera", "camera@0.5", "watermark",
    ],
)  # fmt: skip
def test_tensors_and_arrays_are_corrupted_alike(spec: str) -> None:
    """The random numbers differ, the distribution of pixels does not; every call differs, and the same seed gives the same."""
    clean = np.random.default_rng(0).random((1500, 16, 16, 1)).astype(np.float32)
    random = TorchRandom(torch.Generator().manual_seed(0))
    found = apply_corruptions(parse_corruptions([spec], read_image_file), torch.from_numpy(clean), random).numpy()
    assert np.square(found - clean).mean() == pytest.approx(np.square(corrupted(spec, clean) - clean).mean(), rel=0.1)
    again = apply_corruptions(parse_corruptions([spec], read_image_file), torch.from_numpy(clean), random).numpy()
    assert (found != again).any()
    np.testing.assert_array_equal(corrupted(spec, clean, 3), corrupted(spec, clean, 3))


SMALL = np.random.default_rng(0).random((2000, 8, 8, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("spec", "strength"),
    [
        ("gaussian:0.1-0.3", lambda residual, clean: residual[clean == 0.5].std()),
        ("mask:0.2-0.6", lambda residual, clean: (residual != 0).mean()),
        ("salt-pepper:0.2-0.6", lambda residual, clean: (residual != 0).mean()),
    ],
)
def test_a_range_draws_a_strength_for_each_image(spec: str, strength: Callable[..., float]) -> None:
    clean = np.full((400, 40, 40, 1), 0.5, np.float32)
    residuals = corrupted(spec, clean) - clean
    found = [strength(residual, image) for residual, image in zip(residuals, clean, strict=True)]
    low, high = (float(number) for number in spec.split(":")[1].split("-"))
    assert low * 0.8 < min(found) < low * 1.3 and high * 0.7 < max(found) < high * 1.2
    assert np.mean(found) == pytest.approx((low + high) / 2, rel=0.1)


def test_shot_noise_grows_with_the_light_and_falls_with_the_peak() -> None:
    for peak in (20, 500):
        for light in (0.1, 0.5):
            clean = np.full((40, 40, 40, 1), light, np.float32)
            assert corrupted(f"poisson:{peak}", clean).std() == pytest.approx((light / peak) ** 0.5, rel=0.06)


def test_a_range_of_peaks_is_uniform_in_the_noise_it_makes() -> None:
    clean = np.full((500, 30, 30, 1), 0.25, np.float32)
    noise = corrupted("poisson:25-2500", clean).std(axis=(1, 2, 3)) * 2  # of a value of 1
    assert noise.mean() == pytest.approx((1 / 5 + 1 / 50) / 2, rel=0.08)


def test_a_blur_is_that_of_pillow() -> None:
    image = np.zeros((1, 41, 41, 3), np.float32)
    image[0, 20, 20] = 1
    found = corrupted("blur:2", image)[0, :, :, 0]
    distance = np.square(np.arange(41) - 20)
    expected = np.exp(-(distance[:, None] + distance) / 8)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-4)
    np.testing.assert_allclose(corrupted("blur:0.1-20", GRAY), GRAY, atol=1e-5)  # edges are repeated


def test_jpeg_is_that_of_the_codec() -> None:
    clean = np.asarray(Image.radial_gradient("L").resize((48, 48)), np.float32)[None, :, :, None] / 255
    errors = [np.abs(corrupted(f"jpeg:{quality}", clean) - clean).mean() for quality in (5, 30, 95)]
    assert errors[0] > 2 * errors[1] > 2 * errors[2] > 0


def test_on_crops_jpeg_blocks_begin_anywhere() -> None:
    clean = np.tile(SMALL[:1, :, :, :1], (64, 5, 5, 1))
    (jpeg,) = parse_corruptions(["jpeg:10"], read_image_file, on_crops=True)
    seen = {image[:8, :8].tobytes() for image in jpeg(clean, NumpyRandom(0))}
    assert len(seen) > 20


@pytest.mark.parametrize("spec", ["gaussian:0.1-0.2", "poisson:20", "camera"])
def test_gray_images_in_color_get_gray_noise_and_others_do_not(spec: str) -> None:
    color = corrupted(spec, SMALL[:50])
    gray = corrupted(spec, np.repeat(SMALL[:50, :, :, :1], 3, axis=3))
    assert np.abs(gray - gray.mean(axis=3, keepdims=True)).max() < 0.01
    assert np.abs((color - SMALL[:50]) - (color - SMALL[:50])[..., :1]).mean() > 0.01


def test_a_probability_leaves_other_images_as_they_are() -> None:
    many = corrupted("gaussian:0.2@0.3", SMALL)
    untouched = (many == SMALL).all(axis=(1, 2, 3))
    assert untouched.mean() == pytest.approx(0.7, abs=0.04)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gaussian", "a number up to 1, as in gaussian:0.25"),
        ("gaussian:x", "a number up to 1"),
        ("gaussian:nan", "a number up to 1"),
        ("gaussian:0.1-", "or a range LOW-HIGH"),
        ("gaussian:-0.1", "a number up to 1"),
        ("mask:0", "a number up to 1, as in mask:0.3"),
        ("mask:300", "a number up to 1"),
        ("salt-pepper:1.5", "a number up to 1"),
        ("gaussian:0.3-0.1", "has its limits swapped: use gaussian:0.1-0.3"),
        ("gaussian:0-25", "25 of 255 is gaussian:0.098"),
        ("jpeg:0", "1 to 100, as in jpeg:30"),
        ("jpeg:101", "1 to 100"),
        ("poisson:0", "0.1 to 1e+06"),
        ("blur:1000", "0.1 to 50"),
        ("camera:3", "takes no strength: use camera"),
        ("gauss:0.1", "did you mean gaussian:0.1?"),
        ("camara", "did you mean camera?"),
        ("speckle:0.2", "use gaussian:0.25, .*watermark:logo.png"),
        ("gaussian:0.1@2", "above 0 and at most 1, as in gaussian:0.1@0.5"),
        ("gaussian:0.1@0", "above 0"),
        ("gaussian:0.1@", "a number up to 1"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused_with_what_would(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("+", r"\+").replace("?", r"\?")):
        parse_corruptions([spec], read_image_file)


def test_the_documentation_lists_every_corruption() -> None:
    rows = [f"| `{kind.example}` | {kind.effect} |" for kind in CORRUPTIONS.values()]
    page = Path(__file__).parents[2] / "docs" / "denoising.md"
    assert "\n".join(["| spec | what it does |", "|---|---|", *rows, ""]) in page.read_text()


@pytest.mark.parametrize("kind", CORRUPTIONS.values(), ids=CORRUPTIONS.keys())
def test_every_example_but_that_of_a_file_is_a_spec(kind: Kind) -> None:
    example = kind.example if kind.argument != "file" else kind.example.partition(":")[0]
    for on_crops in (False, True):
        (corruption,) = parse_corruptions([example], read_image_file, on_crops=on_crops)
        assert getattr(corruption, "on_crops", None) == (on_crops if kind.knows_crops else None)


def test_a_watermark_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VaectlError, match="no such file"):
        parse_corruptions(["watermark:none.png"], read_image_file)
    (tmp_path / "x.png").write_text("hello")
    with pytest.raises(VaectlError, match="not an image"):
        parse_corruptions([f"watermark:{tmp_path / 'x.png'}"], read_image_file)


def test_on_crops_a_watermark_has_its_own_size_or_a_smaller_one(tmp_path: Path) -> None:
    (watermark,) = parse_corruptions([logo(tmp_path / "logo.png", "RGB", (30, 20))], read_image_file, on_crops=True)
    many = watermark(np.zeros((200, 90, 80, 1), np.float32), NumpyRandom(0)).max(axis=3) > 0
    heights, widths = many.any(axis=2).sum(axis=1), many.any(axis=1).sum(axis=1)
    assert (heights.min(), heights.max(), widths.min(), widths.max()) == (8, 20, 12, 30)


def test_a_watermark_larger_than_a_crop_covers_part_of_it(tmp_path: Path) -> None:
    (watermark,) = parse_corruptions([logo(tmp_path / "logo.png", "RGB", (60, 60))], read_image_file, on_crops=True)
    many = watermark(np.zeros((300, 16, 16, 3), np.float32), NumpyRandom(0)).max(axis=3) > 0
    assert many.any(axis=(1, 2)).all()
    assert many.all(axis=(1, 2)).any() and not many.all(axis=(1, 2)).all()


def test_a_strength_from_0_to_255_is_refused_with_the_right_fraction() -> None:
    with pytest.raises(UsageError, match=r"25 of 255 is gaussian:0\.098"):
        parse_corruptions(["gaussian:25"], read_image_file)


def test_without_corruptions_images_stay_clean() -> None:
    np.testing.assert_array_equal(apply_corruptions(parse_corruptions([], read_image_file), GRAY, NumpyRandom(0)), GRAY)
