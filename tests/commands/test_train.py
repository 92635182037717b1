import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray
from support import Result, one_line, write_png

import vaectl
from vaectl.models import checkpoint

Call = Callable[..., Result]
QUICK = ("--hidden", "16", "--epochs", "2")


def test_stdout_is_the_path_and_stderr_one_line_per_epoch(run: Call, small_data: Path, tmp_path: Path) -> None:
    result = run("train", "vae", "--data", small_data, "--latent", 3, *QUICK, "-o", "my run.safetensors")
    assert result.stdout == b"my run.safetensors\n"
    lines = result.stderr.decode().splitlines()
    assert lines[0].startswith("epoch 1/2: loss ") and lines[0].endswith("s left")
    assert "KL" in lines[0] and "images/s" in lines[0]
    assert lines[1].startswith("epoch 2/2: loss ")
    assert any("-ELBO" in line for line in lines)
    assert os.listdir(tmp_path) == ["my run.safetensors"]
    assert vaectl.load(tmp_path / "my run.safetensors").latent_dim == 3


def test_the_card_describes_the_whole_run(run: Call, small_data: Path, tmp_path: Path) -> None:
    run("train", "dae", "--data", small_data, *QUICK, "--seed", 5, "--corrupt", "gaussian:0.1", "--corrupt", "gaussian:0.2", "-q")
    card = checkpoint.load(str(tmp_path / "dae.safetensors")).card
    assert (card.model, card.beta, list(card.corrupt)) == ("dae", 0, ["gaussian:0.1", "gaussian:0.2"])
    assert card.network.image_shape == (28, 28, 1)
    assert card.training["seed"] == 5 and card.training["epochs"] == 2 and card.training["lr"] > 0
    assert card.data["train"] == 2000 and card.data["test"] == 500 and len(card.data["sha256"]) == 64
    assert set(card.metrics) == {
        "split",
        "images",
        "epoch",
        "neg_elbo",
        "reconstruction",
        "kl",
        "mse",
        "psnr",
        "mse_before",
        "psnr_before",
    }
    assert len(card.epochs) == 2
    assert set(card.versions) == {"vaectl", "torch", "numpy", "python"}


def test_the_json_lines_are_epochs_then_metrics(run: Call, small_data: Path) -> None:
    *epochs, last = map(json.loads, run("train", "vae", "--data", small_data, *QUICK, "--json", "-q").stdout.splitlines())
    assert [epoch["epoch"] for epoch in epochs] == [1, 2]
    assert all(epoch["loss"] == pytest.approx(epoch["reconstruction"] + epoch["kl"]) for epoch in epochs)
    assert last["checkpoint"] == "vae.safetensors"
    assert last["metrics"]["images"] == 500


def test_an_existing_checkpoint_is_replaced_only_with_force(run: Call, small_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "ae.safetensors"
    path.write_bytes(b"precious")
    one_line(run("train", "ae", "--data", small_data, *QUICK, code=1), "'ae.safetensors' already exists", "--force")
    assert path.read_bytes() == b"precious"
    run("train", "ae", "--data", small_data, *QUICK, "--force")
    assert vaectl.load(path).latent_dim == 64


def test_the_same_seed_gives_the_same_file(run: Call, small_data: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run("train", "vae", "--data", small_data, *QUICK, "--seed", 7, "-o", name, "-q")
    run("train", "vae", "--data", small_data, *QUICK, "--seed", 8, "-o", "c", "-q")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    one, other = (safetensors.numpy.load_file(tmp_path / name) for name in ("a", "c"))
    assert (one["encoder.1.weight"] != other["encoder.1.weight"]).any()


def test_beta_decides_whether_the_latent_is_a_distribution(run: Call, small_data: Path, tmp_path: Path) -> None:
    run("train", "ae", "--data", small_data, *QUICK, "--beta", 0.5, "-q")
    run("train", "vae", "--data", small_data, *QUICK, "--beta", 0, "-q")
    assert vaectl.load(tmp_path / "ae.safetensors").network.variational
    assert not vaectl.load(tmp_path / "vae.safetensors").network.variational


def test_quiet_prints_nothing_on_stderr(run: Call, small_data: Path) -> None:
    assert run("train", "ae", "--data", small_data, *QUICK, "-q").stderr == b""


def test_two_color_images_are_enough_to_train_on(run: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.random.default_rng(0).integers(0, 256, (2, 6, 5, 3), np.uint8))
    run("train", "vae", "--data", "few.npy", *QUICK)
    assert vaectl.load(tmp_path / "vae.safetensors").image_shape == (6, 5, 3)


@pytest.mark.parametrize(
    ("option", "channels"), [("--gray", 1), ("--grey", 1), ("--color", 3), ("--colour", 3), ("--fit=crop", 3)]
)
def test_gray_and_color_set_the_channels_in_either_spelling(
    option: str, channels: int, run: Call, tmp_path: Path, digits: NDArray[np.uint8]
) -> None:
    for index, image in enumerate([digits[0], digits[1].repeat(3, axis=2)]):
        write_png(tmp_path / "in" / f"{index}.png", image)
    run("train", "ae", "--data", "in", "--net", "mlp", *QUICK, "--latent", 2, option, "-q")
    assert vaectl.load(tmp_path / "ae.safetensors").image_shape == (28, 28, channels)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["vae", "--data", "nowhere"], 1, ["no data set 'nowhere'", "mnist", "cifar10"]),
        (["dae", "--corrupt", "fog"], 2, ["'fog' is not a corruption", "gaussian:0.25"]),
        (["dae", "--corrupt", "gaussian:25"], 2, ["25 of 255 is gaussian:0.098"]),
        (["vae", "--hidden", "a,b"], 2, ["--hidden 'a,b'", "500,500"]),
        (["vae", "--device", "cuda:7"], 1, ["no device 'cuda:7'", "cpu"]),
        (["vae", "-o", "none/vae.safetensors"], 1, ["'none/vae.safetensors'", "create it first"]),
        (["vae", "-o", "."], 1, ["is a folder"]),
        (["vae", "--epochs", "0"], 2, ["--epochs"]),
        (["vae", "--latent", "0"], 2, ["--latent"]),
    ],
)
def test_a_wrong_call_fails_at_once_with_one_line(
    arguments: list[str], code: int, words: list[str], run: Call, tmp_path: Path
) -> None:
    one_line(run("train", *arguments, code=code), "vaectl train: ", *words)
    assert os.listdir(tmp_path) == []


def test_a_diverging_run_is_an_error_and_writes_nothing(run: Call, small_data: Path, tmp_path: Path) -> None:
    result = run("train", "vae", "--data", small_data, "--lr", "1e30", *QUICK, "-q", code=1)
    one_line(result, "the loss is NaN or infinite at step", "lower --lr")
    assert os.listdir(tmp_path) == []


def test_info_prints_the_card_as_text_and_json(run: Call, vae: Path) -> None:
    text = run("info", vae).stdout.decode()
    assert "linear 784 64 > silu" in text and "28 x 28, gray" in text and "2 dimensions, a distribution" in text
    card = json.loads(run("info", vae, "--json").stdout)
    assert card["network"]["latent_dim"] == 2 and card["format"] == 1


def test_data_can_be_piped_in(run: Call, tmp_path: Path) -> None:
    np.save(stream := io.BytesIO(), np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8))
    run("train", "ae", "--data", "-", "--latent", "2", "--hidden", "4", "--epochs", "1", input=stream.getvalue())
    assert (tmp_path / "ae.safetensors").exists()
