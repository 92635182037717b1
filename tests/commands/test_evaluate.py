import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import Result, one_line, write_png

Call = Callable[..., Result]


def test_json_says_how_it_was_measured(run: Call, vae: Path, small_data: Path) -> None:
    result = run("evaluate", "-c", vae, "--samples", 30)
    found = json.loads(result.stdout)
    assert {name: found[name] for name in ("model", "split", "pictures", "samples", "latent")} == {
        "model": "vae",
        "split": "test",
        "pictures": 500,
        "samples": 30,
        "latent": 2,
    }
    assert "grey values" in found["binarization"] and "sums over pixels" in found["reduction"]
    figures = found["figures"]
    assert set(figures) == {"neg_elbo", "reconstruction", "kl", "nll", "mse", "psnr", "ssim"}
    assert figures["neg_elbo"] == pytest.approx(figures["reconstruction"] + figures["kl"])
    assert 0 < figures["nll"] < figures["neg_elbo"]
    table = result.stderr.decode()
    assert all(word in table for word in ("-ELBO", "NLL", "PSNR", "SSIM", "active units", "samples       30"))


def test_more_samples_tighten_the_bound(run: Call, vae: Path) -> None:
    one, hundred = (
        json.loads(run("evaluate", "-c", vae, "--samples", count, "-q").stdout)["figures"]["nll"] for count in (1, 100)
    )
    assert hundred < one


def test_a_denoiser_is_measured_before_and_after(run: Call, dae: Path) -> None:
    found = json.loads(run("evaluate", "-c", dae).stdout)
    assert found["corrupt"] == ["gaussian:0.25"]
    assert found["figures"]["psnr"] > found["figures"]["psnr_before"] + 1
    assert found["figures"]["ssim"] > found["figures"]["ssim_before"]
    assert "nll" not in found["figures"] and found["samples"] is None


def test_binarization_changes_the_figures_and_is_said(run: Call, vae: Path) -> None:
    grey, drawn = (json.loads(run("evaluate", "-c", vae, "--samples", 0, option).stdout) for option in ("--grey", "--binarize"))
    assert "drawn once" in drawn["binarization"]
    assert drawn["figures"]["mse"] > grey["figures"]["mse"]


def test_the_worst_pictures_of_a_folder_come_first(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index in range(5):
        write_png(tmp_path / "in" / f"{index}.png", digits[index])
    write_png(tmp_path / "in" / "odd one.png", np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8))
    run("evaluate", "-c", vae, "--data", "in", "--per-image", "-o", "outliers.csv", "--samples", 10)
    with (tmp_path / "outliers.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0]["name"] == "odd one.png"
    badness = [float(row["nll"]) for row in rows]
    assert len(rows) == 6 and badness == sorted(badness, reverse=True)


def test_the_train_split_and_other_data_can_be_named(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    assert json.loads(run("evaluate", "-c", vae, "--split", "train", "--samples", 0).stdout)["pictures"] == 2000
    np.savez(tmp_path / "own.npz", x_train=digits, x_test=digits[:7])
    assert json.loads(run("evaluate", "-c", vae, "--data", "own.npz", "--samples", 0).stdout)["pictures"] == 7


def test_data_of_another_size_are_brought_to_the_model_s(run: Call, vae: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "colour.npy", np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), np.uint8))
    assert json.loads(run("evaluate", "-c", vae, "--data", "colour.npy", "--samples", 0).stdout)["pictures"] > 0


def test_data_that_are_not_there_are_told(run: Call, vae: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "colour.npy", np.zeros((30, 8), np.uint8))
    one_line(run("evaluate", "-c", vae, "--data", "colour.npy", code=1), "an array of (30, 8)")
    one_line(run("evaluate", "-c", vae, "--data", "none", code=1), "no data set 'none'")
    assert os.listdir(tmp_path) == ["colour.npy"]


def test_json_goes_to_a_file_when_named(run: Call, vae: Path, tmp_path: Path) -> None:
    result = run("evaluate", "-c", vae, "--samples", 0, "-o", "figures.json", "-q")
    assert result.stdout == result.stderr == b""
    assert json.loads((tmp_path / "figures.json").read_text())["figures"]["kl"] > 0
