import shutil
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


def pixels(data: bytes) -> NDArray[np.float64]:
    return np.asarray(Image.open(BytesIO(data))) / 255


def test_one_latent_becomes_one_image(run: Call, vae: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", [0.5, -1.0])
    expected = vaectl.load(vae).decode([0.5, -1.0])[0, ..., 0]
    np.testing.assert_allclose(pixels(run("decode", "z.npy", "-c", vae).stdout), expected, atol=0.51 / 255)


@pytest.mark.parametrize("dtype", [">f8", "<f2", "<i4"])
def test_latents_of_any_dtype_decode_alike(dtype: str, run: Call, vae: Path, tmp_path: Path) -> None:
    z = np.array([[1, -1], [0, 2]])
    np.save(tmp_path / "a.npy", z.astype(np.float32))
    np.save(tmp_path / "b.npy", np.asfortranarray(z.astype(dtype)))
    assert run("decode", "a.npy", "-c", vae).stdout == run("decode", "b.npy", "-c", vae).stdout


def test_many_latents_become_a_sheet_with_columns(run: Call, vae: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros((6, 2)))
    run("decode", "z.npy", "-c", vae, "-o", "sheet.jpg", "--columns", 4, "--scale", 2)
    assert Image.open(tmp_path / "sheet.jpg").size == (4 * 56, 2 * 56)


def test_latents_decode_into_a_folder_and_numbered_files(run: Call, vae: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros((3, 2)))
    run("decode", "z.npy", "-c", vae, "-o", "out/")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["z-00000.png", "z-00001.png", "z-00002.png"]
    run("decode", "z.npy", "-c", vae, "-o", "f%02d.png")
    assert (tmp_path / "f02.png").exists() and not (tmp_path / "f03.png").exists()


def test_a_csv_decodes_into_files_of_the_names_in_it(run: Call, vae: Path, digits_folder: Path, tmp_path: Path) -> None:
    run("encode", "digits", "-c", vae, "-o", "z.csv")
    table = (tmp_path / "z.csv").read_bytes()
    assert table.startswith(b"name,label,z0,z1\n00.png,,")
    for arguments, stdin in ((["z.csv"], b""), ([], table), (["-"], table)):
        run("decode", *arguments, "-c", vae, "-o", "out/", input=stdin)
        found = {path.relative_to(tmp_path / "out"): path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}
        assert found.keys() == {path.relative_to(digits_folder) for path in digits_folder.rglob("*.png")}
        one = pixels(found[Path("more/11.png")])
        expected = vaectl.load(vae).reconstruct(digits_folder / "more" / "11.png")[0, ..., 0]
        np.testing.assert_allclose(one, expected, atol=0.51 / 255)
        shutil.rmtree(tmp_path / "out")


def test_an_input_without_proper_latents_is_named(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "0.png", digits[0])
    np.save(tmp_path / "wide.npy", np.zeros((2, 5)))
    np.save(tmp_path / "nan.npy", [[0, 0], [0, np.nan]])
    np.save(tmp_path / "words.npy", ["a"])
    (tmp_path / "cut.npy").write_bytes((tmp_path / "wide.npy").read_bytes()[:-1])
    for name, words in {
        "0.png": "a PNG file: latents (NPY or CSV) are expected: run vaectl encode",
        "mnist:17": "mnist-test-00017 is an image: latents (NPY or CSV) are expected: run vaectl encode",
        "wide.npy": "is an array of shape (2, 5): latents of shape (N, 2) are expected",
        "nan.npy": "1 values are NaN or infinite, the first at [1, 1]",
        "words.npy": "expected numbers",
        "none.npy": "no such file",
    }.items():
        one_line(run("decode", name, "-c", vae, code=1), words)


def test_the_first_dimension_runs_right_and_the_second_up(run: Call, vae: Path) -> None:
    plane = pixels(run("grid", "--steps", 3, "--range", -2, 2, "-c", vae).stdout)
    assert plane.shape == (84, 84)
    model = vaectl.load(vae)
    for row, column, z in [(0, 0, [-2, 2]), (0, 2, [2, 2]), (2, 0, [-2, -2]), (1, 1, [0, 0])]:
        tile = plane[28 * row : 28 * row + 28, 28 * column : 28 * column + 28]
        np.testing.assert_allclose(tile, model.decode(z)[0, ..., 0], atol=0.51 / 255)


def test_the_default_is_20_steps_from_minus_3_to_3(run: Call, vae: Path) -> None:
    default = run("grid", "-c", vae).stdout
    assert default == run("grid", "--range", -3, 3, "--steps", 20, "--dims", 0, 1, "--spacing", "linear", "-c", vae).stdout
    assert pixels(default).shape == (560, 560)
    assert default != run("grid", "--spacing", "quantile", "-c", vae).stdout


def test_a_model_without_a_prior_is_drawn_over_the_percentiles_of_its_latents(run: Call, ae: Path) -> None:
    model = vaectl.load(ae)
    stats = model.card.latent_stats
    plane = pixels(run("grid", "--steps", 2, "--dims", 3, 1, "-c", ae).stdout)
    low, high = np.array(stats.mean), np.array(stats.mean)
    low[[3, 1]] = stats.percentile_1[3], stats.percentile_1[1]
    high[[3, 1]] = stats.percentile_99[3], stats.percentile_99[1]
    np.testing.assert_allclose(plane[28:, :28], model.decode(low)[0, ..., 0], atol=0.6 / 255)
    np.testing.assert_allclose(plane[:28, 28:], model.decode(high)[0, ..., 0], atol=0.6 / 255)


def test_the_other_dimensions_stay_at_the_given_point(run: Call, ae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "17.png", digits[17])
    for name in ("z.npy", "z.csv"):
        run("encode", "17.png", "-c", ae, "-o", name)
    around = run("grid", "--steps", 2, "--at", "17.png", "-c", ae).stdout
    for same in ("z.npy", "z.csv", "mnist:17"):
        assert around == run("grid", "--steps", 2, "--at", same, "-c", ae).stdout
    assert around != run("grid", "--steps", 2, "-c", ae).stdout


def test_the_plane_is_that_of_the_dimensions_in_which_latents_vary_most(run: Call, ae: Path) -> None:
    std = vaectl.load(ae).card.latent_stats.std
    first, second = sorted(np.argsort(std)[-2:].tolist())
    assert (first, second) != (0, 1)
    assert run("grid", "--steps", 3, "-c", ae).stdout == run("grid", "--steps", 3, "--dims", first, second, "-c", ae).stdout


@pytest.mark.parametrize(
    "arguments", [["--range", 3, -3], ["--range", "nan", 3], ["--range", "-inf", "inf"], ["--dims", 0, 0], ["--dims", 0, 2]]
)
def test_an_impossible_plane_is_wrong_usage(arguments: list[object], run: Call, vae: Path) -> None:
    one_line(run("grid", *arguments, "-c", vae, code=2), f"{arguments[0]} ")


def test_a_missing_device_is_an_error_that_lists_the_available_ones(run: Call, vae: Path) -> None:
    one_line(run("grid", "--device", "cuda:9", "-c", vae, code=1), "no device 'cuda:9'", "cpu")
    one_line(run("grid", "-c", vae, code=1, VAECTL_DEVICE="abacus"), "no device 'abacus'", "cpu")


def test_a_folder_of_tables_is_decoded(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "digits.npy", digits[:6])
    (tmp_path / "latents").mkdir()
    for index in (1, 2):
        run("encode", "digits.npy", "-c", vae, "--shard", f"{index}/2", "-o", f"latents/{index}.csv")
    run("encode", "digits.npy", "-c", vae, "-o", "z.npy")
    whole, parts = (run("decode", source, "-c", vae, "--format", "png").stdout for source in ("z.npy", "latents/"))
    assert whole == parts
    (tmp_path / "empty").mkdir()
    one_line(run("decode", "empty/", "-c", vae, "-o", "x.png", code=1), "'empty/' contains no latents", ".parquet, .csv, .npy")
