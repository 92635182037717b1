from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import write_fashion_mnist, write_png

from vaectl.base.errors import VaectlError, VaectlWarning
from vaectl.datasets.load import Dataset, load_dataset
from vaectl.datasets.preprocessing import Preprocessing, common_size


def test_mnist_is_bundled(mnist: Dataset) -> None:
    assert isinstance(mnist.train, np.ndarray) and isinstance(mnist.test, np.ndarray)
    assert mnist.train.shape == (60000, 28, 28, 1)
    assert mnist.test.shape == (10000, 28, 28, 1)
    assert mnist.train.dtype == np.uint8
    assert mnist.train.mean() == pytest.approx(33.3184, abs=1e-3)


def test_floats_and_bytes_give_the_same_data_set(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 4, 3), np.uint8)
    np.savez(tmp_path / "bytes.npz", x_train=images, x_test=images[:3])
    np.savez(tmp_path / "floats.npz", x_train=images / 255, x_test=np.asfortranarray(images[:3] / 255))
    from_bytes, from_floats = (load_dataset(str(tmp_path / name)) for name in ("bytes.npz", "floats.npz"))
    np.testing.assert_array_equal(from_bytes.train, from_floats.train)
    assert from_bytes.sha256 == from_floats.sha256


def test_a_held_out_image_stays_held_out_when_others_are_added(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (400, 6, 6), np.uint8)
    np.save(tmp_path / "few.npy", images[:200])
    np.save(tmp_path / "many.npy", images)
    few, many = (load_dataset(str(tmp_path / name)) for name in ("few.npy", "many.npy"))
    assert 5 < len(few.test) < 40
    assert len(few.train) + len(few.test) == 200
    assert {image.tobytes() for image in few.test} <= {image.tobytes() for image in many.test}


