import itertools
import json
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import FIXTURES, Result, one_line, write_png

import vaectl

Call = Callable[..., Result]


def load(data: bytes) -> NDArray[np.float32]:
    array: NDArray[np.float32] = np.load(BytesIO(data))
    return array


def read_frames(path: Path) -> list[Image.Image]:
    image = Image.open(path)
    frames = []
    for index in itertools.count():
        try:
            image.seek(index)
        except EOFError:
            return frames
        frames.append(image.convert("RGB"))
    raise AssertionError


def test_from_latents_to_latents_no_checkpoint_is_needed(run: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", [[0, 0], [2, 4], [2, 0]])
    path = load(run("interpolate", "z.npy", "--steps", 3).stdout)
    assert path.tolist() == [[0, 0], [1, 2], [2, 4], [2, 2], [2, 0]]
    loop = load(run("interpolate", "z.npy", "--steps", 3, "--loop").stdout)
    assert loop.tolist() == [[0, 0], [1, 2], [2, 4], [2, 2], [2, 0], [1, 0]]


def test_latents_of_a_csv_are_interpolated_as_those_of_an_npy(run: Call, tmp_path: Path) -> None:
    run("sample", "-n", 3, "-c", FIXTURES / "vae.safetensors", "-o", "z.npy")
    run("sample", "-n", 3, "-c", FIXTURES / "vae.safetensors", "-o", "z.csv")
    table = (tmp_path / "z.csv").read_bytes()
    path = run("interpolate", "z.npy").stdout
    assert path == run("interpolate", "z.csv").stdout == run("interpolate", input=table).stdout
    both = np.concatenate([np.load(tmp_path / "z.npy")] * 2)
    assert load(run("interpolate", "--steps", 2, input=table * 2).stdout).tobytes() == both.tobytes()


def test_images_and_latents_may_be_mixed(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "0.png", digits[0])
    np.save(tmp_path / "z.npy", [9, 9])
    path = load(run("interpolate", "0.png", "z.npy", "--steps", 2, "-c", vae).stdout)
    np.testing.assert_allclose(path, [vaectl.load(vae).encode(digits[0])[0], [9, 9]], atol=1e-5)


def test_images_of_a_data_set_are_interpolated_by_name(run: Call, vae: Path, digits: NDArray[np.uint8]) -> None:
    path = load(run("interpolate", "mnist:3", "mnist:18", "--steps", 2, "-c", vae).stdout)
    np.testing.assert_allclose(path, vaectl.load(vae).encode(digits[[3, 18]]), atol=1e-5)


def test_damaged_images_are_skipped_with_skip_bad(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index in range(3):
        write_png(tmp_path / "in" / f"{index}.png", digits[index])
    (tmp_path / "in" / "1.png").write_bytes((tmp_path / "in" / "1.png").read_bytes()[:90])
    one_line(run("interpolate", "in", "--steps", 2, "-c", vae, code=1), "in/1.png' is damaged", "--skip-bad")
    result = run("interpolate", "in", "--steps", 2, "-c", vae, "--skip-bad")
    np.testing.assert_allclose(load(result.stdout), vaectl.load(vae).encode(digits[[0, 2]]), atol=1e-5)
    assert "in/1.png' is damaged (truncated PNG): skipped\n" in result.stderr.decode()
    assert result.stderr.decode().endswith("skipped 1 image that could not be read\n")


def test_slerp_keeps_the_distance_from_the_origin(run: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", [[3, 0, 0], [0, 3, 0]])
    path = load(run("interpolate", "z.npy", "--steps", 7, "--method", "slerp").stdout)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 3, rtol=1e-5)
    np.testing.assert_allclose(path[3], [3 / np.sqrt(2)] * 2 + [0], atol=1e-5)


@pytest.mark.parametrize("z", [[[0, 0], [1, 1]], [[1, 1], [1, 1]], [[1, 0], [-1, 0]]])
def test_slerp_without_a_unique_great_circle_is_linear(z: list[list[int]], run: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", z)
    linear, slerp = (run("interpolate", "z.npy", "--method", method).stdout for method in ("linear", "slerp"))
    assert linear == slerp


@pytest.mark.parametrize("name", ["walk.gif", "walk.apng", "walk.webp"])
def test_an_interpolation_can_be_an_animation(name: str, run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index in range(2):
        write_png(tmp_path / f"{index}.png", digits[index])
    animate = ["--animate"] if name.endswith("webp") else []
    run("interpolate", "0.png", "1.png", "--steps", 6, "-o", name, "--scale", 2, "--fps", 20, *animate, "-c", vae)
    frames = read_frames(tmp_path / name)
    assert len(frames) == 6
    assert frames[0].size == (56, 56)
    assert Image.open(tmp_path / name).info["loop"] == 0
    model = vaectl.load(vae)
    last = model.decode(model.encode(digits[1]))[0, ..., 0]
    np.testing.assert_allclose(np.asarray(frames[-1])[::2, ::2, 0] / 255, last, atol=0.02)


def test_animations_of_small_images_are_enlarged_unless_a_scale_is_given(run: Call, vae: Path, tmp_path: Path) -> None:
    call = ("interpolate", "mnist:3", "mnist:18", "--steps", 2, "-c", vae, "-o")
    run(*call, "large.gif")
    assert Image.open(tmp_path / "large.gif").size == (252, 252)
    run(*call, "small.gif", "--scale", 1)
    assert Image.open(tmp_path / "small.gif").size == (28, 28)
    run(*call, "strip.png")
    assert Image.open(tmp_path / "strip.png").size == (56, 28)


def test_an_interpolation_can_be_a_strip_or_numbered_images(run: Call, vae: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", [[0, 0], [1, 1]])
    run("interpolate", "z.npy", "--steps", 5, "-o", "strip.png", "-c", vae)
    assert Image.open(tmp_path / "strip.png").size == (140, 28)
    run("interpolate", "z.npy", "--steps", 5, "-o", "f%d.png", "-c", vae)
    assert (tmp_path / "f4.png").exists()


def test_an_impossible_interpolation_is_an_error(run: Call, vae: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", [1, 2])
    np.save(tmp_path / "three.npy", [1, 2, 3])
    one_line(run("interpolate", "one.npy", code=2), "give at least two images or latents")
    one_line(run("interpolate", "one.npy", "--steps", 1, code=2), "--steps")
    one_line(run("interpolate", "one.npy", "three.npy", code=1), "latents of shape (N, 2) are expected")
    one_line(run("interpolate", "three.npy", "three.npy", "-o", "x.gif", "-c", vae, code=1), "latents of shape (N, 2)")
    one_line(run("interpolate", "one.npy", "-o", "x.png", "--animate", code=2), "png is not animated", "--animate")


def test_samples_follow_the_prior_and_the_seed(run: Call, vae: Path) -> None:
    call = ("sample", "-n", 4000, "--prior", "normal", "-c", vae, "--seed")
    z = load(run(*call, 3).stdout)
    assert z.shape == (4000, 2)
    np.testing.assert_allclose([z.mean(), z.std()], [0, 1], atol=0.05)
    same, other = (run(*call, seed).stdout for seed in (3, 4))
    assert load(same).tobytes() == z.tobytes() != load(other).tobytes()


@pytest.mark.parametrize("name", ["vae", "ae"])
def test_samples_of_the_learned_prior_are_where_the_latents_are(name: str, run: Call, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(name)
    model = vaectl.load(path)
    assert model.checkpoint.prior is not None
    z, latents = load(run("sample", "-n", 4000, "-c", path).stdout), model.encode("mnist:test")
    np.testing.assert_allclose(z.mean(0), latents.mean(0), atol=0.3 * latents.std(0).max())
    np.testing.assert_allclose(z.std(0), latents.std(0), rtol=0.35, atol=0.1)
    cold = load(run("sample", "-n", 500, "--temperature", 0, "-c", path).stdout)
    assert len(np.unique(cold, axis=0)) <= len(model.checkpoint.prior)


def test_a_prior_that_is_not_there_is_refused(run: Call, ae: Path) -> None:
    one_line(run("sample", "-c", ae, "--prior", "normal", code=1), "N(0, I) is not a prior of this ae")
    one_line(
        run("sample", "-c", FIXTURES / "vae.safetensors", "--prior", "learned", code=1), "has no learned prior", "train it again"
    )
    assert load(run("sample", "-n", 5, "-c", FIXTURES / "vae.safetensors").stdout).shape[0] == 5
    one_line(run("sample", "-c", ae, "--label", "seven", code=2), "no label 'seven': its labels are '0', '1'")
    one_line(run("sample", "-c", ae, "--temperature", -1, code=2), "--temperature")


def test_samples_are_decoded_if_the_output_is_an_image(run: Call, vae: Path, tmp_path: Path) -> None:
    run("sample", "-n", 25, "-o", "sheet.png", "-c", vae)
    z = run("sample", "-n", 25, "-c", vae).stdout
    run("decode", "-o", "decoded.png", "-c", vae, input=z)
    assert (tmp_path / "sheet.png").read_bytes() == (tmp_path / "decoded.png").read_bytes()
    assert Image.open(tmp_path / "sheet.png").size == (140, 140)


def test_samples_into_a_folder_are_images(run: Call, vae: Path, tmp_path: Path) -> None:
    run("sample", "-n", 3, "-c", vae, "-o", "out/")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"sample-{index:05d}.png" for index in range(3)]


def test_samples_are_decoded_by_the_model_they_are_of(run: Call, models: Path, tmp_path: Path) -> None:
    for age, name in enumerate(["dae", "vae"]):
        (tmp_path / f"{name}.safetensors").write_bytes((models / f"{name}.safetensors").read_bytes())
        os.utime(tmp_path / f"{name}.safetensors", (1000 - age, 1000 - age))
    sampled = run("sample", "-n", 2)
    decoded = run("decode", "-o", "out.png", input=sampled.stdout)
    for result in (sampled, decoded):
        assert "using 'dae.safetensors', the newest of" in result.stderr.decode()


def test_inverted_images_are_interpolated(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index in range(2):
        write_png(tmp_path / f"{index}.png", digits[index])
        write_png(tmp_path / f"inverted-{index}.png", 255 - digits[index])
    plain, inverted = (
        load(run("interpolate", *names, "-c", vae).stdout)
        for names in (("0.png", "1.png"), ("inverted-0.png", "inverted-1.png", "--invert"))
    )
    np.testing.assert_allclose(inverted, plain, atol=1e-4)


def test_a_label_draws_images_of_that_label(run: Call, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    black, white = np.zeros((100, 8, 8), np.uint8), np.full((100, 8, 8), 255, np.uint8)
    images = np.random.default_rng(0).permutation(np.concatenate([black, white]))
    names = np.where(images[:, 0, 0] > 0, "white", "black")
    np.savez(tmp_path / "x.npz", x_train=images, y_train=names, x_test=images[:10], y_test=names[:10])
    run("train", "ae", "--data", "x.npz", "--latent", 2, "--hidden", 16, "--epochs", 100, "-o", "ae.safetensors")
    for label, value in (("white", 1), ("black", 0)):
        run("sample", "-n", 9, "--label", label, "-c", "ae.safetensors", "-o", "out.png")
        assert np.asarray(Image.open(tmp_path / "out.png")).mean() / 255 == pytest.approx(value, abs=0.2)
    one_line(run("sample", "--label", "red", "-c", "ae.safetensors", code=2), "no label 'red'", "'black', 'white'")
    assert "2 labels" in run("info", "ae.safetensors").stdout.decode()
    found = json.loads(run("evaluate", "-c", "ae.safetensors").stdout)
    assert found["label_accuracy"] == 1
    np.savez(tmp_path / "others.npz", x_train=images, y_train=["other"] * 200, x_test=images, y_test=["other"] * 200)
    assert json.loads(run("evaluate", "-c", "ae.safetensors", "--data", "others.npz").stdout)["label_accuracy"] is None
