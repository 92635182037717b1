from pathlib import Path

import numpy as np
import pytest

from vaectl import datasets
from vaectl.errors import VaectlError


def test_mnist_is_bundled_whole() -> None:
    mnist = datasets.load("mnist")
    assert mnist.train.shape == (60000, 28, 28, 1)
    assert mnist.test.shape == (10000, 28, 28, 1)
    assert mnist.train.dtype == np.uint8
    assert mnist.train.mean() == pytest.approx(33.3184, abs=1e-3)


def test_floats_and_bytes_are_the_same_data(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (40, 5, 4, 3), np.uint8)
    np.savez(tmp_path / "bytes.npz", x_train=pictures, x_test=pictures[:3])
    np.savez(tmp_path / "floats.npz", x_train=pictures / 255, x_test=np.asfortranarray(pictures[:3] / 255))
    one, other = (datasets.load(str(tmp_path / name)) for name in ("bytes.npz", "floats.npz"))
    np.testing.assert_array_equal(one.train, other.train)
    assert one.sha256 == other.sha256


def test_a_held_out_picture_stays_held_out_when_others_are_added(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (400, 6, 6), np.uint8)
    np.save(tmp_path / "few.npy", pictures[:200])
    np.save(tmp_path / "many.npy", pictures)
    few, many = (datasets.load(str(tmp_path / name)) for name in ("few.npy", "many.npy"))
    assert 5 < len(few.test) < 40
    assert len(few.train) + len(few.test) == 200
    assert {picture.tobytes() for picture in few.test} <= {picture.tobytes() for picture in many.test}


def test_one_picture_is_learned_from_and_judged_by(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros((1, 4, 4), np.uint8))
    one = datasets.load(str(tmp_path / "one.npy"))
    assert len(one.train) == len(one.held_out) == 1
    assert one.held_out_split == "train" if len(one.test) == 0 else "test"


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros((3, 4, 4), np.uint8)}, "holds images: name the pictures"),
        ({"x_train": np.zeros((3, 4), np.uint8)}, "is an array of"),
        ({"x_train": np.zeros((0, 4, 4), np.uint8)}, "is an array of"),
        ({"x_train": np.full((3, 4, 4), 200.0)}, r"not in \[0, 1\], the first at \[0, 0, 0, 0\]"),
        ({"x_train": np.full((3, 4, 4), np.nan)}, "not in"),
        ({"x_train": np.zeros((3, 4, 4), np.uint8), "x_test": np.zeros((3, 5, 4), np.uint8)}, "make them one size"),
        ({"x_train": np.array([{}])}, "type object: numbers are expected"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(arrays: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(VaectlError, match=words):
        datasets.load(str(tmp_path / "data.npz"))


def test_data_that_are_not_there_or_no_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VaectlError, match="there is no data set 'minst'"):
        datasets.load("minst")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(VaectlError, match="is no data set"):
        datasets.load(str(tmp_path / "notes.txt"))
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(VaectlError, match="damaged NPZ"):
        datasets.load(str(tmp_path / "cut.npz"))