def test_a_single_image_is_both_trained_and_evaluated_on(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros((1, 4, 4), np.uint8))
    one = load_dataset(str(tmp_path / "one.npy"))
    assert len(one.train) == len(one.held_out) == 1
    assert one.held_out_split == "train" if len(one.test) == 0 else "test"


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"photos": np.zeros((3, 4, 4), np.uint8)}, "holds no array 'x_train', only 'photos': name the training images x_train"),
        ({"x_train": np.zeros((3, 4), np.uint8)}, "is an array of"),
        ({"x_train": np.zeros((0, 4, 4), np.uint8)}, "is an array of"),
        ({"x_train": np.full((3, 4, 4), 200.0)}, r"not in \[0, 1\], the first at \[0, 0, 0, 0\]"),
        ({"x_train": np.full((3, 4, 4), np.nan)}, "not in"),
        ({"x_train": np.zeros((3, 4, 4), np.uint8), "x_test": np.zeros((3, 5, 4), np.uint8)}, "resize them to the same size"),
        ({"x_train": np.array([{}])}, "type object: expected numbers"),
    ],
)
def test_arrays_that_are_not_images_are_refused(arrays: dict[str, NDArray[Any]], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(VaectlError, match=words):
        load_dataset(str(tmp_path / "data.npz"))


def test_missing_and_damaged_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VaectlError, match="no data set 'minst': did you mean mnist"):
        load_dataset("minst")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(VaectlError, match="is not a data set"):
        load_dataset(str(tmp_path / "notes.txt"))
    (tmp_path / "truncated.npz").write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(VaectlError, match="damaged NPZ"):
        load_dataset(str(tmp_path / "truncated.npz"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of 60 images of several sizes, gray and color, and a text file."""
    rng = np.random.default_rng(0)
    for index in range(60):
        height, width = (90, 120) if index % 3 else (60, 100)
        pixels = rng.integers(0, 256, (height, width) if index % 4 else (height, width, 3), np.uint8)
        write_png(tmp_path / "photos" / f"{index % 5}" / f"{index}.png", pixels)
    (tmp_path / "photos" / "notes.txt").write_text("hello")
    return tmp_path / "photos"


def test_images_of_a_folder_get_one_size_and_are_in_color_if_any_is(folder: Path) -> None:
    with pytest.warns(VaectlWarning, match=r"ignored 1 file that is not an image \('notes.txt'\)"):
        found = load_dataset(str(folder))
    assert found.image_shape == (48, 64, 3)
    assert len(found.train) + len(found.test) == 60 and 0 < len(found.test) < 20
    assert isinstance(found.train, np.ndarray) and found.train.dtype == np.uint8


@pytest.mark.filterwarnings("ignore::vaectl.base.errors.VaectlWarning")
def test_the_size_the_channels_and_the_fit_can_be_chosen(folder: Path) -> None:
    assert load_dataset(str(folder), Preprocessing((20, 30), 1)).image_shape == (20, 30, 1)
    padded, stretched = (load_dataset(str(folder), Preprocessing((40, 20), 1, fit)).train for fit in ("pad", "stretch"))
    assert padded[0][0].max() == 0 and stretched[0][0].max() > 0
    original = load_dataset(str(folder), Preprocessing(keep_size=True))
    assert {image.shape for image in original.train} == {(90, 120, 3), (60, 100, 3)}


@pytest.mark.filterwarnings("ignore::vaectl.base.errors.VaectlWarning")
def test_a_held_out_file_stays_held_out_at_any_size(folder: Path) -> None:
    sizes = [load_dataset(str(folder), Preprocessing(size, 1)) for size in ((8, 8), (30, 40))]
    assert len(sizes[0].test) == len(sizes[1].test)
    (folder / "3" / "3.png").unlink()
    assert len(load_dataset(str(folder), Preprocessing((8, 8), 1)).test) in (len(sizes[0].test), len(sizes[0].test) - 1)


def test_small_images_of_one_size_keep_their_size(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index in range(5):
        write_png(tmp_path / f"{index}.png", digits[index])
    assert load_dataset(str(tmp_path)).image_shape == (28, 28, 1)


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
def test_the_common_size_follows_from_the_sizes_of_the_images(
    sizes: dict[tuple[int, int], int], expected: tuple[int, int]
) -> None:
    assert common_size(Counter(sizes)) == expected


@pytest.mark.filterwarnings("ignore::vaectl.base.errors.VaectlWarning")
def test_a_damaged_image_is_named_or_skipped(folder: Path) -> None:
    (folder / "1" / "bad.png").write_bytes((folder / "1" / "1.png").read_bytes()[:900])
    with pytest.raises(VaectlError, match=r"1/bad\.png' is damaged"):
        load_dataset(str(folder), Preprocessing((8, 8), 1))
    with pytest.warns(VaectlWarning, match="skipped 1 image that could not be read"):
        found = load_dataset(str(folder), Preprocessing((8, 8), 1, skip_bad=True))
    assert len(found.train) + len(found.test) == 60


def test_arrays_are_resized_to_a_chosen_size(tmp_path: Path) -> None:
    color = np.random.default_rng(0).integers(0, 256, (40, 12, 10, 3), np.uint8)
    np.savez(tmp_path / "both.npz", x_train=color, x_test=color[:7])
    np.save(tmp_path / "one.npy", color / 255)
    both = load_dataset(str(tmp_path / "both.npz"), Preprocessing((6, 6), 1))
    assert both.train.shape == (40, 6, 6, 1) and both.test.shape == (7, 6, 6, 1)
    one = load_dataset(str(tmp_path / "one.npy"), Preprocessing((6, 6)))
    assert one.image_shape == (6, 6, 3) and len(one.train) + len(one.test) == 40


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VaectlError, match="contains no images"):
        load_dataset(str(tmp_path))


def test_a_downloaded_data_set_is_loaded_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images = write_fashion_mnist(tmp_path / "vaectl" / "fashion-mnist")
    found = load_dataset("fashion-mnist")
    np.testing.assert_array_equal(found.train[..., 0], images)
    assert len(found.test) == 2


def test_a_folder_whose_images_are_all_damaged_is_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.zeros((9, 9), np.uint8))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-20])
    with pytest.warns(VaectlWarning, match="skipped"), pytest.raises(VaectlError, match="contains no images that can be read"):
        load_dataset(str(tmp_path), Preprocessing(skip_bad=True))


def test_a_split_of_a_data_set_by_name_is_split_again_by_content() -> None:
    found = load_dataset("mnist:test")
    assert len(found.train) + len(found.test) == 10000 and 800 < len(found.test) < 1200


def test_an_array_in_memory_is_split_by_content() -> None:
    images = np.random.default_rng(0).random((100, 6, 5, 3))
    seen: list[tuple[int, int | None]] = []
    found = load_dataset(images, on_read=lambda done, total: seen.append((done, total)))
    assert found.name == "array" and found.image_shape == (6, 5, 3)
    assert len(found.train) + len(found.test) == 100 and len(found.test)
    assert seen == [(done, 100) for done in range(1, 101)]


def test_a_tuple_is_training_and_test_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 6, 5), np.uint8)
    found = load_dataset((images[:7], images[7:]))
    np.testing.assert_array_equal(np.asarray(found.train)[..., 0], images[:7])
    np.testing.assert_array_equal(np.asarray(found.test)[..., 0], images[7:])


@pytest.mark.parametrize("data", [np.zeros((3, 4)), np.zeros((2, 3, 4, 2)), np.full((2, 3, 4), 7.0), np.zeros((0, 3, 4))])
def test_an_array_in_memory_that_is_not_images_is_refused(data: NDArray[Any]) -> None:
    with pytest.raises(VaectlError, match="data"):
        load_dataset(data)


def test_a_path_object_is_a_path(tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.zeros((5, 4, 4), np.uint8))
    assert load_dataset(tmp_path / "few.npy").image_shape == (4, 4, 1)
