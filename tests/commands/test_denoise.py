from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import Result, one_line, write_png

import vaectl

Call = Callable[..., Result]
FIXTURES = Path(__file__).parents[1] / "fixtures"


def read_rows(path: Path) -> NDArray[np.float64]:
    """The clean, the corrupted and the denoised row of a comparison of MNIST digits."""
    return np.asarray(Image.open(path)).reshape(3, 28, -1) / 255


def test_a_folder_is_denoised_under_the_same_names(run: Call, dae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for name, image in zip(["a.png", "sub/b.png"], digits, strict=False):
        write_png(tmp_path / "noisy" / name, image)
    run("denoise", "noisy/", "-o", "clean/", "-c", dae)
    found = np.asarray(Image.open(tmp_path / "clean" / "sub" / "b.png")) / 255
    np.testing.assert_allclose(found, vaectl.load(dae).denoise(digits[1])[0, ..., 0], atol=0.51 / 255)


def test_an_error_in_a_folder_says_how_many_images_were_written(run: Call, tmp_path: Path) -> None:
    for name, width in ("a.png", 20), ("b.png", 30), ("c.png", 40):
        write_png(tmp_path / "noisy" / name, np.zeros((20, width, 3), np.uint8))
    (tmp_path / "noisy" / "c.png").write_bytes((tmp_path / "noisy" / "c.png").read_bytes()[:60])
    errors = run("denoise", "noisy/", "-o", "clean/", "-c", "photo", code=1).stderr.decode().splitlines()
    assert len(errors) == 2 and "2 images were written to 'clean/'" in errors[0] and "'noisy/c.png' is damaged" in errors[1]
    assert sorted(path.name for path in (tmp_path / "clean").iterdir()) == ["a.png", "b.png"]


def test_gray_stays_gray_from_an_array_as_from_a_picture(run: Call, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "0.png", digits[0, ..., 0])
    np.save(tmp_path / "0.npy", digits[0, ..., 0])
    of_array, of_picture = (run("denoise", name, "-c", "photo").stdout for name in ("0.npy", "0.png"))
    assert of_array == of_picture
    run("denoise", "0.npy", "-c", "photo", "-o", "of_array.png")
    assert Image.open(tmp_path / "of_array.png").mode == "L"


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
    one_line(run("denoise", "0.png", "--corrupt", "fog:3", "-c", dae, code=2), "'fog:3' is not a corruption", "mask:0.3")
    one_line(run("denoise", "0.png", "--corrupt", "guassian:3", "-c", dae, code=2), "did you mean gaussian:3?")
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


def test_a_folder_keeps_its_formats_names_and_metadata(run: Call, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    image = Image.fromarray(np.repeat(digits[0], 3, axis=2))
    names = ["a.PNG", "b.jpeg", "c.webp", "sub/d.tiff", "e.bmp", "noname"]
    for name, format in zip(names, ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "JPEG"], strict=True):
        image.save(tmp_path / "in" / name, format, **({} if format in ("WEBP", "BMP") else {"dpi": (240, 240), "comment": "me"}))
    run("denoise", "in/", "-o", "out/", "--keep-format", "-c", FIXTURES / "unet.safetensors")
    written = {str(path.relative_to(tmp_path / "out")): Image.open(path) for path in (tmp_path / "out").rglob("*.*")}
    assert {name: image.format for name, image in written.items()} == {
        "a.PNG": "PNG", "b.jpeg": "JPEG", "c.webp": "WEBP", "sub/d.tiff": "TIFF", "e.bmp.png": "PNG", "noname.jpg": "JPEG",
    }  # fmt: skip
    assert round(written["sub/d.tiff"].info["dpi"][0]) == round(written["a.PNG"].info["dpi"][0]) == 240
    assert written["b.jpeg"].info["comment"] == b"me"
    result = run("denoise", "in/a.PNG", "in/b.jpeg", "-o", "sheet.jpg", "-c", FIXTURES / "unet.safetensors")
    assert (
        b"2 images become one sheet without their metadata: write to a folder, as in -o out/, to keep them separate\n"
        in result.stderr
    )
    run("denoise", "in/b.jpeg", "-o", "b.tif", "-c", FIXTURES / "unet.safetensors")
    assert Image.open(tmp_path / "b.tif").info["dpi"] == (240, 240)


# The ready-made model.


def write_photo(path: Path, sigma: float, seed: int = 0, mode: str = "RGB", **options: object) -> NDArray[np.float64]:
    """Write a noisy photo, and return the clean one in [0, 1]."""
    clean = Image.radial_gradient("L").resize((96, 80)).convert(mode)
    pixels = np.asarray(clean) / 255
    noisy = pixels + sigma * np.random.default_rng(seed).standard_normal(pixels.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)).save(path, **options)
    return pixels


def psnr(path: Path, clean: NDArray[np.float64]) -> float:
    """The PSNR of an image, in dB."""
    return -10 * float(np.log10(np.square(np.asarray(Image.open(path)) / 255 - clean).mean() + 1e-10))


@pytest.mark.parametrize("sigma", [0.06, 0.1, 0.2])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_photo_of_any_noise_is_denoised_without_a_training(run: Call, tmp_path: Path, sigma: float, mode: str) -> None:
    clean = write_photo(tmp_path / "in" / "photo.png", sigma, mode=mode)
    result = run("denoise", "in/photo.png", "-o", "clean.png")
    one_line(result, "using 'photo', the ready-made denoiser of photos: choose another with -c")
    assert psnr(tmp_path / "clean.png", clean) > psnr(tmp_path / "in" / "photo.png", clean) + 8
    assert Image.open(tmp_path / "clean.png").mode == mode
    assert not run("denoise", "in/photo.png", "-o", "clean.png", "-q").stderr
    assert not run("denoise", "in/photo.png", "-o", "clean.png", "-c", "photo").stderr


