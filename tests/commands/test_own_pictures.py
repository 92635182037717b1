"""Folders of pictures, from training to the verbs that use what was learned."""

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
from vaectl.layers import Conv

Call = Callable[..., Result]
DATA = "photos"


def photograph(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A few soft colours that run into each other."""
    few = rng.integers(0, 256, (3, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, run_in: Callable[..., None]) -> Path:
    """A folder with `photos/`, colour pictures of several sizes, and two models that learned from them."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for index in range(24):
        size = (60, 90) if index % 2 else (50, 75)
        write_png(folder / DATA / ("a" if index < 12 else "b c") / f"{index:02d}.png", photograph(rng, *size))
    quick = ("--data", DATA, "-q")
    run_in(folder, "train", "vae", *quick, "--latent", "4", "--size", "16x24", "--hidden", "8,16", "--epochs", "20")
    unet = ("--net", "unet", "--hidden", "12,16", "--size", "32", "--batch-size", "8", "--epochs", "1")
    run_in(folder, "train", "dae", *quick, *unet, "--corrupt", "gaussian:0.2")
    return folder


def test_pictures_in_colour_get_convolutions_and_a_sigma(folder: Path) -> None:
    card = vaectl.load(folder / "vae.safetensors").card
    assert card.network.picture == (16, 24, 3)
    assert any(isinstance(row, Conv) for row in card.network.encoder)
    assert card.likelihood == "gaussian" and card.sigma is not None and card.sigma < 0.3
    assert card.data["train"] + card.data["test"] == 24


def test_a_folder_becomes_a_table_of_latents(folder: Path, run: Call, tmp_path: Path) -> None:
    run("encode", folder / DATA, "-c", folder / "vae.safetensors", "-o", "z.csv")
    with (tmp_path / "z.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows[:1] + rows[-1:]] == ["a/00.png", "b c/23.png"]
    assert len(rows) == 24 and len(rows[0]) == 5


def test_the_verbs_of_the_latent_space_work_in_colour(folder: Path, run: Call, tmp_path: Path) -> None:
    model = ("-c", folder / "vae.safetensors")
    first, last = folder / DATA / "a" / "00.png", folder / DATA / "b c" / "23.png"
    run("interpolate", first, last, "--steps", 5, *model, "-o", "walk.gif")
    run("grid", "--dims", 1, 2, "--steps", 3, *model, "-o", "plane.png")
    run("sample", "-n", 4, *model, "-o", "drawn.png")
    with Image.open(tmp_path / "plane.png") as plane, Image.open(tmp_path / "walk.gif") as walk:
        assert (plane.mode, plane.size) == ("RGB", (72, 48))
        assert (walk.size, walk.n_frames) == ((24, 16), 5)


def test_a_picture_is_fitted_as_in_training(run: Call, tmp_path: Path, folder: Path) -> None:
    """What the frame leaves of a picture is all that bears on its latent."""
    quick = ("--data", folder / DATA, "-q", "--size", "16", "--hidden", "8", "--epochs", "1")
    wide = np.zeros((20, 60, 3), np.uint8)
    write_png(tmp_path / "plain.png", wide)
    wide[:, :10] = 255
    write_png(tmp_path / "edge.png", wide)
    for fit, alike in (("crop", True), ("stretch", False), ("pad", False)):
        run("train", "ae", *quick, "--fit", fit, "-o", f"{fit}.safetensors")
        one, other = (run("encode", name, "-c", f"{fit}.safetensors").stdout for name in ("plain.png", "edge.png"))
        assert (one == other) == alike


def test_a_unet_mends_pictures_of_any_size_and_keeps_alpha_and_depth(folder: Path, run: Call, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    clean = photograph(rng, 77, 101)
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
    error = [np.square(np.asarray(picture, float) - clean).mean() for picture in (noisy, plain)]
    assert error[1] < 0.75 * error[0]


def test_a_unet_has_no_latent_and_says_so(folder: Path, run: Call) -> None:
    model = ("-c", folder / "dae.safetensors")
    picture = folder / DATA / "a" / "00.png"
    one_line(run("encode", picture, *model, code=1), "no latent", "vaectl denoise")
    one_line(run("interpolate", picture, picture, *model, "-o", "x.png", code=1), "no latent")
    one_line(run("grid", *model, code=2), "latent dimensions")


def test_info_tells_what_a_unet_takes(folder: Path, run: Call) -> None:
    text = run("info", folder / "dae.safetensors").stdout.decode()
    assert "any size, colour, learned from crops of 32 x 32" in text and "none, a picture becomes a picture" in text
    assert "16 x 24, colour, fitted by crop" in run("info", folder / "vae.safetensors").stdout.decode()


def test_a_unet_is_measured_on_whole_photographs(folder: Path, run: Call, tmp_path: Path) -> None:
    model = ("-c", folder / "dae.safetensors")
    found = json.loads(run("evaluate", *model, "--data", folder / DATA).stdout)
    assert found["pictures"] == 24
    assert found["figures"]["psnr"] > found["figures"]["psnr_before"] + 2
    held_out = json.loads(run("evaluate", *model, cwd=folder).stdout)
    assert held_out["split"] == "test" and 0 < held_out["pictures"] < 12
    run("evaluate", *model, "--data", folder / DATA, "--per-image", "-o", "worst.csv")
    assert len((tmp_path / "worst.csv").read_text().splitlines()) == 25


def test_bad_pictures_are_left_out_when_asked(folder: Path, run: Call, tmp_path: Path) -> None:
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
        said = run(*call, "--skip-bad").stderr.decode()
        assert "in/3.png' is damaged" in said and "left out 1 that could not be read" in said
    assert np.load(tmp_path / "out-encode").shape == (4, 4)
    assert len(list((tmp_path / "out-denoise").iterdir())) == 4
    assert json.loads((tmp_path / "out-evaluate").read_text())["pictures"] == 4


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["vae", "--net", "unet"], 2, ["--net unet", "dae"]),
        (["dae", "--net", "unet", "--latent", "3"], 2, ["no latent"]),
        (["dae", "--net", "unet", "--size", "30"], 2, ["these sizes make no network", "multiples of 8"]),
        (["ae", "--size", "0"], 2, ["--size '0'", "--size 64"]),
        (["ae", "--size", "10x10x3"], 2, ["--size '10x10x3'"]),
        (["ae", "--size", "100000"], 2, ["--size '100000'", "1 to 4096"]),
        (["ae", "--size", "64", "--net", "mlp", "--hidden", "200000,200000"], 2, ["these sizes make no network", "more than"]),
    ],
)
def test_bad_calls_are_told(arguments: list[str], code: int, words: list[str], run: Call, folder: Path) -> None:
    one_line(run("train", *arguments, "--data", folder / DATA, code=code), *words)


