"""Folders of images, from training to the commands that use the trained models."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import Result, environment, one_line, write_png

import vaectl
from vaectl.models.layers import Conv2d

Call = Callable[..., Result]
DATA = "photos"


def make_photo(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A photo of a few soft colors that blend into each other."""
    few = rng.integers(0, 256, (3, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="session")
def folder(make_once: Callable[..., Path], run_in: Callable[..., None]) -> Path:
    """A folder with `photos/`, color images of two sizes, and a VAE and a U-Net trained on them."""

    def fill(folder: Path) -> None:
        rng = np.random.default_rng(0)
        for index in range(24):
            size = (60, 90) if index % 2 else (50, 75)
            write_png(folder / DATA / ("a" if index < 12 else "b c") / f"{index:02d}.png", make_photo(rng, *size))
        quick = ("--data", DATA, "-q")
        run_in(folder, "train", "vae", *quick, "--latent", "4", "--size", "16x24", "--hidden", "8,16", "--epochs", "20")
        unet = ("--net", "unet", "--hidden", "12,16", "--size", "32", "--batch-size", "8", "--epochs", "1")
        run_in(folder, "train", "dae", *quick, *unet, "--corrupt", "gaussian:0.2")

    return make_once("own_images", fill)


def test_color_images_get_convolutions_and_a_gaussian_likelihood(folder: Path) -> None:
    card = vaectl.load(folder / "vae.safetensors").card
    assert card.network.image_shape == (16, 24, 3)
    assert any(isinstance(layer, Conv2d) for layer in card.network.encoder)
    assert card.likelihood == "gaussian" and card.sigma is not None and card.sigma < 0.3
    assert card.data["train"] + card.data["test"] == 24


def test_a_folder_becomes_a_table_of_latents(folder: Path, run: Call, tmp_path: Path) -> None:
    run("encode", folder / DATA, "-c", folder / "vae.safetensors", "-o", "z.csv")
    with (tmp_path / "z.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows[:1] + rows[-1:]] == ["a/00.png", "b c/23.png"]
    assert len(rows) == 24 and len(rows[0]) == 6
    assert {row["label"] for row in rows} == {"a", "b c"}


def test_the_commands_of_the_latent_space_work_in_color(folder: Path, run: Call, tmp_path: Path) -> None:
    model = ("-c", folder / "vae.safetensors")
    first, last = folder / DATA / "a" / "00.png", folder / DATA / "b c" / "23.png"
    run("interpolate", first, last, "--steps", 5, *model, "-o", "walk.gif")
    run("grid", "--dims", 1, 2, "--steps", 3, *model, "-o", "plane.png")
    run("sample", "-n", 4, *model, "-o", "samples.png")
    with Image.open(tmp_path / "plane.png") as plane, Image.open(tmp_path / "walk.gif") as walk:
        assert (plane.mode, plane.size) == ("RGB", (72, 48))
        assert (walk.size, walk.n_frames) == ((240, 160), 5)


def test_images_are_resized_as_in_training(run: Call, tmp_path: Path, folder: Path) -> None:
    """With "crop", the cropped edges do not affect the latent."""
    quick = ("--data", folder / DATA, "-q", "--size", "16", "--hidden", "8", "--epochs", "1")
    wide = np.zeros((20, 60, 3), np.uint8)
    write_png(tmp_path / "plain.png", wide)
    wide[:, :10] = 255
    write_png(tmp_path / "edge.png", wide)
    for fit, equal in (("crop", True), ("stretch", False), ("pad", False)):
        run("train", "ae", *quick, "--fit", fit, "-o", f"{fit}.safetensors")
        one, other = (run("encode", name, "-c", f"{fit}.safetensors").stdout for name in ("plain.png", "edge.png"))
        assert (one == other) == equal


def test_a_unet_denoises_images_of_any_size_and_keeps_alpha_and_bit_depth(folder: Path, run: Call, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    clean = make_photo(rng, 77, 101)
    noisy = np.clip(clean + 50 * rng.standard_normal(clean.shape), 0, 255).astype(np.uint8)
    alpha = rng.integers(0, 256, (77, 101, 1), np.uint8)
    write_png(tmp_path / "in" / "sub" / "plain.png", noisy)
    write_png(tmp_path / "in" / "alpha.png", np.concatenate([noisy, alpha], axis=2))
    (tmp_path / "in" / "deep.png").write_bytes(imagecodecs.png_encode(noisy.astype(np.uint16) * 257))
    run("denoise", "in", "-c", folder / "dae.safetensors", "-o", "out/")
    with Image.open(tmp_path / "out" / "sub" / "plain.png") as image:
        plain = np.asarray(image)
    with Image.open(tmp_path / "out" / "alpha.png") as image:
        assert image.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(image)[..., 3:], alpha)
        np.testing.assert_array_equal(np.asarray(image)[..., :3], plain)
    deep = imagecodecs.png_decode((tmp_path / "out" / "deep.png").read_bytes())
    assert deep.dtype == np.uint16
    np.testing.assert_allclose(deep / 257, plain, atol=0.6)
    error = [np.square(np.asarray(image, float) - clean).mean() for image in (noisy, plain)]
    assert error[1] < 0.75 * error[0]


def test_commands_that_need_a_latent_refuse_a_unet(folder: Path, run: Call) -> None:
    model = ("-c", folder / "dae.safetensors")
    image = folder / DATA / "a" / "00.png"
    one_line(run("encode", image, *model, code=1), "has no latent", "use it to denoise")
    one_line(run("interpolate", image, image, *model, "-o", "x.png", code=1), "no latent")
    one_line(run("grid", *model, code=1), "no latent")


def test_info_says_which_images_a_model_takes(folder: Path, run: Call) -> None:
    text = run("info", folder / "dae.safetensors").stdout.decode()
    assert "any size, color, trained on crops of 32 x 32" in text and "none, maps images to images" in text
    assert "16 x 24, color, resized by crop" in run("info", folder / "vae.safetensors").stdout.decode()


def test_a_unet_is_evaluated_on_whole_photos(folder: Path, run: Call, tmp_path: Path) -> None:
    model = ("-c", folder / "dae.safetensors")
    found = json.loads(run("evaluate", *model, "--data", folder / DATA).stdout)
    assert found["images"] == 24
    assert found["metrics"]["psnr"] > found["metrics"]["psnr_before"] + 2
    held_out = json.loads(run("evaluate", *model, cwd=folder).stdout)
    assert held_out["split"] == "test" and 0 < held_out["images"] < 12
    run("evaluate", *model, "--data", folder / DATA, "--per-image", "-o", "worst.csv")
    assert len((tmp_path / "worst.csv").read_text().splitlines()) == 25


def test_damaged_images_are_skipped_with_skip_bad(folder: Path, run: Call, tmp_path: Path) -> None:
    for index in range(5):
        data = (folder / DATA / "a" / f"{index:02d}.png").read_bytes()
        path = tmp_path / "in" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data[:200] if index == 3 else data)
    model = ("-c", folder / "vae.safetensors")
    one_line(run("encode", "in", *model, code=1), "in/3.png' is damaged")
    for call in (
        ("encode", "in", *model, "-o", "out-encode"),
        ("denoise", "in", "-c", folder / "dae.safetensors", "-o", "out-denoise/"),
        ("evaluate", "--data", "in", *model, "-o", "out-evaluate"),
    ):
        stderr = run(*call, "--skip-bad").stderr.decode()
        assert "in/3.png' is damaged" in stderr and "skipped 1 image that could not be read" in stderr
    assert np.load(tmp_path / "out-encode").shape == (4, 4)
    assert len(list((tmp_path / "out-denoise").iterdir())) == 4
    assert json.loads((tmp_path / "out-evaluate").read_text())["images"] == 4


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["vae", "--net", "unet"], 2, ["--net unet", "dae"]),
        (["dae", "--net", "unet", "--latent", "3"], 2, ["no latent"]),
        (["dae", "--net", "unet", "--size", "30"], 2, ["these sizes do not make a network", "multiples of 4"]),
        (["ae", "--size", "0"], 2, ["--size '0'", "--size 64"]),
        (["ae", "--size", "10x10x3"], 2, ["--size '10x10x3'"]),
        (["ae", "--size", "100000"], 2, ["--size '100000'", "1 to 4096"]),
        (
            ["ae", "--size", "64", "--net", "mlp", "--hidden", "200000,200000"],
            2,
            ["these sizes do not make a network", "more than"],
        ),
    ],
)
def test_a_wrong_call_is_one_line(arguments: list[str], code: int, words: list[str], run: Call, folder: Path) -> None:
    one_line(run("train", *arguments, "--data", folder / DATA, code=code), *words)


