import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import Nursery, Result, one_line

import vaectl
from vaectl import networks, signals, states, training
from vaectl.batches import Whole
from vaectl.errors import VaectlError
from vaectl.models import Settings

Call = Callable[..., Result]
QUICK = ("train", "vae", "--hidden", "64", "--latent", "3", "--likelihood", "gaussian")
STATE = "m.resume.safetensors"


@pytest.mark.long
@pytest.mark.fault(35, 36)
def test_fifty_trainings_killed_at_any_moment_end_in_the_same_bits(
    nursery: Callable[[str], Nursery], small_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Five hundred signals at random moments of a training: in the data, the steps, the saves, the figures."""
    words = [*QUICK, "--data", str(small_data), "--epochs", "300", "-q", "-o", "m.safetensors"]
    assert nursery("train").call(words, cwd=tmp_path).returncode == 0
    whole = (tmp_path / "m.safetensors").read_bytes()
    rng, kills, equal = random.Random(0), Counter[str](), 0
    for run in range(50):
        (tmp_path / "m.safetensors").unlink()
        struck = 0
        while not (tmp_path / "m.safetensors").exists():
            number = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
            # Mostly early, or a training would be done before it is struck ten times.
            moment = rng.uniform(0, 0.6) if struck < 10 else 120
            more = ["--resume"] if (tmp_path / STATE).exists() else []
            result = nursery("train").call([*words, *more], cwd=tmp_path, timeout=moment, number=number)
            assert result.returncode in (0, -number) and b"Traceback" not in result.stderr, result.stderr
            assert all(name in ("m.safetensors", STATE) or name.startswith(".vaectl-") for name in os.listdir(tmp_path))
            if (tmp_path / STATE).exists():
                states.load(str(tmp_path / STATE))
            struck += result.returncode != 0
            kills[number.name] += result.returncode != 0
        equal += (tmp_path / "m.safetensors").read_bytes() == whole
        assert os.listdir(tmp_path) == ["m.safetensors"]
        with capfd.disabled():
            print(f"{run + 1} trainings, {kills.total()} signals survived, {equal} equal in every bit", flush=True)
    assert equal == 50 and kills.total() >= 450


@pytest.mark.fault(39)
def test_a_training_that_runs_away_keeps_its_last_good_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "OFTENEST", 0)
    network = networks.mlp((6, 6, 1), 2, [8], variational=True)
    settings = Settings(epochs=9, batch_size=16, lr=0.01, beta=1.0, corrupt=(), precision="fp32")
    keeper = states.Keeper(str(tmp_path / STATE), "vaectl train vae", None)
    keep = keeper.keep(signals.Deferred())

    def spoil(run: training.Run) -> None:
        keep(run)
        if run.step == 6:
            run.weights.first[0] = np.nan

    pictures = np.random.default_rng(0).integers(0, 256, (64, 6, 6, 1), np.uint8)
    with pytest.raises(VaectlError, match=r"no number any more at step 8: lower --lr \(it is 0\.01\)"):
        training.fit(network, Whole(pictures, "cpu"), settings, "cpu", lambda progress: None, spoil)
    found = states.load(str(tmp_path / STATE)).state
    assert found.step == 4 and all(np.isfinite(tensor).all() for tensor in found.tensors.values())


@pytest.mark.fault(40)
@pytest.mark.parametrize("more", [("--samples", 30_000), ("--hidden", "300000")])
def test_memory_that_runs_out_says_what_to_lower(more: tuple[object, ...], run: Call, small_data: Path, tmp_path: Path) -> None:
    result = run("train", "vae", "--data", small_data, *more, "-q", code=1, memory=700 << 20)
    one_line(result, "vaectl train: ", "memory")
    assert os.listdir(tmp_path) == []


@pytest.mark.fault(41)
def test_a_device_that_is_not_there_is_told_with_those_that_are(run: Call, small_data: Path, tmp_path: Path) -> None:
    for name in ("cuda:9", "tpu"):
        one_line(run("train", "vae", "--data", small_data, "--device", name, code=1), f"no device '{name}'", "cpu")
    assert os.listdir(tmp_path) == []


@pytest.mark.fault(42)
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("value", [0, 255, None])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_few_or_constant_pictures_are_learned(
    count: int, value: int | None, channels: tuple[int, ...], run: Call, tmp_path: Path
) -> None:
    shape = (count, 8, 8, *channels)
    pictures = np.random.default_rng(0).integers(0, 256, shape) if value is None else np.full(shape, value)
    np.save(tmp_path / "few.npy", pictures.astype(np.uint8))
    run("train", "vae", "--data", "few.npy", "--epochs", 3, "-q")
    assert np.isfinite(vaectl.load(tmp_path / "vae.safetensors").encode(pictures.astype(np.uint8))).all()
