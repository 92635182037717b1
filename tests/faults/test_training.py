import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import ForkServer, Result, environment, one_line

import vaectl
from vaectl.base.errors import VaectlError
from vaectl.base.signals import DeferredSignal
from vaectl.models.network import build_mlp
from vaectl.training import loop, resume
from vaectl.training.loader import ImageDataset
from vaectl.training.settings import TrainConfig

Call = Callable[..., Result]
QUICK = ("train", "vae", "--hidden", "64", "--latent", "3", "--likelihood", "gaussian")
STATE = "m.resume.safetensors"


@pytest.mark.long
def test_fifty_runs_interrupted_ten_times_each_end_bit_identically(
    fork_server: Callable[..., ForkServer], small_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Five hundred signals at random moments: while data are loaded, steps are made, states saved, metrics computed."""
    command = [*QUICK, "--data", str(small_data), "--epochs", "300", "-q", "-o", "m.safetensors"]
    assert fork_server("train").call(command, cwd=tmp_path).returncode == 0
    uninterrupted = (tmp_path / "m.safetensors").read_bytes()
    rng, survived, equal = random.Random(0), Counter[str](), 0
    for run in range(50):
        (tmp_path / "m.safetensors").unlink()
        interruptions = 0
        while not (tmp_path / "m.safetensors").exists():
            number = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
            # Mostly early, or a run would end before its tenth interruption.
            moment = rng.uniform(0, 0.6) if interruptions < 10 else 120
            options = ["--resume"] if (tmp_path / STATE).exists() else []
            result = fork_server("train").call([*command, *options], cwd=tmp_path, timeout=moment, number=number)
            assert result.returncode in (0, -number) and b"Traceback" not in result.stderr, result.stderr
            assert all(name in ("m.safetensors", STATE) or name.startswith(".vaectl-") for name in os.listdir(tmp_path))
            if (tmp_path / STATE).exists():
                resume.load(str(tmp_path / STATE))
            interruptions += result.returncode != 0
            survived[number.name] += result.returncode != 0
        equal += (tmp_path / "m.safetensors").read_bytes() == uninterrupted
        assert os.listdir(tmp_path) == ["m.safetensors"]
        with capfd.disabled():
            print(f"{run + 1} runs, {survived.total()} signals survived, {equal} bit-identical", flush=True)
    assert equal == 50 and survived.total() >= 450


def test_a_run_whose_loss_becomes_nan_keeps_its_last_good_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "MIN_SECONDS", 0)
    network = build_mlp((6, 6, 1), 2, [8], variational=True)
    config = TrainConfig(epochs=9, batch_size=16, lr=0.01, beta=1.0, corrupt=(), precision="fp32")
    saver = resume.StateSaver(str(tmp_path / STATE), "vaectl train vae", None)

    def on_step(trainer: loop.Trainer) -> None:
        saver.on_step(trainer, DeferredSignal())
        if trainer.loader.step == 6:
            trainer.optimizer.exp_avg[0] = np.nan

    dataset = ImageDataset(np.random.default_rng(0).integers(0, 256, (64, 6, 6, 1), np.uint8), "cpu")
    with pytest.raises(VaectlError, match=r"the loss is NaN or infinite at step 8: lower --lr \(it is 0\.01\)"):
        loop.train_network(network, dataset, config, (), "cpu", on_step=on_step)
    state = resume.load(str(tmp_path / STATE)).state
    assert state.step == 4 and all(np.isfinite(tensor).all() for tensor in state.tensors.values())


@pytest.mark.parametrize("options", [("--samples", 30_000), ("--hidden", "300000")])
def test_when_memory_runs_out_the_error_says_what_to_lower(
    options: tuple[object, ...], run: Call, small_data: Path, tmp_path: Path
) -> None:
    result = run("train", "vae", "--data", small_data, *options, "-q", code=1, memory=700 << 20)
    one_line(result, "vaectl train: memory ran out: lower --batch-size")
    assert os.listdir(tmp_path) == []


def test_a_missing_device_is_refused_with_a_list_of_those_available(run: Call, small_data: Path, tmp_path: Path) -> None:
    for name in ("cuda:9", "tpu"):
        one_line(run("train", "vae", "--data", small_data, "--device", name, code=1), f"no device '{name}'", "cpu")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("value", [0, 255, None])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_model_can_be_trained_on_few_or_constant_images(
    count: int, value: int | None, channels: tuple[int, ...], run: Call, tmp_path: Path
) -> None:
    shape = (count, 8, 8, *channels)
    images = np.random.default_rng(0).integers(0, 256, shape) if value is None else np.full(shape, value)
    np.save(tmp_path / "few.npy", images.astype(np.uint8))
    run("train", "vae", "--data", "few.npy", "--epochs", 3, "-q")
    assert np.isfinite(vaectl.load(tmp_path / "vae.safetensors").encode(images.astype(np.uint8))).all()


# Calls vaectl as a user whom the system does not know.
WITHOUT_HOME = """
import os, pwd
del os.environ["HOME"]
pwd.getpwuid = {}.__getitem__
from vaectl.cli import main
main()
"""


def test_a_user_without_a_home_keeps_data_in_the_temporary_folder(tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", x_train=np.arange(640, dtype=np.uint8).reshape(40, 4, 4))
    (tmp_path / "temporary").mkdir()
    no_network = {"https_proxy": "http://127.0.0.1:9", "TMPDIR": str(tmp_path / "temporary")}
    kept = {name: value for name, value in environment().items() if name != "XDG_CACHE_HOME"} | no_network

    def call(line: str) -> Result:
        command = [sys.executable, "-c", WITHOUT_HOME, *line.split()]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, env=kept, timeout=60)

    for line in ("train vae --data few.npz --epochs 1 -q", "evaluate --samples 0 -q"):
        result = call(line)
        assert result.returncode == 0 and not result.stderr, result.stderr
    one_line(call("evaluate --data kmnist"), "could not download 'kmnist'", f"into '{tmp_path}/temporary/kmnist'")
