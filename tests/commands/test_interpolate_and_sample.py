import itertools
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import Result, one_line, write_png

import vaectl

Call = Callable[..., Result]


def loaded(data: bytes) -> NDArray[np.float32]:
    array: NDArray[np.float32] = np.load(BytesIO(data))
    return array


def frames(path: Path) -> list[Image.Image]:
    image = Image.open(path)
    found = []
    for index in itertools.count():
        try:
            image.seek(index)
        except EOFError:
            return found
        found.append(image.convert("RGB"))
    raise AssertionError


def test_from_latents_to_latents_no_checkpoint_is_needed(run: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", [[0, 0], [2, 4], [2, 0]])
    walk = loaded(run("interpolate", "z.npy", "--steps", 3).stdout)
    assert walk.tolist() == [[0, 0], [1, 2], [2, 4], [2, 2], [2, 0]]
    loop = loaded(run("interpolate", "z.npy", "--steps", 3, "--loop").stdout)
    assert loop.tolist() == [[0, 0], [1, 2], [2, 4], [2, 2], [2, 0], [1, 0]]


def test_pictures_and_latents_may_be_mixed(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "0.png", digits[0])
    np.save(tmp_path / "z.npy", [9, 9])
    walk = loaded(run("interpolate", "0.png", "z.npy", "--steps", 2, "-c", vae).stdout)
    np.testing.assert_allclose(walk, [vaectl.load(vae).encode(digits[0])[0], [9, 9]], atol=1e-5)


def test_a_great_circle_keeps_its_distance_from_the_centre(run: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", [[3, 0, 0], [0, 3, 0]])
    walk = loaded(run("interpolate", "z.npy", "--steps", 7, "--method", "slerp").stdout)
    np.testing.assert_allclose(np.linalg.norm(walk, axis=1), 3, rtol=1e-5)
    np.testing.assert_allclose(walk[3], [3 / np.sqrt(2)] * 2 + [0], atol=1e-5)


@pytest.mark.parametrize("z", [[[0, 0], [1, 1]], [[1, 1], [1, 1]], [[1, 0], [-1, 0]]])
def test_where_there_is_no_great_circle_the_line_is_straight(z: list[list[int]], run: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", z)
    straight, circle = (run("interpolate", "z.npy", "--method", method).stdout for method in ("linear", "slerp"))
    assert straight == circle


@pytest.mark.parametrize("name", ["walk.gif", "walk.apng", "walk.webp"])
def test_a_walk_is_an_animation(name: str, run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index in range(2):
        write_png(tmp_path / f"{index}.png", digits[index])
    animate = ["--animate"] if name.endswith("webp") else []
    run("interpolate", "0.png", "1.png", "--steps", 6, "-o", name, "--scale", 2, "--fps", 20, *animate, "-c", vae)
    found = frames(tmp_path / name)
    assert len(found) == 6
    assert found[0].size == (56, 56)
    assert Image.open(tmp_path / name).info["loop"] == 0
    model = vaectl.load(vae)
    last = model.decode(model.encode(digits[1]))[0, ::1, ::1, 0]
    np.testing.assert_allclose(np.asarray(found[-1])[::2, ::2, 0] / 255, last, atol=0.02)


def test_a_walk_is_a_strip_or_numbered_pictures(run: Call, vae: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", [[0, 0], [1, 1]])
    run("interpolate", "z.npy", "--steps", 5, "-o", "strip.png", "-c", vae)
    assert Image.open(tmp_path / "strip.png").size == (140, 28)
    run("interpolate", "z.npy", "--steps", 5, "-o", "f%d.png", "-c", vae)
    assert (tmp_path / "f4.png").exists()


def test_walks_that_are_none_are_told(run: Call, vae: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", [1, 2])
    np.save(tmp_path / "three.npy", [1, 2, 3])
    one_line(run("interpolate", "one.npy", code=2), "give two pictures or latents")
    one_line(run("interpolate", "one.npy", "--steps", 1, code=2), "--steps")
    one_line(run("interpolate", "one.npy", "three.npy", code=1), "latents are (N, 2)")
    one_line(run("interpolate", "three.npy", "three.npy", "-o", "x.gif", "-c", vae, code=1), "latents are (N, 2)")
    one_line(run("interpolate", "one.npy", "-o", "x.png", "--animate", code=2), "png is no animation", "--animate")


def test_draws_follow_the_prior_and_the_seed(run: Call, vae: Path) -> None:
    z = loaded(run("sample", "-n", 4000, "--seed", 3, "-c", vae).stdout)
    assert z.shape == (4000, 2)
    np.testing.assert_allclose([z.mean(), z.std()], [0, 1], atol=0.05)
    same, other = (run("sample", "-n", 4000, "--seed", seed, "-c", vae).stdout for seed in (3, 4))
    assert loaded(same).tobytes() == z.tobytes() != loaded(other).tobytes()


def test_draws_into_a_picture_are_decoded(run: Call, vae: Path, tmp_path: Path) -> None:
    run("sample", "-n", 25, "-o", "sheet.png", "-c", vae)
    z = run("sample", "-n", 25, "-c", vae).stdout
    run("decode", "-o", "decoded.png", "-c", vae, input=z)
    assert (tmp_path / "sheet.png").read_bytes() == (tmp_path / "decoded.png").read_bytes()
    assert Image.open(tmp_path / "sheet.png").size == (140, 140)


def test_a_model_without_a_prior_cannot_be_sampled(run: Call, ae: Path) -> None:
    one_line(run("sample", "-c", ae, code=1), "is of kind 'ae'", "use a vae")
