"""A training that is interrupted goes on to the same bits, and never at the cost of another one."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import VAECTL, Result, environment, one_line, rewritten

from vaectl import states
from vaectl.errors import VaectlError

Call = Callable[..., Result]
STATE = "vae.resume.safetensors"


@pytest.fixture
def training(small_data: Path) -> list[str]:
    """A training of some seconds."""
    return ["train", "vae", "--data", str(small_data), "--hidden", "64", "--epochs", "60", "--likelihood", "gaussian"]


def stopped(arguments: list[str], cwd: Path, number: signal.Signals, epoch: int = 3) -> str:
    """What vaectl says when the signal finds it in the middle of an epoch."""
    process = subprocess.Popen([VAECTL, *arguments], cwd=cwd, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    assert process.stderr is not None
    while f"epoch {epoch}/".encode() not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(number)
    out, said = process.communicate(timeout=30)
    assert process.returncode == -number and not out
    return said.decode()


@pytest.mark.fault(35, 36)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_training_goes_on_to_the_same_file(
    number: signal.Signals, run: Call, training: list[str], tmp_path: Path
) -> None:
    run(*training, "-o", "whole.safetensors")
    for epoch in (5, 25):
        said = stopped([*training, *(["--resume"] if epoch > 5 else [])], tmp_path, number, epoch)
        assert (tmp_path / STATE).exists() and not (tmp_path / "vae.safetensors").exists()
        if number != signal.SIGKILL:
            last = said.splitlines()[-1]
            assert last.startswith("vaectl train: stopped after ") and f"go on with vaectl {' '.join(training)} --resume" in last
    result = run(*training, "--resume")
    assert result.stdout == b"vae.safetensors\n"
    assert number == signal.SIGKILL or "epoch 1/60" not in result.stderr.decode()
    assert (tmp_path / "vae.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["vae.safetensors", "whole.safetensors"]


@pytest.fixture
def interrupted(training: list[str], tmp_path: Path) -> list[str]:
    """A training that was interrupted."""
    stopped(training, tmp_path, signal.SIGTERM)
    return training


@pytest.mark.fault(38)
def test_a_state_is_for_its_own_training_alone(run: Call, interrupted: list[str], tmp_path: Path, small_data: Path) -> None:
    before = (tmp_path / STATE).read_bytes()
    data = dict(np.load(small_data))
    np.savez(tmp_path / "other.npz", **{**data, "x_train": 255 - data["x_train"]})
    changes = {
        "epochs 60, not 61": ["--epochs", "61"],
        "seed 0, not 1": ["--seed", "1"],
        "another network": ["--latent", "3"],
        "other data": ["--data", "other.npz"],
        "precision": ["--precision", "fp32" if b"bfloat16" in before else "bf16"],
    }
    for words, change in changes.items():
        one_line(run(*interrupted, *change, "--resume", code=1), f"'{STATE}' is of a training with {words}", " --resume, or ")
    one_line(run(*interrupted, code=1), "holds an interrupted training", "--resume", "--force")
    assert (tmp_path / STATE).read_bytes() == before
    assert b"vaectl train" in run(*interrupted, "--resume", buffering="buffered", OMP_NUM_THREADS="2").stderr.splitlines()[0]


def test_an_interrupted_training_can_be_begun_anew(run: Call, interrupted: list[str], tmp_path: Path) -> None:
    assert "epoch 1/2:" in run(*interrupted, "--epochs", 2, "--force").stderr.decode()
    assert os.listdir(tmp_path) == ["vae.safetensors"]


@pytest.mark.fault(38)
def test_without_a_state_there_is_nothing_to_go_on_with(run: Call, training: list[str], tmp_path: Path) -> None:
    one_line(run(*training, "--resume", code=1), f"there is no '{STATE}'", "leave out --resume")
    one_line(run(*training, "--resume", "-o", "/dev/null", code=2), "'/dev/null' is no file")
    assert os.listdir(tmp_path) == []


def set_values(**values: object) -> object:
    return lambda found, header: found.update(values)


@pytest.mark.fault(38)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_values(format=2), "upgrade vaectl"),
        (set_values(step="3"), "whole numbers"),
        (set_values(sizes={}), "weights"),
        (set_values(epochs=[3]), "a dict is due"),
        (lambda found, header: found.pop("command"), "command"),
        (lambda found, header: header.pop("__metadata__"), "no metadata 'vaectl-training'"),
        (lambda found, header: found["sizes"].update(weights=[7]), "7. is due"),
    ],
)
def test_a_damaged_state_is_told(change: object, words: str, interrupted_file: Path, tmp_path: Path) -> None:
    path = tmp_path / STATE
    path.write_bytes(interrupted_file.read_bytes())
    rewritten(path, change, states.KEY)
    with pytest.raises(VaectlError, match=words):
        states.load(str(path))


@pytest.mark.fault(38)
def test_a_state_cut_anywhere_is_told(interrupted_file: Path, tmp_path: Path) -> None:
    data = interrupted_file.read_bytes()
    path = tmp_path / STATE
    for cut in [*range(0, 4000, 61), len(data) - 1]:
        path.write_bytes(data[:cut])
        with pytest.raises(VaectlError, match=r"is damaged: .*start anew with --force"):
            states.load(str(path))


@pytest.mark.fault(38)
def test_a_state_of_which_one_bit_flipped_is_told(interrupted_file: Path, tmp_path: Path) -> None:
    data = interrupted_file.read_bytes()
    path = tmp_path / STATE
    for place in [9, 40, 300, 1200, *range(3000, len(data), len(data) // 50), len(data) - 1]:
        path.write_bytes(data[:place] + bytes([data[place] ^ 2]) + data[place + 1 :])
        with pytest.raises(VaectlError, match="is damaged"):
            states.load(str(path))
    path.write_bytes(data)
    assert states.load(str(path)).state.step > 0


@pytest.fixture(scope="module")
def interrupted_file(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Path:
    """The state of a training that was interrupted."""
    folder = tmp_path_factory.mktemp("interrupted")
    stopped(["train", "vae", "--data", str(small_data), "--hidden", "8", "--epochs", "100000"], folder, signal.SIGINT)
    return folder / STATE


@pytest.mark.fault(30)
def test_of_two_trainings_to_one_file_the_second_fails_at_once(run: Call, training: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen([VAECTL, *training], cwd=tmp_path, stderr=subprocess.PIPE, env=environment())
    assert process.stderr is not None and b"epoch 1/" in process.stderr.readline()
    one_line(run(*training, "--force", code=1), "'vae.safetensors': another training writes it")
    run(*training, "--epochs", 1, "-o", "other.safetensors")
    assert process.wait(timeout=60) == 0
    assert sorted(os.listdir(tmp_path)) == ["other.safetensors", "vae.safetensors"]


@pytest.mark.fault(35)
def test_a_second_signal_stops_at_once(training: list[str], tmp_path: Path) -> None:
    """A shell that sends two signals in a row is obeyed; whatever is on disk afterwards is whole."""
    process = subprocess.Popen([VAECTL, *training], cwd=tmp_path, stderr=subprocess.PIPE, env=environment())
    assert process.stderr is not None and b"epoch 1/" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode in (-signal.SIGINT, -signal.SIGTERM)
    assert states.load(str(tmp_path / STATE)).state.step >= 0
    assert os.listdir(tmp_path) == [STATE]


def test_a_checkpoint_goes_to_stdout_alone(shell: Call, small_data: Path, tmp_path: Path) -> None:
    result = shell(f"vaectl train ae --data {small_data} --epochs 1 -q -o - > m.safetensors && vaectl info m.safetensors --json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["model"] == "ae"
    assert os.listdir(tmp_path) == ["m.safetensors"]
    one_line(shell(f"vaectl train ae --data {small_data} --json -o -"), "name a file with -o")


@pytest.mark.fault(30)
def test_two_checkpoints_of_one_state_are_not_trained_at_once(tmp_path: Path) -> None:
    run3 = str(tmp_path / "run3")
    options = {"resume": False, "force": False}
    refused = pytest.raises(VaectlError, match="another training writes it")
    with states.keeping(run3, "", **options), refused, states.keeping(f"{run3}.safetensors", "", **options):
        pass
