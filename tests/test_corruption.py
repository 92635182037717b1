from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from vaectl.corruption import NumpyRandom, apply_corruptions, parse_corruptions
from vaectl.errors import UsageError, VaectlError
from vaectl.networks.torch import TorchRandom


def corrupted(spec: str, clean: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    result: NDArray[np.float32] = apply_corruptions(parse_corruptions([spec]), clean, NumpyRandom(seed))
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
    both = parse_corruptions(["mask:0.5", "gaussian:0.1"])
    result = apply_corruptions(both, GRAY, NumpyRandom(0))
    assert 0.2 < (result < 0.35).mean() < 0.6
    masked_last = apply_corruptions(both[::-1], GRAY, NumpyRandom(0))
    assert (masked_last == 0).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("spec", ["gaussian:0.2", "mask:0.3", "salt-pepper:0.2", "watermark"])
def test_tensors_and_arrays_are_corrupted_alike(spec: str) -> None:
    """The random numbers differ, the distribution of pixels does not; every call differs, and the same seed gives the same."""
    clean = np.random.default_rng(0).random((3000, 16, 16, 1)).astype(np.float32)
    random = TorchRandom(torch.Generator().manual_seed(0), torch.float32)
    found = apply_corruptions(parse_corruptions([spec]), torch.from_numpy(clean), random).numpy()
    assert np.square(found - clean).mean() == pytest.approx(np.square(corrupted(spec, clean) - clean).mean(), rel=0.1)
    again = apply_corruptions(parse_corruptions([spec]), torch.from_numpy(clean), random).numpy()
    assert (found != again).any()
    np.testing.assert_array_equal(corrupted(spec, clean, 3), corrupted(spec, clean, 3))


@pytest.mark.parametrize(
    "spec", ["gaussian", "gaussian:x", "mask:0", "mask:-1", "mask:300", "gaussian:nan", "salt-pepper:1.5", "blur:0.2"]
)
def test_an_unknown_corruption_is_refused_with_examples(spec: str) -> None:
    with pytest.raises(UsageError, match=r"gaussian:0\.25.*watermark:IMAGE"):
        parse_corruptions([spec])


def test_a_watermark_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VaectlError, match="no such file"):
        parse_corruptions(["watermark:none.png"])
    (tmp_path / "x.png").write_text("hello")
    with pytest.raises(VaectlError, match="not an image"):
        parse_corruptions([f"watermark:{tmp_path / 'x.png'}"])


def test_on_crops_a_watermark_has_its_own_size_or_a_smaller_one(tmp_path: Path) -> None:
    (watermark,) = parse_corruptions([logo(tmp_path / "logo.png", "RGB", (30, 20))], on_crops=True)
    many = watermark(np.zeros((200, 90, 80, 1), np.float32), NumpyRandom(0)).max(axis=3) > 0
    heights, widths = many.any(axis=2).sum(axis=1), many.any(axis=1).sum(axis=1)
    assert (heights.min(), heights.max(), widths.min(), widths.max()) == (8, 20, 12, 30)


def test_a_watermark_larger_than_a_crop_covers_part_of_it(tmp_path: Path) -> None:
    (watermark,) = parse_corruptions([logo(tmp_path / "logo.png", "RGB", (60, 60))], on_crops=True)
    many = watermark(np.zeros((300, 16, 16, 3), np.float32), NumpyRandom(0)).max(axis=3) > 0
    assert many.any(axis=(1, 2)).all()
    assert many.all(axis=(1, 2)).any() and not many.all(axis=(1, 2)).all()


def test_a_strength_from_0_to_255_is_refused_with_the_right_fraction() -> None:
    with pytest.raises(UsageError, match=r"25 of 255 is gaussian:0\.098"):
        parse_corruptions(["gaussian:25"])


def test_without_corruptions_images_stay_clean() -> None:
    np.testing.assert_array_equal(apply_corruptions(parse_corruptions([]), GRAY, NumpyRandom(0)), GRAY)
