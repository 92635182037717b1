"""Labels of images, where the data have any."""

from pathlib import Path

import numpy as np
import pytest
from support import write_png

from vaectl.base.errors import VaectlError
from vaectl.datasets.load import load_dataset
from vaectl.datasets.named import DatasetImages

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 6, 6), np.uint8)


def test_mnist_has_its_digits() -> None:
    labels = [label for _, label in DatasetImages("mnist", "test").labeled()]
    assert labels[:10] == list("7210414959") and len(labels) == 10_000
    ((_, label),) = DatasetImages("mnist", "test", 17).labeled()
    assert label == "7"


@pytest.mark.parametrize("labels", [np.arange(30) % 3, np.array(["cat", "dog", "cow"] * 10)])
def test_an_npz_file_has_those_of_y_train(labels: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x_train=IMAGES, y_train=labels, x_test=IMAGES[:4], y_test=labels[:4])
    dataset = load_dataset(tmp_path / "x.npz")
    assert dataset.train_labels == [str(label) for label in labels]
    assert dataset.test_labels == [str(label) for label in labels[:4]]


def test_labels_that_do_not_fit_are_refused_or_ignored(tmp_path: Path) -> None:
    np.savez(tmp_path / "short.npz", x_train=IMAGES, y_train=np.arange(29))
    with pytest.raises(VaectlError, match="y_train does not have one label per image"):
        load_dataset(tmp_path / "short.npz")
    for labels in (np.eye(30), np.linspace(0, 1, 30), np.zeros(30, int), np.array([None] * 30), np.zeros(30, "U0")):
        np.savez(tmp_path / "x.npz", x_train=IMAGES, y_train=labels)
        assert not load_dataset(tmp_path / "x.npz").train_labels


def test_a_folder_has_those_of_its_subfolders_if_all_images_are_in_one(tmp_path: Path) -> None:
    for index, image in enumerate(IMAGES):
        write_png(tmp_path / "data" / ("cats" if index % 2 else "dogs") / "deep" / f"{index}.png", image[..., None])
    dataset = load_dataset(tmp_path / "data")
    assert set(dataset.train_labels) == {"cats", "dogs"} and len(dataset.train_labels) == len(dataset.train)
    write_png(tmp_path / "data" / "x.png", IMAGES[0][..., None])
    assert not load_dataset(tmp_path / "data").train_labels
