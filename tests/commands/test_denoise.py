from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from support import Result, one_line, write_png

import vaectl

Call = Callable[..., Result]


def read_rows(path: Path) -> NDArray[np.float64]:
    """The clean, the corrupted and the denoised row of a comparison of MNIST digits."""
    return np.asarray(Image.open(path)).reshape(3, 28, -1) / 255


def test_a_folder_is_denoised_under_the_same_names(run: Call, dae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for name, image in zip(["a.png", "sub/b.png"], digits, strict=False):
        write_png(tmp_path / "noisy" / name, image)
    run("denoise", "noisy/", "-o", "clean/", "-c", dae)
    found = np.asarray(Image.open(tmp_path / "clean" / "sub" / "b.png")) / 255
    np.testing.assert_allclose(found, vaectl.load(dae).denoise(digits[1])[0, ..., 0], atol=0.51 / 255)


def test_denoising_removes_noise(run: Call, dae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "x.npy", digits)
    run("denoise", "x.npy", "--corrupt", "gaussian:0.25", "--compare", "-o", "compared.png", "--columns", 64, "-c", dae)
    clean, corrupted, denoised = read_rows(tmp_path / "compared.png")
    np.testing.assert_allclose(clean, np.concatenate(list(digits[..., 0]), axis=1) / 255, atol=1e-6)
    assert np.square(denoised - clean).mean() < 0.9 * np.square(corrupted - clean).mean()


def test_an_image_of_a_data_set_is_denoised_by_name(run: Call, dae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    run("denoise", "mnist:17", "--corrupt", "mask:0.3", "--compare", "-o", "compared.png", "-c", dae)
    clean, corrupted, _ = read_rows(tmp_path / "compared.png")
    np.testing.assert_allclose(clean, digits[17, ..., 0] / 255, atol=1e-6)
    assert (corrupted <= clean).all() and (corrupted != clean).any()


def test_compare_without_corrupt_shows_before_and_after(run: Call, dae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "0.png", digits[0])
    run("denoise", "0.png", "--compare", "-o", "compared.png", "-c", dae)
    assert Image.open(tmp_path / "compared.png").size == (28, 56)


def test_the_seed_determines_the_corruption(run: Call, dae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "0.png", digits[0])
    one, same, other = (run("denoise", "0.png", "--corrupt", "mask:0.3", "--seed", seed, "-c", dae).stdout for seed in (1, 1, 2))
    assert one == same != other


def test_the_denoiser_is_preferred_to_newer_models(run: Call, models: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for name in ("dae", "vae"):
        (tmp_path / f"{name}.safetensors").write_bytes((models / f"{name}.safetensors").read_bytes())
    write_png(tmp_path / "0.png", digits[0])
    assert "using 'dae.safetensors', the denoiser of" in run("denoise", "0.png", "-o", "out.png").stderr.decode()


def test_a_model_trained_on_clean_images_is_refused(run: Call, ae: Path, vae: Path, tmp_path: Path) -> None:
    for path, kind in ((ae, "ae"), (vae, "vae")):
        one_line(
            run("denoise", "0.png", "-c", path, code=1),
            f"{str(path)!r}, a {kind}, was trained on clean images",
            "name a dae with -c FILE",
        )


def test_an_unknown_corruption_is_wrong_usage(run: Call, dae: Path) -> None:
    one_line(run("denoise", "0.png", "--corrupt", "blur:3", "-c", dae, code=2), "'blur:3' is not a corruption", "mask:0.25")
    one_line(run("denoise", "0.png", "--corrupt", "watermark:none.png", "-c", dae, code=1), "'none.png'", "no such file")


def test_a_strength_out_of_255_is_explained(run: Call, dae: Path) -> None:
    result = run("denoise", "mnist:17", "--corrupt", "gaussian:25", "-c", dae, code=2)
    one_line(result, "'gaussian:25': strengths are between 0 and 1: 25 of 255 is gaussian:0.098")


def test_a_watermark_is_removed(run: Call, tmp_path: Path, digits: NDArray[np.uint8], small_data: Path) -> None:
    mark = Image.new("RGBA", (12, 8), (255, 255, 255, 0))
    mark.paste((255, 255, 255, 255), (0, 3, 12, 5))
    mark.save(tmp_path / "logo.png")
    corrupt = ("--corrupt", "watermark:logo.png")
    run("train", "dae", "--data", small_data, *corrupt, "--latent", 32, "--hidden", 200, "--epochs", 15, "-q")
    np.save(tmp_path / "x.npy", digits)
    run("denoise", "x.npy", *corrupt, "--compare", "-o", "compared.png", "--columns", 64)
    clean, marked, denoised = read_rows(tmp_path / "compared.png")
    where = np.abs(marked - clean) > 0.3
    assert where.mean() > 0.02
    assert np.square(denoised - clean)[where].mean() < 0.3 * np.square(marked - clean)[where].mean()