def test_originals_are_not_replaced(run: Call, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png"):
        write_photo(tmp_path / "in" / name, 0.1)
    before = {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    for arguments in (["in/"], ["in/", "--keep-format"], ["in/b.png"], ["in/a.jpg", "--keep-format"]):
        one_line(run("denoise", *arguments, "-o", "in", code=2), "'in' holds the originals: name another folder with -o")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    run("denoise", "in/a.jpg", "-o", "in")
    run("denoise", "mnist:3", "--keep-format", "-o", ".")
    assert Image.open(tmp_path / "mnist-test-00003.png").size == (28, 28)
    assert Image.open(tmp_path / "in" / "a.png").size == Image.open(tmp_path / "in" / "a.jpg").size


def test_a_file_that_keeps_its_format_keeps_its_name_before_others(run: Call, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, color in (("b.bmp", 10), ("b.png", 200), ("c.bmp", 30)):
        Image.new("RGB", (9, 9), (color,) * 3).save(tmp_path / "in" / name)
    run("denoise", "in/", "-o", "out/", "--keep-format", "-c", FIXTURES / "unet.safetensors")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"b.bmp.png", "b.png", "c.bmp.png"}
    assert np.asarray(Image.open(tmp_path / "out" / "b.png")).mean() > 150


def test_a_clean_photo_comes_back_as_it_was(run: Call, tmp_path: Path) -> None:
    clean = write_photo(tmp_path / "photo.png", 0)
    run("denoise", "photo.png", "-o", "clean.png")
    assert psnr(tmp_path / "clean.png", clean) > 40


def test_the_strength_is_how_much_of_the_result_is_mixed_in(run: Call, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", 0.1)
    run("denoise", "photo.png", "-o", "all.png")
    for strength in (0, 0.25, 1):
        run("denoise", "photo.png", "-o", "some.png", "--strength", strength)
        photo, whole, some = (np.asarray(Image.open(tmp_path / f"{name}.png")).astype(float) for name in ("photo", "all", "some"))
        np.testing.assert_allclose(some, (1 - strength) * photo + strength * whole, atol=0 if strength in (0, 1) else 1)


def test_the_denoiser_in_the_folder_comes_before_the_ready_made_one(run: Call, dae: Path, vae: Path, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png", 0.1)
    (tmp_path / "vae.safetensors").write_bytes(vae.read_bytes())
    text = run("denoise", "photo.png", "-o", "out.png").stderr.decode()
    assert "using 'photo'" in text and "'vae.safetensors' is here" in text
    (tmp_path / "dae.safetensors").write_bytes(dae.read_bytes())
    assert "using 'dae.safetensors'" in run("denoise", "photo.png", "-o", "out.png").stderr.decode()
    (tmp_path / "photo").write_bytes(dae.read_bytes())  # a file of that name is that file
    run("denoise", "photo.png", "-o", "out.png", "-c", "photo")
    assert Image.open(tmp_path / "out.png").size == (28, 28)


def test_a_name_that_is_not_ready_made_is_refused_with_those_that_are(run: Call) -> None:
    one_line(run("denoise", "x.png", "-c", "photos", code=1), "there is no checkpoint 'photos'", "did you mean photo?")


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (20_000, 2)])
def test_a_photo_of_any_size_is_denoised(run: Call, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (200, 100, 50)).save(tmp_path / "photo.png")
    run("denoise", "photo.png", "-o", "clean.png")
    found = np.asarray(Image.open(tmp_path / "clean.png"))
    assert found.shape == (*size[::-1], 3)
    assert np.abs(found - np.array([200, 100, 50], float)).max() < 12


def test_a_cmyk_photo_is_denoised_as_rgb(run: Call, tmp_path: Path) -> None:
    Image.new("CMYK", (40, 30), (100, 0, 0, 0)).save(tmp_path / "photo.jpg", icc_profile=b"\0" * 200, quality=100)
    run("denoise", "photo.jpg", "-o", "clean.jpg")
    found = Image.open(tmp_path / "clean.jpg")
    assert found.mode == "RGB" and "icc_profile" not in found.info
    np.testing.assert_allclose(np.asarray(found)[15, 20], [155, 255, 255], atol=8)


def test_photos_noisier_than_what_was_learned_are_named(run: Call, tmp_path: Path) -> None:
    unet = FIXTURES / "unet.safetensors"  # which learned gaussian:0.1
    write_photo(tmp_path / "in" / "a.png", 0.3)
    write_photo(tmp_path / "in" / "b.png", 0.1)
    write_photo(tmp_path / "in" / "c.png", 0.35)
    write_photo(tmp_path / "in" / "d.png", 0)
    lines = run("denoise", "in", "-o", "out/", "-c", unet).stderr.decode().splitlines()
    assert len(lines) == 2
    assert (
        "'a.png' (and 1 more) has noise of about 0.2" in lines[0] and "above the 0.1 that this model was trained on" in lines[0]
    )
    assert "'d.png' has noise of about" in lines[1] and "use -c photo" in lines[1]
    assert not run("denoise", "in/b.png", "-o", "b.png", "-c", unet).stderr
