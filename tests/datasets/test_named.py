from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import Result, one_line, write_fashion_mnist, write_png

from vaectl.base.errors import VaectlError
from vaectl.datasets.load import Dataset, load_dataset
from vaectl.datasets.named import DatasetImages, open_source
from vaectl.images.resize import ResizeSpec
from vaectl.io.decoders import ImageDecoder
from vaectl.io.inputs import read_samples
from vaectl.io.records import Sample
from vaectl.io.sources import File, Folder, SkipPolicy

Call = Callable[..., Result]


def read(reference: str) -> list[Sample]:
    return list(read_samples([open_source(reference)], ImageDecoder(ResizeSpec((28, 28, 1))), SkipPolicy()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mnist", DatasetImages("mnist", "test")),
        ("mnist:train", DatasetImages("mnist", "train")),
        ("mnist:test", DatasetImages("mnist", "test")),
        ("mnist:17", DatasetImages("mnist", "test", 17)),
        ("mnist:train:17", DatasetImages("mnist", "train", 17)),
        ("cifar10:0", DatasetImages("cifar10", "test", 0)),
    ],
)
def test_a_reference_names_a_data_set_a_split_and_an_image(text: str, expected: DatasetImages) -> None:
    assert open_source(text) == expected


@pytest.mark.parametrize("text", ["", "img", "a/minst.png", "MNIST", "photo.png", "faces"])
def test_other_names_are_files(text: str) -> None:
    assert open_source(text) == File(text)


@pytest.mark.parametrize("text", ["mnist:", "mnist:valid", "mnist:-1", "mnist:1.5", "mnist:17:train", "mnist:train:"])
def test_a_data_set_has_splits_and_images_only(text: str) -> None:
    with pytest.raises(VaectlError, match=f"there is no '{text}': use mnist:train, mnist:test or the number of an image"):
        open_source(text)


def test_a_name_alone_is_the_test_split(mnist: Dataset) -> None:
    images = read("mnist")
    assert len(images) == open_source("mnist").count() == 10000
    np.testing.assert_allclose(np.stack([image.array for image in images]), np.asarray(mnist.test) / 255, atol=1e-6)
    assert [image.name for image in images[:2]] == ["mnist-test-00000", "mnist-test-00001"]


@pytest.mark.parametrize(("reference", "split", "index"), [("mnist:17", "test", 17), ("mnist:train:59999", "train", 59999)])
def test_an_index_chooses_one_image(reference: str, split: str, index: int, mnist: Dataset) -> None:
    (image,) = read(reference)
    np.testing.assert_allclose(image.array, (mnist.train if split == "train" else mnist.test)[index] / 255, atol=1e-6)
    assert image.name == f"mnist-{split}-{index:05d}"
    assert open_source(reference).count() == 1


def test_the_training_split_is_counted_without_reading_it() -> None:
    assert open_source("mnist:train").count() == 60000


@pytest.mark.parametrize("reference", ["mnist:10000", "mnist:test:10000", "mnist:train:60000", "mnist:999999999"])
def test_an_index_out_of_range_is_refused(reference: str) -> None:
    with pytest.raises(VaectlError, match=r"mnist:(test|train) has \d0000 images, counted from 0: image \d+ does not exist"):
        read(reference)


def test_an_existing_file_or_folder_wins_over_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: NDArray[np.uint8]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_source("mnist:17"), DatasetImages)
    write_png(Path("photo.png"), digits[0]).rename("mnist:17")
    Path("mnist").mkdir()
    Path("mnist:test").symlink_to("missing")
    assert open_source("mnist:17") == File("mnist:17")
    assert open_source("mnist") == Folder("mnist")
    assert open_source("mnist:test") == File("mnist:test")


@pytest.mark.parametrize(
    ("text", "guess"), [("minst:17", "mnist:17"), ("fashion", "fashion-mnist"), ("cifar:train:3", "cifar10:train:3")]
)
def test_a_misspelt_data_set_is_guessed(text: str, guess: str) -> None:
    with pytest.raises(VaectlError, match=f"there is no file and no data set '{text}': did you mean {guess}\\?"):
        open_source(text)


def test_images_of_a_downloaded_data_set_are_referred_to_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images = write_fashion_mnist(tmp_path / "vaectl" / "fashion-mnist")
    assert (open_source("fashion-mnist").count(), open_source("fashion-mnist:train").count()) == (2, 9)
    (image,) = read("fashion-mnist:train:4")
    np.testing.assert_allclose(image.array[..., 0], images[4] / 255, atol=1e-6)
    with pytest.raises(VaectlError, match="fashion-mnist:test has 2 images, counted from 0: image 2 does not exist"):
        read("fashion-mnist:2")


def test_commands_read_data_sets_by_name(run: Call, vae: Path, tmp_path: Path) -> None:
    for reference, rows in (("mnist:3", 1), ("mnist:train:3", 1), ("mnist", 10000)):
        run("encode", reference, "-c", vae, "-o", "z.npy")
        assert np.load(tmp_path / "z.npy").shape == (rows, 2)
    result = run("encode", "mnist:3", "mnist:train:5", "-c", vae, "--format", "csv")
    assert [line.split(b",")[0] for line in result.stdout.splitlines()] == [b"name", b"mnist-test-00003", b"mnist-train-00005"]
    one_line(
        run("encode", "mnist:10000", "-c", vae, code=1), "mnist:test has 10000 images, counted from 0: image 10000 does not exist"
    )


def test_a_wrong_split_and_a_misspelt_name_get_a_hint() -> None:
    with pytest.raises(VaectlError, match="there is no 'mnist:tset': use mnist:train, mnist:test or the number of an image"):
        open_source("mnist:tset")
    with pytest.raises(VaectlError, match=r"no data set 'fashion': did you mean fashion-mnist\?"):
        load_dataset("fashion")
