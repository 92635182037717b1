from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from support import Result, one_line, write_png

import vaectl

Call = Callable[..., Result]


def test_a_folder_comes_out_clean_under_its_names(run: Call, dae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for name, picture in zip(["a.png", "sub/b.png"], digits, strict=False):
        write_png(tmp_path / "noisy" / name, picture)
    run("denoise", "noisy/", "-o", "clean/", "-c", dae)
    found = np.asarray(Image.open(tmp_path / "clean" / "sub" / "b.png")) / 255
    np.testing.assert_allclose(found, vaectl.load(dae).denoise(digits[1])[0, ..., 0], atol=0.51 / 255)


def test_noise_goes(run: Call, dae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "x.npy", digits)
    run("denoise", "x.npy", "--corrupt", "gaussian:0.25", "--compare", "-o", "compared.png", "--columns", 64, "-c", dae)
    rows = np.asarray(Image.open(tmp_path / "compared.png")).reshape(3, 28, -1) / 255
    clean, spoiled, restored = rows
    np.testing.assert_allclose(clean, np.concatenate(list(digits[..., 0]), axis=1) / 255, atol=1e-6)
    assert np.square(restored - clean).mean() < 0.9 * np.square(spoiled - clean).mean()


def test_compare_alone_shows_before_and_after(run: Call, dae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "0.png", digits[0])
    run("denoise", "0.png", "--compare", "-o", "compared.png", "-c", dae)
    assert Image.open(tmp_path / "compared.png").size == (28, 56)


def test_the_seed_decides_how_pictures_are_spoiled(run: Call, dae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "0.png", digits[0])
    one, same, other = (run("denoise", "0.png", "--corrupt", "mask:0.3", "--seed", seed, "-c", dae).stdout for seed in (1, 1, 2))
    assert one == same != other


def test_the_denoiser_is_taken_before_newer_models(run: Call, models: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for name in ("dae", "vae"):
        (tmp_path / f"{name}.safetensors").write_bytes((models / f"{name}.safetensors").read_bytes())
    write_png(tmp_path / "0.png", digits[0])
    assert "'dae.safetensors'" in run("denoise", "0.png", "-o", "out.png").stderr.decode()


def test_a_model_that_learned_from_clean_pictures_is_refused(run: Call, ae: Path, vae: Path, tmp_path: Path) -> None:
    for path, kind in ((ae, "'ae'"), (vae, "'vae'")):
        one_line(run("denoise", "0.png", "-c", path, code=1), f"is of kind {kind}", "use a dae")


def test_a_corruption_that_does_not_parse_is_wrong_usage(run: Call, dae: Path) -> None:
    one_line(run("denoise", "0.png", "--corrupt", "blur:3", "-c", dae, code=2), "'blur:3' is no corruption", "mask:0.25")
    one_line(run("denoise", "0.png", "--corrupt", "watermark:none.png", "-c", dae, code=1), "'none.png'", "no such file")


def test_a_watermark_comes_off(run: Call, tmp_path: Path, digits: NDArray[np.uint8], small_data: Path) -> None:
    mark = Image.new("RGBA", (12, 8), (255, 255, 255, 0))
    mark.paste((255, 255, 255, 255), (0, 3, 12, 5))
    mark.save(tmp_path / "logo.png")
    spoil = ("--corrupt", "watermark:logo.png")
    run("train", "dae", "--data", small_data, *spoil, "--latent", 32, "--hidden", 200, "--epochs", 60, "-q")
    np.save(tmp_path / "x.npy", digits)
    run("denoise", "x.npy", *spoil, "--compare", "-o", "compared.png", "--columns", 64)
    clean, marked, restored = np.asarray(Image.open(tmp_path / "compared.png")).reshape(3, 28, -1) / 255
    where = np.abs(marked - clean) > 0.3
    assert where.mean() > 0.02
    assert np.square(restored - clean)[where].mean() < 0.3 * np.square(marked - clean)[where].mean()
