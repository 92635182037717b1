"""Pairs of clean and noisy images: noisy in, clean out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import Result, one_line, write_png

import vaectl
from vaectl.base.errors import VaectlError, VaectlWarning
from vaectl.datasets.load import load_dataset
from vaectl.datasets.preprocessing import Preprocessing
from vaectl.training.loader import RandomCrops

Call = Callable[..., Result]
KEEP = Preprocessing(keep_size=True)


def write_pairs(folder: Path, count: int = 12, size: tuple[int, int] = (20, 24)) -> None:
    """Pairs in clean/ and noisy/ in which the noisy image is the clean one, inverted."""
    rng = np.random.default_rng(0)
    for index in range(count):
        clean = rng.integers(0, 256, (*size, 3), np.uint8)
        write_png(folder / "clean" / "sub" / f"{index}.png", clean)
        write_png(folder / "noisy" / "sub" / f"{index}.PNG", 255 - clean)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """The folder that holds clean/ and noisy/."""
    write_pairs(tmp_path)
    return tmp_path


def test_folders_are_matched_by_path_without_suffix(pairs: Path) -> None:
    (pairs / "clean" / "notes.txt").write_text("not an image")
    dataset = load_dataset(pairs / "clean", KEEP, noisy=pairs / "noisy")
    assert dataset.image_shape == (20, 24, 3)
    assert len(dataset.train) + len(dataset.test) == 12
    for image in (*dataset.train, *dataset.test):
        np.testing.assert_array_equal(image[..., :3], 255 - image[..., 3:])


def test_pairs_are_resized_alike(pairs: Path) -> None:
    dataset = load_dataset(pairs / "clean", Preprocessing((8, 8)), noisy=pairs / "noisy")
    assert isinstance(dataset.train, np.ndarray) and dataset.train.shape[1:] == (8, 8, 6)
    np.testing.assert_allclose(dataset.train[..., :3], 255 - dataset.train[..., 3:].astype(float), atol=1)


def test_crops_and_turns_are_alike_in_both(pairs: Path) -> None:
    dataset = load_dataset(pairs / "clean", KEEP, noisy=pairs / "noisy")
    crops = RandomCrops(dataset.train, (8, 8, 3)).crop_batch(50, np.random.default_rng(0))
    np.testing.assert_array_equal(crops[..., :3], 255 - crops[..., 3:])


def test_arrays_are_pairs_too(pairs: Path) -> None:
    clean = np.random.default_rng(0).random((30, 6, 6, 1)).astype(np.float32)
    dataset = load_dataset(clean, noisy=1 - clean)
    assert dataset.image_shape == (6, 6, 1)
    np.testing.assert_allclose(dataset.train[..., :1], 255 - np.asarray(dataset.train)[..., 1:].astype(float), atol=1)
    with pytest.raises(VaectlError, match="30 clean images and 20 noisy ones"):
        load_dataset(clean, noisy=clean[:20])
    with pytest.raises(VaectlError, match="resize them to the same size"):
        load_dataset(clean, noisy=clean[:, :4])


def test_an_npz_file_holds_pairs_for_a_denoiser_only(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
    np.savez(tmp_path / "x.npz", x_train=images, x_train_noisy=255 - images, x_test=images[:5], x_test_noisy=255 - images[:5])
    dataset = load_dataset(tmp_path / "x.npz", pairs_in_npz=True)
    assert dataset.train[0].shape == (8, 8, 2) and len(dataset.test) == 5
    np.testing.assert_array_equal(dataset.test[0][..., 0], 255 - dataset.test[0][..., 1])
    assert load_dataset(tmp_path / "x.npz").train[0].shape == (8, 8, 1)
    np.savez(tmp_path / "bad.npz", x_train=images, x_train_noisy=images[:7])
    with pytest.raises(VaectlError, match="x_train and x_train_noisy differ in length"):
        load_dataset(tmp_path / "bad.npz", pairs_in_npz=True)
    np.savez(tmp_path / "bad.npz", x_train=images, x_train_noisy=images, x_test=images)
    with pytest.raises(VaectlError, match="holds x_test but no x_test_noisy"):
        load_dataset(tmp_path / "bad.npz", pairs_in_npz=True)


def test_a_missing_partner_is_named_or_skipped(pairs: Path) -> None:
    (pairs / "noisy" / "sub" / "3.PNG").unlink()
    (pairs / "clean" / "sub" / "5.png").unlink()
    with pytest.raises(VaectlError, match=r"noisy' has no partner for .*clean/sub/3.png"):
        load_dataset(pairs / "clean", KEEP, noisy=pairs / "noisy")
    with pytest.warns(VaectlWarning, match=r"noisy' has no partner for .*clean/sub/3.png") as warned:
        dataset = load_dataset(pairs / "clean", Preprocessing(keep_size=True, skip_bad=True), noisy=pairs / "noisy")
    assert len(dataset.train) + len(dataset.test) == 10
    assert any("skipped 2 images that could not be paired" in str(warning.message) for warning in warned)


def test_pairs_of_two_sizes_are_named(pairs: Path) -> None:
    write_png(pairs / "noisy" / "sub" / "4.PNG", np.zeros((20, 23, 3), np.uint8))
    with pytest.raises(VaectlError, match=r"clean/sub/4.png' is 24 wide and 20 high, but .*noisy/sub/4.PNG' 23 wide"):
        load_dataset(pairs / "clean", KEEP, noisy=pairs / "noisy")


def test_two_images_of_one_name_are_named(pairs: Path) -> None:
    write_png(pairs / "noisy" / "sub" / "4.png", np.zeros((20, 24, 3), np.uint8))
    with pytest.raises(VaectlError, match=r"sub/4.PNG' and .*sub/4.png' differ only in their suffix"):
        load_dataset(pairs / "clean", KEEP, noisy=pairs / "noisy")


def test_folders_without_common_names_are_refused(pairs: Path) -> None:
    (pairs / "other").mkdir()
    with pytest.raises(VaectlError, match="no images of the same names"), pytest.warns(VaectlWarning):
        load_dataset(pairs / "clean", Preprocessing(keep_size=True, skip_bad=True), noisy=pairs / "other")
    with pytest.raises(VaectlError, match="'none' is not a folder"):
        load_dataset(pairs / "clean", KEEP, noisy="none")


def test_a_damaged_partner_is_named(pairs: Path) -> None:
    path = pairs / "noisy" / "sub" / "4.PNG"
    data = path.read_bytes()
    path.write_bytes(data[:200] + bytes(len(data) - 200))
    with pytest.raises(VaectlError, match=r"4.PNG' is damaged"):
        load_dataset(pairs / "clean", KEEP, noisy=pairs / "noisy")


def test_a_denoiser_learns_from_pairs_in_the_shell(run: Call, pairs: Path, small_data: Path) -> None:
    sizes = ["--net", "unet", "--hidden", "4,8", "--size", "8", "--epochs", "1", "--batch-size", "1024"]
    run("train", "dae", "--data", "clean", "--noisy", "noisy", *sizes, "-o", "p.safetensors")
    card = vaectl.load(pairs / "p.safetensors").card
    assert card.denoises and not card.corrupt and card.data["noisy"] == "noisy"
    assert card.metrics["psnr"] > card.metrics["psnr_before"]
    run("denoise", "noisy/", "-c", "p.safetensors", "-o", "out/")
    whole = run("evaluate", "-c", "p.safetensors", "--data", "clean", "--noisy", "noisy", "--per-image").stdout.decode()
    assert whole.count("sub/") == 12 and "psnr_before" in whole
    run("evaluate", "-c", "p.safetensors", "--split", "train")
    one_line(run("train", "vae", "--data", "clean", "--noisy", "noisy", code=2), "noisy images are for a dae")
    one_line(run("evaluate", "-c", "p.safetensors", "--noisy", "noisy", code=2), "--noisy goes with --data")


def test_a_denoiser_learns_from_pairs_in_python() -> None:
    clean = np.zeros((64, 8, 8, 1), np.float32)
    clean[:, ::2] = 1
    noisy = np.random.default_rng(0).random(clean.shape).astype(np.float32)
    model = vaectl.train("dae", clean, noisy=noisy, hidden=[16], latent_dim=2, epochs=60)
    assert np.square(model.denoise(noisy) - clean).mean() < 0.02
    found: NDArray[np.float32] = model.denoise(noisy[0])
    assert found.shape == (1, 8, 8, 1)
    assert vaectl.evaluate(model, clean, noisy=noisy, split="train", samples=0).metrics["psnr_before"] < 10