def test_a_few_images_of_extreme_shapes_can_be_trained_on(run: Call, tmp_path: Path) -> None:
    for name, shape in (("one", (1, 40)), ("two", (300, 2, 3)), ("three", (20, 20))):
        write_png(tmp_path / "odd" / f"{name}.png", np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    run("train", "vae", "--data", "odd", "--hidden", "8", "--epochs", "2", "-q")
    assert vaectl.load(tmp_path / "vae.safetensors").image_shape[2] == 3
    (tmp_path / "odd" / "two.png").unlink()
    (tmp_path / "odd" / "three.png").unlink()
    run("train", "ae", "--data", "odd", "--hidden", "8", "--epochs", "2", "-q")
    assert vaectl.load(tmp_path / "ae.safetensors").image_shape == (1, 40, 1)


def test_a_latent_larger_than_the_image_causes_a_warning(run: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "small.npy", np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8))
    stderr = run("train", "ae", "--data", "small.npy", "--latent", 17, "--hidden", "8", "--epochs", "1").stderr.decode()
    assert "17 latent dimensions" in stderr and "16 values" in stderr


def test_small_work_runs_in_numpy_and_large_work_in_torch_with_equal_results(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "small.npy", np.random.default_rng(0).random((1, 64, 64, 3), np.float32))
    np.save(tmp_path / "large.npy", np.tile(np.load(tmp_path / "small.npy"), (1, 8, 8, 1)))
    script = (
        "import sys, numpy, vaectl.models.autoencoder\n"
        "vaectl.models.autoencoder.NUMPY_MAC_LIMIT = 100_000_000\n"
        f"model = vaectl.load({str(folder / 'dae.safetensors')!r})\n"
        "small = model.denoise(numpy.load('small.npy'))\n"
        "assert 'torch' not in sys.modules\n"
        "large = model.denoise(numpy.load('large.npy'))\n"
        "assert 'torch' in sys.modules\n"
        "numpy.save('small.npy', small[:, :20, :20]); numpy.save('large.npy', large[:, :20, :20])"
    )
    command = [sys.executable, "-c", script]
    subprocess.run(command, cwd=tmp_path, check=True, env=environment(), timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "small.npy"), np.load(tmp_path / "large.npy"), atol=1e-5)
