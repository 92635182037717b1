import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import Result, one_line, write_png

from vaectl.datasets.load import load_dataset
from vaectl.datasets.preprocessing import split_by_content

Call = Callable[..., Result]


def test_the_json_says_how_the_metrics_were_computed(run: Call, vae: Path) -> None:
    result = run("evaluate", "-c", vae, "--samples", 30)
    found = json.loads(result.stdout)
    assert {name: found[name] for name in ("model", "split", "images", "samples", "latent_dim")} == {
        "model": "vae",
        "split": "test",
        "images": 500,
        "samples": 30,
        "latent_dim": 2,
    }
    assert "gray values" in found["binarization"] and "sums over pixels" in found["reduction"]
    metrics = found["metrics"]
    assert set(metrics) == {"neg_elbo", "reconstruction", "kl", "nll", "neg_elbo_learned", "nll_learned", "mse", "psnr", "ssim"}
    assert metrics["neg_elbo"] == pytest.approx(metrics["reconstruction"] + metrics["kl"])
    assert 0 < metrics["nll"] < metrics["neg_elbo"]
    table = result.stderr.decode()
    assert all(word in table for word in ("-ELBO", "NLL", "PSNR", "SSIM", "active units", "samples       30"))


def test_more_samples_give_a_tighter_bound(run: Call, vae: Path) -> None:
    one, hundred = (
        json.loads(run("evaluate", "-c", vae, "--samples", count, "-q").stdout)["metrics"]["nll"] for count in (1, 100)
    )
    assert hundred < one


def test_a_denoiser_is_evaluated_before_and_after(run: Call, dae: Path) -> None:
    found = json.loads(run("evaluate", "-c", dae).stdout)
    assert found["corrupt"] == ["gaussian:0.25"]
    assert found["metrics"]["psnr"] > found["metrics"]["psnr_before"] + 1
    assert found["metrics"]["ssim"] > found["metrics"]["ssim_before"]
    assert "nll" not in found["metrics"] and found["samples"] is None


def test_binarization_can_be_switched_on_and_off(run: Call, vae: Path) -> None:
    options = ("--binarize", "--grey", "--gray")
    binary, grey, gray = (json.loads(run("evaluate", "-c", vae, "--samples", 0, option).stdout) for option in options)
    assert "sampled once" in binary["binarization"]
    assert "gray values" in gray["binarization"]
    assert grey == gray
    assert binary["metrics"]["mse"] > gray["metrics"]["mse"]


