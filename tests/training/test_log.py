"""What `--log` writes, read back as TensorBoard does."""

import csv
import os
import shlex
import signal
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import ForkServer, Result, contents, one_line
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import vaectl

Call = Callable[..., Result]
TAGS = {
    "loss": "train/loss",
    "reconstruction": "train/reconstruction",
    "kl": "train/kl",
    "held_out_loss": "held_out/loss",
    "held_out_neg_elbo": "held_out/neg_elbo",
    "held_out_psnr": "held_out/psnr",
    "held_out_psnr_before": "held_out/psnr_before",
}
Epochs = Sequence[Any]


@pytest.fixture
def command(small_data: Path) -> list[str]:
    return ["train", "vae", "--data", str(small_data), "--hidden", "16", "--latent", "2", "-o", "run.safetensors", "--log", "log"]


def read_events(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def check_log(folder: Path, epochs: Epochs) -> None:
    """Each epoch is in the log once, in both formats."""
    with (folder / "epochs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row.pop("epoch")) for row in rows] == [*range(1, len(epochs) + 1)]
    assert [{name: float(value) for name, value in row.items()} for row in rows] == epochs
    events = read_events(folder)
    assert {*events.Tags()["scalars"]} == {TAGS[name] for name in epochs[0]}
    for name in epochs[0]:
        found = events.Scalars(TAGS[name])
        assert [scalar.step for scalar in found] == [*range(1, len(epochs) + 1)]
        assert [scalar.value for scalar in found] == pytest.approx([epoch[name] for epoch in epochs])


def test_every_epoch_is_logged_for_tensorboard_and_as_csv(run: Call, command: list[str], tmp_path: Path) -> None:
    run(*command, "--epochs", 3)
    check_log(tmp_path / "log", vaectl.load(tmp_path / "run.safetensors").card.epochs)
    assert sorted(os.listdir(tmp_path)) == ["log", "run.safetensors"]
    assert [name for name in os.listdir(tmp_path / "log") if not name.startswith("events.out.tfevents.")] == ["epochs.csv"]


def test_the_log_changes_no_bit_of_the_checkpoint(run: Call, command: list[str], tmp_path: Path) -> None:
    run(*command, "--epochs", 2)
    run(*command[:-2], "--epochs", 2, "-o", "plain.safetensors")
    assert (tmp_path / "run.safetensors").read_bytes() == (tmp_path / "plain.safetensors").read_bytes()


def test_held_out_images_are_shown_above_what_the_model_makes_of_them(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    model = vaectl.train("dae", (digits, digits[:10]), corrupt="mask:1", hidden=[16], epochs=2, seed=1, log=tmp_path / "log")
    check_log(tmp_path / "log", model.card.epochs)
    found = read_events(tmp_path / "log").Images("held_out/images")
    assert [image.step for image in found] == [1, 2]
    sheet = np.asarray(Image.open(BytesIO(found[-1].encoded_image_string)).convert("L"))
    clean, corrupted, denoised = (np.hstack(np.split(row, 8, axis=1)) for row in np.split(sheet, 3))
    np.testing.assert_array_equal(clean, np.hstack(digits[:8, ..., 0]))
    assert not corrupted.any()
    expected = np.hstack(model.reconstruct(np.zeros((8, 28, 28), np.uint8))[..., 0]) * 255
    np.testing.assert_allclose(denoised, expected, atol=2)


@pytest.mark.parametrize("net", ["conv", "unet"])
def test_networks_of_every_kind_are_logged(net: str, run: Call, digits_folder: Path, tmp_path: Path) -> None:
    sizes = ["--hidden", "4,4", "--size", 16, "--batch-size", 512, "--epochs", 1]
    run("train", "dae", "--data", "digits", "--net", net, *sizes, "--log", "log")
    check_log(tmp_path / "log", vaectl.load(tmp_path / "dae.safetensors").card.epochs)
    (image,) = read_events(tmp_path / "log").Images("held_out/images")
    assert image.height == 3 * 16 and image.width % 16 == 0


@pytest.fixture
def interrupt(fork_server: Callable[..., ForkServer], tmp_path: Path) -> Callable[[list[str], signal.Signals], None]:
    """Starts a run and sends it a signal in its sixth epoch."""

    def call(command: list[str], number: signal.Signals) -> None:
        with fork_server("train").start(command, tmp_path) as run:
            run.read_until("epoch 5/")
            run.send_signal(number)
            assert run.finish()[0] == -number

    return call


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_resumed_run_goes_on_with_its_log(
    number: signal.Signals, run: Call, interrupt: Callable[..., None], command: list[str], tmp_path: Path
) -> None:
    interrupt([*command, "--epochs", "30"], number)
    first = (tmp_path / "log" / "epochs.csv").read_text().splitlines()
    assert 6 <= len(first) < 31  # if it was killed, its state is older
    run(*command, "--epochs", 30, "--resume")
    check_log(tmp_path / "log", vaectl.load(tmp_path / "run.safetensors").card.epochs)
    assert (tmp_path / "log" / "epochs.csv").read_text().splitlines()[: len(first)] == first
    assert [image.step for image in read_events(tmp_path / "log").Images("held_out/images")] == [*range(1, 31)]


def test_a_log_that_begins_on_resuming_has_the_earlier_epochs(
    run: Call, interrupt: Callable[..., None], command: list[str], tmp_path: Path
) -> None:
    interrupt([*command[:-2], "--epochs", "30"], signal.SIGTERM)
    run(*command, "--epochs", 30, "--resume")
    check_log(tmp_path / "log", vaectl.load(tmp_path / "run.safetensors").card.epochs)


def test_a_log_is_replaced_only_with_force(run: Call, command: list[str], tmp_path: Path) -> None:
    run(*command, "--epochs", 3)
    before = contents(tmp_path)
    again = [*command, "-o", "other.safetensors", "--epochs", 2]
    one_line(run(*again, code=1), "'log' holds the log of a run: replace it with --force, or name another folder with --log")
    assert contents(tmp_path) == before
    run(*again, "--force")
    check_log(tmp_path / "log", vaectl.load(tmp_path / "other.safetensors").card.epochs)


def test_without_tensorboard_the_run_ends_before_it_begins(
    shell: Call, command: list[str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    hidden = tmp_path_factory.mktemp("hidden")
    (hidden / "tensorboard.py").write_text("raise ModuleNotFoundError('hidden', name='tensorboard')")
    path = os.pathsep.join([str(hidden), os.environ.get("PYTHONPATH", "")])
    result = shell(f"vaectl {shlex.join(command)}", PYTHONPATH=path)
    one_line(result, "vaectl train: tensorboard is not installed: pip install 'vaectl[tensorboard]'")
    assert result.returncode == 1 and os.listdir(tmp_path) == []


def test_a_log_that_cannot_be_written_is_named_before_the_run(run: Call, command: list[str], tmp_path: Path) -> None:
    (tmp_path / "log").write_text("precious")
    before = contents(tmp_path)
    one_line(run(*command, code=1), "'log': ", "log' is a file: give another folder")
    assert contents(tmp_path) == before


def test_a_log_that_fills_the_disk_is_named(run: Call, command: list[str], tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "epochs.csv").symlink_to("/dev/full")
    result = run(*command, "--epochs", 3, "--force", code=1)
    assert b"'log/epochs.csv': no space left on device: free some space" in result.stderr.splitlines()[-1]