@pytest.mark.fault(42)
def test_a_few_odd_pictures_are_learned_from(run: Call, tmp_path: Path) -> None:
    for name, shape in (("one", (1, 40)), ("two", (300, 2, 3)), ("three", (20, 20))):
        write_png(tmp_path / "odd" / f"{name}.png", np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    run("train", "vae", "--data", "odd", "--hidden", "8", "--epochs", "2", "-q")
    assert vaectl.load(tmp_path / "vae.safetensors").picture[2] == 3
    (tmp_path / "odd" / "two.png").unlink()
    (tmp_path / "odd" / "three.png").unlink()
    run("train", "ae", "--data", "odd", "--hidden", "8", "--epochs", "2", "-q")
    assert vaectl.load(tmp_path / "ae.safetensors").picture == (1, 40, 1)


def test_a_latent_larger_than_the_picture_is_remarked_upon(run: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "small.npy", np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8))
    said = run("train", "ae", "--data", "small.npy", "--latent", 17, "--hidden", "8", "--epochs", "1").stderr.decode()
    assert "17 latent dimensions" in said and "16 values" in said


def test_a_little_is_done_in_numpy_and_a_lot_in_torch_with_the_same_result(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "small.npy", np.random.default_rng(0).random((1, 64, 64, 3), np.float32))
    np.save(tmp_path / "large.npy", np.tile(np.load(tmp_path / "small.npy"), (1, 8, 8, 1)))
    script = (
        "import sys, numpy, vaectl.autoencoder\n"
        "vaectl.autoencoder.LITTLE = 100_000_000\n"
        f"model = vaectl.load({str(folder / 'dae.safetensors')!r})\n"
        "once = model.denoise(numpy.load('small.npy'))\n"
        "assert 'torch' not in sys.modules\n"
        "often = model.denoise(numpy.load('large.npy'))\n"
        "assert 'torch' in sys.modules\n"
        "numpy.save('once.npy', once[:, :20, :20]); numpy.save('often.npy', often[:, :20, :20])"
    )
    command = [sys.executable, "-c", script]
    subprocess.run(command, cwd=tmp_path, check=True, env=environment(), timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "once.npy"), np.load(tmp_path / "often.npy"), atol=1e-5)