def test_the_worst_images_of_a_folder_come_first(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index in range(5):
        write_png(tmp_path / "in" / f"{index}.png", digits[index])
    write_png(tmp_path / "in" / "odd one.png", np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8))
    run("evaluate", "-c", vae, "--data", "in", "--per-image", "-o", "outliers.csv", "--samples", 10)
    with (tmp_path / "outliers.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0]["name"] == "odd one.png"
    nll = [float(row["nll"]) for row in rows]
    assert len(rows) == 6 and nll == sorted(nll, reverse=True)


@pytest.fixture
def learned(make_once: Callable[..., Path], run_in: Callable[..., None], small_data: Path, tmp_path: Path) -> Path:
    """A folder of 80 digits, in subfolders, and one of noise, and beside it vae.safetensors, which knows what it learned."""

    def fill(folder: Path) -> None:
        with np.load(small_data) as arrays:
            images = arrays["x_train"][:80]
        for index, image in enumerate(images):
            write_png(folder / "learned" / ("even", "odd")[index % 2] / f"{index:02d}.png", image)
        noise = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
        write_png(folder / "learned" / "odd" / "noise.png", noise)
        sizes = ("--latent", "8", "--hidden", "100", "--epochs", "400", "--lr", "0.005")
        run_in(folder, "train", "vae", "--data", "learned", *sizes)

    shutil.copytree(make_once("learned", fill), tmp_path, dirs_exist_ok=True)
    return tmp_path / "learned"


def rows_of(table: bytes | Path) -> list[dict[str, str]]:
    text = table.read_text() if isinstance(table, Path) else table.decode()
    return list(csv.DictReader(text.splitlines()))


def test_learned_and_held_out_images_of_a_folder_are_ranked_apart(run: Call, learned: Path, tmp_path: Path) -> None:
    dataset = load_dataset(learned)
    rows = rows_of(run("evaluate", "--data", "learned", "--per-image", "--samples", 20).stdout)
    assert {row["name"] for row in rows if row["split"] == "test"} == set(dataset.test_names)
    assert {row["name"] for row in rows if row["split"] == "train"} == set(dataset.train_names)
    assert rows[0]["name"] == "odd/noise.png"
    scores = [float(row["z_score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    nll = {split: [float(row["nll_learned"]) for row in rows if row["split"] == split] for split in ("train", "test")}
    assert np.mean(nll["test"]) > np.mean(nll["train"]) + 10
    for split, own in nll.items():
        assert own == sorted(own, reverse=True)
        z = (np.array(own) - np.mean(own)) / np.std(own)
        np.testing.assert_allclose([float(row["z_score"]) for row in rows if row["split"] == split], z, atol=1e-3)


def test_a_folder_that_is_not_what_was_learned_has_no_splits(run: Call, learned: Path, tmp_path: Path) -> None:
    shutil.copytree(learned, tmp_path / "copy")
    other = run("evaluate", "--data", "copy", "--per-image", "--samples", 0, "-q")
    assert not other.stderr and "split" not in rows_of(other.stdout)[0]
    (learned / "odd" / "noise.png").unlink()
    changed = run("evaluate", "--data", "learned", "--per-image", "--samples", 0)
    assert "split" not in rows_of(changed.stdout)[0] and len(rows_of(changed.stdout)) == 80
    assert "'learned' has changed since the model was trained on it" in changed.stderr.decode()


def test_rows_of_a_split_have_the_names_of_their_files(run: Call, learned: Path, tmp_path: Path) -> None:
    rows = rows_of(run("evaluate", "--per-image", "--samples", 0).stdout)
    assert {row["name"] for row in rows} == set(load_dataset(learned).test_names)
    assert all((learned / row["name"]).exists() for row in rows) and "split" not in rows[0]
    encoded = rows_of(run("encode", "learned", "--format", "csv").stdout)
    assert {row["name"] for row in rows} < {row["name"] for row in encoded}


def test_rows_of_a_data_set_have_the_names_that_encode_gives_them(run: Call, vae: Path) -> None:
    rows = rows_of(run("evaluate", "-c", vae, "--data", "mnist", "--per-image", "--samples", 0).stdout)
    assert {row["name"] for row in rows} == {f"mnist-test-{index:05d}" for index in range(10_000)}


def test_three_constant_images_are_learned_and_ranked(run: Call, tmp_path: Path) -> None:
    for index, value in enumerate((0, 7, 200)):
        write_png(tmp_path / "flat" / f"{index}.png", np.full((9, 9), value, np.uint8))
    for model in ("vae", "ae", "dae"):
        run("train", model, "--data", "flat", "--latent", 2, "--hidden", 4, "--epochs", 3)
        rows = rows_of(run("evaluate", "-c", f"{model}.safetensors", "--data", "flat", "--per-image", "--samples", 5).stdout)
        assert {row["name"] for row in rows} == {"0.png", "1.png", "2.png"}
        assert all(
            np.isfinite([float(value) for name, value in row.items() if name not in ("name", "split")]).all() for row in rows
        )


@pytest.mark.parametrize("held_out", [False, True])
def test_images_that_are_all_alike_are_learned_and_ranked(held_out: bool, run: Call, tmp_path: Path) -> None:
    paths = (write_png(tmp_path / "gray.png", np.full((9, 9), value, np.uint8)) for value in range(256))
    content = next(
        content for path in paths if split_by_content(content := path.read_bytes()) == ("test" if held_out else "train")
    )
    (tmp_path / "alike").mkdir()
    for index in range(3):
        (tmp_path / "alike" / f"{index}.png").write_bytes(content)
    run("train", "ae", "--data", "alike", "--latent", 2, "--hidden", 4, "--epochs", 3)
    rows = rows_of(run("evaluate", "--data", "alike", "--per-image").stdout)
    assert [(row["name"], row["split"]) for row in rows] == [(f"{index}.png", "train") for index in range(3)]
    assert np.isfinite([float(row["z_score"]) for row in rows]).all()


def test_another_split_or_other_data_can_be_evaluated(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    assert json.loads(run("evaluate", "-c", vae, "--split", "train", "--samples", 0).stdout)["images"] == 2000
    np.savez(tmp_path / "own.npz", x_train=digits, x_test=digits[:7])
    assert json.loads(run("evaluate", "-c", vae, "--data", "own.npz", "--samples", 0).stdout)["images"] == 7


def test_one_split_or_image_of_a_data_set_is_evaluated(run: Call, vae: Path, tmp_path: Path) -> None:
    by_split = json.loads(run("evaluate", "-c", vae, "--data", "mnist:test", "--samples", 0).stdout)
    by_option = json.loads(run("evaluate", "-c", vae, "--data", "mnist", "--split", "test", "--samples", 0).stdout)
    assert by_split["images"] == by_option["images"] == 10_000
    assert by_split["metrics"] == by_option["metrics"]
    run("evaluate", "-c", vae, "--data", "mnist:17", "--per-image", "-o", "one.csv", "--samples", 0)
    with (tmp_path / "one.csv").open(newline="") as stream:
        assert [row["name"] for row in csv.DictReader(stream)] == ["mnist-test-00017"]


def test_images_of_another_size_are_resized(run: Call, vae: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "color.npy", np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), np.uint8))
    assert json.loads(run("evaluate", "-c", vae, "--data", "color.npy", "--samples", 0).stdout)["images"] > 0


def test_data_that_do_not_exist_or_are_not_images_are_an_error(run: Call, vae: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros((30, 8), np.uint8))
    one_line(run("evaluate", "-c", vae, "--data", "flat.npy", code=1), "an array of shape (30, 8)")
    one_line(run("evaluate", "-c", vae, "--data", "none", code=1), "no data set 'none'")
    assert os.listdir(tmp_path) == ["flat.npy"]


def test_learned_data_that_are_gone_are_named(run: Call, learned: Path, tmp_path: Path) -> None:
    learned.rename(tmp_path / "moved")
    one_line(
        run("evaluate", code=1),
        "the model was trained on 'learned', which is not on this machine: give other images, with --data",
    )


def test_images_skipped_in_training_are_skipped_in_evaluation(run: Call, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index in range(40):
        write_png(tmp_path / "in" / f"{index:02d}.png", digits[index])
    (tmp_path / "in" / "05.png").write_bytes((tmp_path / "in" / "05.png").read_bytes()[:90])
    run("train", "ae", "--data", "in", "--hidden", "4", "--latent", 2, "--epochs", 1, "--skip-bad")
    result = run("evaluate")
    assert json.loads(result.stdout)["images"] > 0
    assert "in/05.png' is damaged" in result.stderr.decode()
    one_line(run("evaluate", "--data", "in", code=1), "in/05.png' is damaged", "--skip-bad")


def test_the_json_goes_to_the_given_file(run: Call, vae: Path, tmp_path: Path) -> None:
    result = run("evaluate", "-c", vae, "--samples", 0, "-o", "metrics.json", "-q")
    assert result.stdout == result.stderr == b""
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"]["kl"] > 0
