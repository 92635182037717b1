"""An interrupted run resumes bit-identically, and never destroys another run."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import VAECTL, Edit, ForkServer, Result, edit_safetensors, environment, one_line

from vaectl.base.errors import UsageError, VaectlError
from vaectl.training import resume

Call = Callable[..., Result]
STATE = "vae.resume.safetensors"


@pytest.fixture
def command(small_data: Path) -> list[str]:
    """A training run of a few seconds."""
    return ["train", "vae", "--data", str(small_data), "--hidden", "64", "--epochs", "30", "--likelihood", "gaussian"]


@pytest.fixture(scope="session")
def server(fork_server: Callable[..., ForkServer]) -> ForkServer:
    """The server that forks training runs."""
    return fork_server("train")


def interrupt(server: ForkServer, arguments: list[str], cwd: Path, number: signal.Signals, epoch: int = 3) -> str:
    """Start a run, send it a signal in the middle of an epoch, and return what it prints after that."""
    with server.start(arguments, cwd) as run:
        run.read_until(f"epoch {epoch}/")
        run.send_signal(number)
        code, out, err = run.finish()
    assert code == -number and not out
    return err.decode()


@pytest.fixture
def whole(make_once: Callable[..., Path], run_in: Callable[..., None], command: list[str]) -> bytes:
    """The checkpoint that the run writes if it is not interrupted."""
    return (make_once("whole", lambda folder: run_in(folder, *command)) / "vae.safetensors").read_bytes()


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGTERM), (signal.SIGKILL, signal.SIGKILL)])
def test_a_run_interrupted_twice_writes_the_same_checkpoint(
    numbers: tuple[signal.Signals, signal.Signals],
    run: Call,
    server: ForkServer,
    command: list[str],
    whole: bytes,
    tmp_path: Path,
) -> None:
    for number, epoch in zip(numbers, (4, 15), strict=True):
        err = interrupt(server, [*command, *(["--resume"] if epoch > 4 else [])], tmp_path, number, epoch)
        assert (tmp_path / STATE).exists() and not (tmp_path / "vae.safetensors").exists()
        if number != signal.SIGKILL:
            last = err.splitlines()[-1]
            assert last.startswith("vaectl train: stopped after ")
            assert f"resume with vaectl {' '.join(command)} --resume" in last
    result = run(*command, "--resume")
    assert result.stdout == b"vae.safetensors\n"
    assert signal.SIGKILL in numbers or "epoch 1/30" not in result.stderr.decode()
    assert (tmp_path / "vae.safetensors").read_bytes() == whole
    assert os.listdir(tmp_path) == ["vae.safetensors"]


@pytest.fixture
def interrupted(server: ForkServer, command: list[str], tmp_path: Path, make_once: Callable[..., Path]) -> list[str]:
    """The command of an interrupted run, whose state is in `tmp_path`."""
    folder = make_once("interrupted", lambda folder: interrupt(server, command, folder, signal.SIGTERM))
    shutil.copy(folder / STATE, tmp_path)
    return command


def test_a_run_with_other_settings_cannot_resume(run: Call, interrupted: list[str], tmp_path: Path, small_data: Path) -> None:
    before = (tmp_path / STATE).read_bytes()
    data = dict(np.load(small_data))
    np.savez(tmp_path / "other.npz", **{**data, "x_train": 255 - data["x_train"]})
    changes = {
        "epochs 30, not 31": ["--epochs", "31"],
        "seed 0, not 1": ["--seed", "1"],
        "another network": ["--latent", "3"],
        "other data": ["--data", "other.npz"],
        "precision": ["--precision", "fp32" if b"bfloat16" in before else "bf16"],
    }
    for words, change in changes.items():
        result = run(*interrupted, *change, "--resume", code=1)
        one_line(result, f"'{STATE}' belongs to a run with {words}", f"resume with vaectl {' '.join(interrupted)} --resume, or ")
    assert (tmp_path / STATE).read_bytes() == before


def test_changed_data_cannot_be_resumed_with_the_same_command(
    run: Call, server: ForkServer, command: list[str], small_data: Path, tmp_path: Path
) -> None:
    data = dict(np.load(small_data))
    np.savez(tmp_path / "data.npz", **data)
    own = [*command, "--data", "data.npz"]
    interrupt(server, own, tmp_path, signal.SIGTERM)
    np.savez(tmp_path / "data.npz", **{**data, "x_train": 255 - data["x_train"]})
    one_line(run(*own, "--resume", code=1), "belongs to a run with other data: restore the data, or start over with --force")


def test_without_resume_or_force_an_interrupted_run_is_kept(run: Call, interrupted: list[str], tmp_path: Path) -> None:
    before = (tmp_path / STATE).read_bytes()
    one_line(run(*interrupted, code=1), f"'{STATE}' is an interrupted run: continue it with --resume, or start over with --force")
    assert (tmp_path / STATE).read_bytes() == before


def test_resuming_with_another_number_of_threads_gives_a_warning(interrupted: list[str], tmp_path: Path) -> None:
    variables = environment() | {"OMP_NUM_THREADS": "2"}  # read when torch is imported
    with subprocess.Popen([VAECTL, *interrupted, "--resume"], cwd=tmp_path, stderr=subprocess.PIPE, env=variables) as process:
        assert process.stderr is not None
        assert b"the run was started with another number of threads: " in process.stderr.readline()
        assert process.stderr.readline().startswith(b"epoch ")
        process.kill()


def test_force_starts_an_interrupted_run_over(run: Call, interrupted: list[str], tmp_path: Path) -> None:
    assert "epoch 1/2:" in run(*interrupted, "--epochs", 2, "--force").stderr.decode()
    assert os.listdir(tmp_path) == ["vae.safetensors"]


def test_without_a_state_there_is_nothing_to_resume(run: Call, command: list[str], tmp_path: Path) -> None:
    one_line(run(*command, "--resume", code=1), f"there is no '{STATE}'", "leave out --resume")
    one_line(run(*command, "--resume", "-o", "/dev/null", code=2), "'/dev/null' is not a file")
    assert os.listdir(tmp_path) == []


def update(**values: object) -> Edit:
    return lambda found, header: found.update(values)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (update(format=3), r"resume\.safetensors' has format 3, .*: upgrade vaectl"),
        (update(step="3"), "integers are expected|its bytes have changed"),
        (update(sizes={}), "weights"),
        (update(sizes=3), "3 is not a dict"),
        (lambda found, header: found.pop("command"), "its bytes have changed"),
        (lambda found, header: found.pop("sha256"), "sha256"),
        (lambda found, header: header.pop("__metadata__"), "no metadata 'vaectl-training'"),
        (lambda found, header: found["sizes"].update(weights=[7]), r"'weights' is F32 \[\d+\], not F32 \[7\]"),
    ],
)
def test_an_edited_state_is_refused(edit: Edit, words: str, interrupted_file: Path, tmp_path: Path) -> None:
    path = tmp_path / STATE
    path.write_bytes(interrupted_file.read_bytes())
    edit_safetensors(path, edit, resume.STATE_KEY)
    with pytest.raises(VaectlError, match=words):
        resume.load(str(path))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (update(step="3"), "'3' is not a list|integers are expected"),
        (update(epochs=[3]), "3 is not a dict"),
        (update(versions=None), "None is not a dict"),
        (lambda found, header: found.pop("command"), "command"),
        (lambda found, header: found.pop("run_config"), "run_config"),
    ],
)
def test_a_wrong_state_with_a_right_hash_is_refused(
    edit: Edit, words: str, interrupted_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / STATE
    path.write_bytes(interrupted_file.read_bytes())
    edit_safetensors(path, edit, resume.STATE_KEY)
    monkeypatch.setattr(resume, "hash_state", lambda values, tensors: sha256(interrupted_file))
    with pytest.raises(VaectlError, match=words):
        resume.load(str(path))


def sha256(path: Path) -> str:
    """The hash that a state contains."""
    found: list[str] = []
    edit_safetensors(path, lambda values, header: found.append(values["sha256"]), resume.STATE_KEY)
    return found[0]


def test_a_truncated_state_is_refused(interrupted_file: Path, tmp_path: Path) -> None:
    data = interrupted_file.read_bytes()
    path = tmp_path / STATE
    for length in [*range(0, 4000, 61), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(VaectlError, match=r"is damaged: .*start over with --force"):
            resume.load(str(path))


def test_a_single_flipped_bit_in_a_state_is_detected(interrupted_file: Path, tmp_path: Path) -> None:
    data = interrupted_file.read_bytes()
    path = tmp_path / STATE
    for offset in [9, 40, 300, 1200, *range(3000, len(data), len(data) // 50), len(data) - 1]:
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 2]) + data[offset + 1 :])
        with pytest.raises(VaectlError, match="is damaged"):
            resume.load(str(path))
    path.write_bytes(data)
    assert resume.load(str(path)).state.step > 0


@pytest.fixture(scope="session")
def interrupted_file(make_once: Callable[..., Path], small_data: Path, server: ForkServer) -> Path:
    """The state of an interrupted run of a small network."""
    command = ["train", "vae", "--data", str(small_data), "--hidden", "8", "--epochs", "100000"]
    return make_once("interrupted_small", lambda folder: interrupt(server, command, folder, signal.SIGINT)) / STATE


def test_a_second_run_with_the_same_output_fails_at_once(
    run: Call, server: ForkServer, command: list[str], whole: bytes, tmp_path: Path
) -> None:
    with server.start(command, tmp_path) as first:
        first.read_until("epoch 1/")
        one_line(run(*command, "--force", code=1), "'vae.safetensors' is in use by another training run")
        run(*command, "--epochs", 1, "-o", "other.safetensors")
        assert first.finish()[0] == 0
    assert sorted(os.listdir(tmp_path)) == ["other.safetensors", "vae.safetensors"]
    assert (tmp_path / "vae.safetensors").read_bytes() == whole


def test_a_second_signal_stops_a_run_at_once(command: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen([VAECTL, *command], cwd=tmp_path, stderr=subprocess.PIPE, env=environment())
    assert process.stderr is not None and b"epoch 1/" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode in (-signal.SIGINT, -signal.SIGTERM)
    assert resume.load(str(tmp_path / STATE)).state.step >= 0
    assert os.listdir(tmp_path) == [STATE]


def test_a_checkpoint_can_be_written_to_stdout(
    shell: Call, forked_vaectl: dict[str, str], small_data: Path, tmp_path: Path
) -> None:
    train = f"vaectl train ae --data {small_data} --hidden 8 --epochs 1"
    result = shell(f"{train} -q -o - > m.safetensors && vaectl info m.safetensors --json", **forked_vaectl)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["model"] == "ae"
    assert os.listdir(tmp_path) == ["m.safetensors"]
    one_line(shell(f"{train} --json -o -", **forked_vaectl), "name a file with -o")


def test_two_outputs_that_share_a_state_cannot_be_trained_at_once(tmp_path: Path) -> None:
    run3 = str(tmp_path / "run3")
    first = resume.saving_state(run3, "", resume=False, force=False)
    second = resume.saving_state(f"{run3}.safetensors", "", resume=False, force=False)
    with first, pytest.raises(VaectlError, match="in use by another training run"), second:
        pass


def test_without_an_output_nothing_is_saved_or_resumed() -> None:
    with resume.saving_state(None, "", resume=False, force=False) as saver:
        assert saver.path is None
    with (
        pytest.raises(UsageError, match="without an output, no state is saved"),
        resume.saving_state(None, "", resume=True, force=False),
    ):
        pass


def test_a_finished_run_has_nothing_to_resume(run: Call, small_data: Path) -> None:
    command = ("train", "ae", "--data", small_data, "--hidden", "8", "--epochs", "1")
    run(*command)
    one_line(run(*command, "--resume", code=1), "'ae.safetensors' is complete, there is nothing to resume")


def test_a_state_from_before_a_setting_existed_resumes_with_its_default(interrupted_file: Path) -> None:
    saved = resume.load(str(interrupted_file))
    before = {name: value for name, value in saved.run_config.items() if name != "schedule"}
    saver = resume.StateSaver(STATE, "vaectl train vae", replace(saved, run_config=before))
    assert saver.start(before | {"schedule": "linear"}, saved.versions) is saved.state
    with pytest.raises(VaectlError, match="schedule linear, not cosine"):
        saver.start(before | {"schedule": "cosine"}, saved.versions)
