from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from vaectl import corruption
from vaectl.corruption import NumpyDraw
from vaectl.engines.torch import TorchDraw
from vaectl.errors import UsageError, VaectlError


def spoiled(spec: str, clean: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    result: NDArray[np.float32] = corruption.applied(corruption.parse([spec]), clean, NumpyDraw(seed))
    return result


GREY = np.full((4, 50, 50, 3), 0.5, np.float32)


def test_gaussian_noise_has_its_strength_and_stays_in_range() -> None:
    assert spoiled("gaussian:0.1", GREY).std() == pytest.approx(0.1, rel=0.05)
    white = spoiled("gaussian:0.1", np.ones_like(GREY))
    assert white.max() == 1
    assert white.min() < 1


def test_a_mask_blackens_its_share_in_all_channels() -> None:
    result = spoiled("mask:0.3", GREY)
    assert set(np.unique(result)) == {0, 0.5}
    assert (result == 0).mean() == pytest.approx(0.3, abs=0.02)
    assert (result == result[..., :1]).all()


def test_salt_and_pepper_are_equally_likely() -> None:
    result = spoiled("salt-pepper:0.2", GREY)
    assert (result == 0).mean() == pytest.approx(0.1, abs=0.01)
    assert (result == 1).mean() == pytest.approx(0.1, abs=0.01)
    assert (result == 0.5).mean() == pytest.approx(0.8, abs=0.02)


def logo(path: Path, mode: str = "RGBA", size: tuple[int, int] = (10, 6)) -> str:
    """A red mark whose right half is transparent."""
    image = Image.new(mode, size, (255, 0, 0))
    if mode == "RGBA":
        image.paste((0, 255, 0, 0), (size[0] // 2, 0, *size))
    image.save(path)
    return f"watermark:{path}"


def test_a_watermark_lies_over_with_its_colour_and_lets_the_rest_through(tmp_path: Path) -> None:
    result = spoiled(logo(tmp_path / "logo.png"), GREY)
    touched = np.abs(result - 0.5).max(axis=3) > 0.01
    assert 0.02 < touched.mean() < 0.6
    assert (result[touched][:, 0] > 0.5).all() and (result[touched][:, 1] < 0.51).all()
    np.testing.assert_allclose(result[~touched], 0.5, atol=0.02)


def test_a_watermark_differs_from_picture_to_picture_and_stays_inside(tmp_path: Path) -> None:
    mark = logo(tmp_path / "logo.png", "RGB", (9, 9))
    many = spoiled(mark, np.zeros((300, 20, 20, 1), np.float32))
    heights = (many.max(axis=(2, 3)) > 0).sum(axis=1)
    assert heights.min() == 8 and heights.max() == 20  # from 0.4 of the picture to all of it
    assert len(np.unique(many.max(axis=(1, 2, 3)).round(3))) > 100
    tops = (many.max(axis=(2, 3)) > 0).argmax(axis=1)
    assert len(np.unique(tops)) > 5


@pytest.mark.parametrize("size", [(2, 2), (500, 40)])
def test_a_mark_of_any_size_is_brought_to_the_picture_s(size: tuple[int, int], tmp_path: Path) -> None:
    result = spoiled(logo(tmp_path / "logo.png", "RGB", size), np.zeros((5, 12, 30, 3), np.float32))
    assert result.shape == (5, 12, 30, 3)
    assert (result.max(axis=(1, 2, 3)) > 0).all()


def test_without_a_picture_the_mark_is_letters() -> None:
    assert (spoiled("watermark", np.zeros((5, 28, 28, 1), np.float32)).max(axis=(1, 2, 3)) > 0.1).all()


def test_corruptions_are_applied_in_their_order() -> None:
    both = corruption.parse(["mask:0.5", "gaussian:0.1"])
    result = corruption.applied(both, GREY, NumpyDraw(0))
    assert 0.2 < (result < 0.35).mean() < 0.6
    masked_last = corruption.applied(both[::-1], GREY, NumpyDraw(0))
    assert (masked_last == 0).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("spec", ["gaussian:0.2", "mask:0.3", "salt-pepper:0.2", "watermark"])
def test_tensors_are_spoiled_as_arrays_are(spec: str) -> None:
    """Other random numbers, the same distribution of pixels; drawn anew at every call, and the same again by the same seed."""
    clean = np.random.default_rng(0).random((3000, 16, 16, 1)).astype(np.float32)
    draw = TorchDraw(torch.Generator().manual_seed(0), torch.float32)
    found = corruption.applied(corruption.parse([spec]), torch.from_numpy(clean), draw).numpy()
    assert np.square(found - clean).mean() == pytest.approx(np.square(spoiled(spec, clean) - clean).mean(), rel=0.1)
    again = corruption.applied(corruption.parse([spec]), torch.from_numpy(clean), draw).numpy()
    assert (found != again).any()
    np.testing.assert_array_equal(spoiled(spec, clean, 3), spoiled(spec, clean, 3))


@pytest.mark.parametrize("spec", ["gaussian", "gaussian:x", "mask:0", "mask:-1", "gaussian:nan", "salt-pepper:1.5", "blur:0.2"])
def test_what_is_no_corruption_is_refused_with_examples(spec: str) -> None:
    with pytest.raises(UsageError, match=r"gaussian:0\.25.*watermark:PICTURE"):
        corruption.parse([spec])


def test_a_watermark_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(VaectlError, match="no such file"):
        corruption.parse(["watermark:none.png"])
    (tmp_path / "x.png").write_text("hello")
    with pytest.raises(VaectlError, match="no picture"):
        corruption.parse([f"watermark:{tmp_path / 'x.png'}"])


def test_on_photographs_a_mark_has_its_own_size_or_a_smaller_one(tmp_path: Path) -> None:
    (mark,) = corruption.parse([logo(tmp_path / "logo.png", "RGB", (30, 20))], photographs=True)
    many = mark(np.zeros((200, 90, 80, 1), np.float32), NumpyDraw(0)).max(axis=3) > 0
    heights, widths = many.any(axis=2).sum(axis=1), many.any(axis=1).sum(axis=1)
    assert (heights.min(), heights.max(), widths.min(), widths.max()) == (8, 20, 12, 30)


def test_a_crop_shows_the_part_of_a_mark_that_lies_on_it(tmp_path: Path) -> None:
    (mark,) = corruption.parse([logo(tmp_path / "logo.png", "RGB", (60, 60))], photographs=True)
    many = mark(np.zeros((300, 16, 16, 3), np.float32), NumpyDraw(0)).max(axis=3) > 0
    assert many.any(axis=(1, 2)).all()
    assert many.all(axis=(1, 2)).any() and not many.all(axis=(1, 2)).all()
