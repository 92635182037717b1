from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from support import idx, write_png

from vaectl import datasets
from vaectl.datasets import Wish
from vaectl.errors import Remark, VaectlError


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


@pytest.mark.fault(42)
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of 60 pictures of several sizes, some of them grey, one of them damaged, and a text file."""
    rng = np.random.default_rng(0)
    for index in range(60):
        height, width = (90, 120) if index % 3 else (60, 100)
        pixels = rng.integers(0, 256, (height, width) if index % 4 else (height, width, 3), np.uint8)
        write_png(tmp_path / "photos" / f"{index % 5}" / f"{index}.png", pixels)
    (tmp_path / "photos" / "notes.txt").write_text("hello")
    return tmp_path / "photos"


def test_a_folder_gives_its_pictures_in_one_size_and_in_colour(folder: Path) -> None:
    with pytest.warns(Remark, match="1 of its files are no pictures"):
        found = datasets.load(str(folder))
    assert found.picture == (48, 64, 3)
    assert len(found.train) + len(found.test) == 60 and 0 < len(found.test) < 20
    assert isinstance(found.train, np.ndarray) and found.train.dtype == np.uint8


@pytest.mark.filterwarnings("ignore::vaectl.errors.Remark")
def test_the_size_the_channels_and_the_fit_can_be_wished_for(folder: Path) -> None:
    assert datasets.load(str(folder), Wish((20, 30), 1)).picture == (20, 30, 1)
    padded, stretched = (datasets.load(str(folder), Wish((40, 20), 1, fit)).train for fit in ("pad", "stretch"))
    assert padded[0][0].max() == 0 and stretched[0][0].max() > 0
    whole = datasets.load(str(folder), Wish(whole=True))
    assert {picture.shape for picture in whole.train} == {(90, 120, 3), (60, 100, 3)}


@pytest.mark.filterwarnings("ignore::vaectl.errors.Remark")
def test_a_held_out_file_stays_held_out_at_any_size(folder: Path) -> None:
    sizes = [datasets.load(str(folder), Wish(size, 1)) for size in ((8, 8), (30, 40))]
    assert len(sizes[0].test) == len(sizes[1].test)
    (folder / "3" / "3.png").unlink()
    assert len(datasets.load(str(folder), Wish((8, 8), 1)).test) in (len(sizes[0].test), len(sizes[0].test) - 1)


def test_small_pictures_of_one_size_keep_it(tmp_path: Path, digits: np.ndarray) -> None:
    for index in range(5):
        write_png(tmp_path / f"{index}.png", digits[index])
    assert datasets.load(str(tmp_path)).picture == (28, 28, 1)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({(28, 28): 3}, (28, 28)),
        ({(65, 65): 3}, (64, 64)),
        ({(28, 28): 1, (30, 28): 1}, (30, 30)),
        ({(20, 20): 2, (200, 300): 1}, (20, 20)),
        ({(800, 1280): 3, (100, 100): 1}, (40, 64)),
        ({(1280, 800): 3}, (64, 40)),
        ({(1, 500): 3}, (4, 64)),
    ],
)
def test_the_size_is_taken_from_the_data(sizes: dict[tuple[int, int], int], expected: tuple[int, int]) -> None:
    assert datasets.common_size(Counter(sizes)) == expected


@pytest.mark.filterwarnings("ignore::vaectl.errors.Remark")
def test_a_damaged_picture_is_named_or_left_out(folder: Path) -> None:
    (folder / "1" / "bad.png").write_bytes((folder / "1" / "1.png").read_bytes()[:900])
    with pytest.raises(VaectlError, match=r"1/bad\.png' is damaged"):
        datasets.load(str(folder), Wish((8, 8), 1))
    with pytest.warns(Remark, match="left out 1 that could not be read"):
        found = datasets.load(str(folder), Wish((8, 8), 1, skip_bad=True))
    assert len(found.train) + len(found.test) == 60


def test_arrays_are_brought_to_a_size_that_is_wished_for(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (40, 12, 10, 3), np.uint8)
    np.savez(tmp_path / "both.npz", x_train=colour, x_test=colour[:7])
    np.save(tmp_path / "one.npy", colour / 255)
    both = datasets.load(str(tmp_path / "both.npz"), Wish((6, 6), 1))
    assert both.train.shape == (40, 6, 6, 1) and both.test.shape == (7, 6, 6, 1)
    one = datasets.load(str(tmp_path / "one.npy"), Wish((6, 6)))
    assert one.picture == (6, 6, 3) and len(one.train) + len(one.test) == 40


def test_a_folder_without_pictures_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(VaectlError, match="holds no pictures"):
        datasets.load(str(tmp_path))


def test_a_data_set_that_was_downloaded_is_taken_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    raw = tmp_path / "vaectl" / "fashion-mnist" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    pictures = np.random.default_rng(0).integers(0, 256, (9, 28, 28), np.uint8)
    for split, part in (("train", pictures), ("t10k", pictures[:2])):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx(part))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx(np.zeros(len(part), np.uint8)))
    found = datasets.load("fashion-mnist")
    np.testing.assert_array_equal(found.train[..., 0], pictures)
    assert len(found.test) == 2


def test_a_folder_whose_pictures_are_all_bad_is_no_data(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.zeros((9, 9), np.uint8))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-20])
    with pytest.warns(Remark, match="left out"), pytest.raises(VaectlError, match="holds no pictures that can be read"):
        datasets.load(str(tmp_path), Wish(skip_bad=True))
