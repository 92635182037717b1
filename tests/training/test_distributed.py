"""Processes that torchrun starts train as one: to the same bits each time, and all of them end where one does."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from support import ForkServer, Result, RunningCall, environment

from vaectl.models import checkpoint

Call = Callable[..., Result]


@pytest.fixture(scope="session")
def server(fork_server: Callable[..., ForkServer]) -> ForkServer:
    return fork_server("train")


@pytest.fixture
def command(small_data: Path) -> list[str]:
    """A training run of a second or two, whose batches do not divide evenly."""
    return ["train", "vae", "--data", str(small_data), "--hidden", "64", "--epochs", "12", "--batch-size", "151"]


@contextmanager
def started(server: ForkServer, commands: Sequence[Sequence[str]], cwd: Path, machines: int = 1) -> Iterator[list[RunningCall]]:
    """The processes of one training run, each with its command; they behave as on so many machines."""
    with socket.socket() as free, ExitStack() as stack:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        shared = {"WORLD_SIZE": str(len(commands)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        local = len(commands) // machines
        shared["LOCAL_WORLD_SIZE"] = str(local)
        yield [
            stack.enter_context(server.start(command, cwd, RANK=str(rank), LOCAL_RANK=str(rank % local), **shared))
            for rank, command in enumerate(commands)
        ]


def run_program(program: str, command: Sequence[str], cwd: Path) -> None:
    """Run a Python program as the two processes of a training run."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    shared = environment() | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, *command],
            cwd=cwd,
            env=shared | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
        )
        for rank in "01"
    ]
    for process in processes:
        _, err = process.communicate()
        assert process.returncode == 0, err.decode()


def finish(processes: Sequence[RunningCall]) -> list[tuple[int, str, str]]:
    """The exit code, stdout and stderr of each process."""
    endings = [process.finish() for process in processes]
    return [(code, out.decode(), err.decode()) for code, out, err in endings]


def train(server: ForkServer, command: Sequence[str], cwd: Path, size: int = 2, machines: int = 1) -> list[tuple[int, str, str]]:
    with started(server, [command] * size, cwd, machines) as processes:
        return finish(processes)


@pytest.fixture
def whole(make_once: Callable[..., Path], server: ForkServer, command: list[str]) -> Path:
    """The checkpoint of two processes."""
    return make_once("two processes", lambda folder: train(server, command, folder)) / "vae.safetensors"


def test_two_processes_learn_what_one_learns_and_the_first_alone_speaks(
    server: ForkServer, command: list[str], whole: Path, run: Call, tmp_path: Path
) -> None:
    (code, out, err), (other_code, *other) = train(server, command, tmp_path)
    assert (code, out) == (0, "vae.safetensors\n") and "epoch 12/12" in err
    assert other_code == 0 and other == ["", ""]
    assert (tmp_path / "vae.safetensors").read_bytes() == whole.read_bytes()
    assert os.listdir(tmp_path) == ["vae.safetensors"]
    run(*command, "-o", "one.safetensors")
    two, one = (checkpoint.load(str(path)).card for path in (whole, tmp_path / "one.safetensors"))
    assert two.training["batch_size"] == one.training["batch_size"]
    assert abs(two.metrics["neg_elbo"] - one.metrics["neg_elbo"]) < 0.03 * one.metrics["neg_elbo"]


def test_two_machines_learn_what_one_learns(server: ForkServer, command: list[str], tmp_path: Path) -> None:
    for machines in (1, 2):
        train(server, [*command, "-o", f"{machines}.safetensors"], tmp_path, machines=machines)
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()


def test_one_process_of_a_machine_reads_for_all(server: ForkServer, command: list[str], whole: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "digits")  # which can be read once only
    data = Path(command[command.index("--data") + 1])
    through_pipe = [word if word != str(data) else "digits" for word in command]
    with started(server, [through_pipe] * 2, tmp_path) as processes:
        (tmp_path / "digits").write_bytes(data.read_bytes())
        endings = finish(processes)
    assert [code for code, *_ in endings] == [0, 0], endings
    weights, expected = (checkpoint.load(str(path)).weights for path in (tmp_path / "vae.safetensors", whole))
    for name, weight in expected.items():
        np.testing.assert_array_equal(weights[name], weight)


def test_a_step_of_three_processes_is_a_step_of_one(server: ForkServer, small_data: Path, run: Call, tmp_path: Path) -> None:
    # Without noise, only rounding differs.
    exact = ["--precision", "fp32", "--shift", "0", "--batch-size", "151"]
    command = ["train", "ae", "--data", str(small_data), "--hidden", "32", "--epochs", "2", *exact]
    train(server, command, tmp_path, size=3)
    run(*command, "-o", "one.safetensors")
    three, one = (checkpoint.load(str(tmp_path / name)).weights for name in ("ae.safetensors", "one.safetensors"))
    for name, weight in one.items():
        np.testing.assert_allclose(three[name], weight, atol=1e-3)


@pytest.mark.parametrize(
    "others",
    [
        ["--binarize", "--objective", "iwae", "--samples", "3"],
        ["--likelihood", "gaussian", "--precision", "bf16", "--shift", "1"],
        ["--net", "unet", "--corrupt", "gaussian:0.1", "--size", "16", "--batch-size", "512"],
    ],
    ids=["iwae", "gaussian", "unet"],
)
def test_three_processes_train_every_kind_of_model(
    others: list[str], server: ForkServer, small_data: Path, tmp_path: Path
) -> None:
    model = "dae" if "unet" in others else "vae"
    command = ["train", model, "--data", str(small_data), "--epochs", "2", "--hidden", "8", *others]
    endings = train(server, command, tmp_path, size=3)
    assert [code for code, *_ in endings] == [0, 0, 0], endings
    assert np.isfinite(checkpoint.load(str(tmp_path / f"{model}.safetensors")).card.metrics["mse"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("rank", [0, 1])
def test_where_one_process_ends_all_do_and_the_run_resumes_to_the_same_bits(
    number: signal.Signals, rank: int, server: ForkServer, command: list[str], whole: Path, tmp_path: Path
) -> None:
    with started(server, [command] * 2, tmp_path) as processes:
        processes[0].read_until("epoch 4/")
        processes[rank].send_signal(number)
        endings = finish(processes)
    assert all(code != 0 for code, *_ in endings)
    assert endings[1 - rank][0] == {signal.SIGKILL: 1}.get(number, -signal.SIGTERM)
    if number != signal.SIGKILL:
        assert "stopped after " in endings[0][2].splitlines()[-1]
    elif rank == 1:
        assert "another process of this training ended, so this one ends too" in endings[0][2].splitlines()[-1]
    assert endings[1][2] == ""
    assert not (tmp_path / "vae.safetensors").exists()
    (code, _, err), _ = train(server, [*command, "--resume"], tmp_path)
    assert code == 0, err
    assert (tmp_path / "vae.safetensors").read_bytes() == whole.read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("seed", range(50))
def test_a_process_killed_at_any_moment_ends_all_and_the_run_resumes_to_the_same_bits(
    seed: int, server: ForkServer, command: list[str], whole: Path, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    with started(server, [command] * 2, tmp_path) as processes:
        processes[0].read_until(f"epoch {rng.randrange(1, 11)}/")
        time.sleep(rng.uniform(0, 0.2))
        processes[rng.randrange(2)].send_signal(signal.SIGKILL)
        endings = finish(processes)
    assert all(code != 0 for code, *_ in endings), endings
    (code, _, err), _ = train(server, [*command, "--resume"], tmp_path)
    assert code == 0, err
    assert (tmp_path / "vae.safetensors").read_bytes() == whole.read_bytes()


def test_a_run_resumes_with_another_number_of_processes_and_says_so(
    server: ForkServer, command: list[str], run: Call, tmp_path: Path
) -> None:
    with started(server, [command] * 2, tmp_path) as processes:
        processes[0].read_until("epoch 4/")
        processes[0].send_signal(signal.SIGTERM)
        finish(processes)
    result = run(*command, "--resume")
    assert b"the run was started with another number of processes: the result will not be bit-identical" in result.stderr


# The second process is slow to set the weights with which every training begins, and the first to take a step.
SLOW = """
import os, time
from vaectl.training.loop import Trainer
from vaectl.training.optimizer import Optimizer
set_weights, train_step, rank = Optimizer.set_weights, Trainer.train_step, int(os.environ["RANK"])
def set_late(optimizer, weights):
    time.sleep(rank)
    set_weights(optimizer, weights)
def step_late(trainer, batch):
    time.sleep(0 if rank or trainer.logger.first_step + 1 < trainer.loader.step else 1.5)
    train_step(trainer, batch)
Optimizer.set_weights, Trainer.train_step = set_late, step_late
from vaectl.cli import main
main()
"""


def test_a_slow_process_does_not_disturb_what_another_has_resumed(
    server: ForkServer, command: list[str], whole: Path, tmp_path: Path
) -> None:
    with started(server, [command] * 2, tmp_path) as processes:
        processes[0].read_until("epoch 4/")
        processes[0].send_signal(signal.SIGTERM)
        finish(processes)
    run_program(SLOW, [*command, "--resume"], tmp_path)
    assert (tmp_path / "vae.safetensors").read_bytes() == whole.read_bytes()


def failing(server: ForkServer, commands: Sequence[Sequence[str]], cwd: Path, machines: int = 1) -> str:
    """The one line that processes print which cannot train."""
    with started(server, commands, cwd, machines) as processes:
        endings = finish(processes)
    assert all(code for code, *_ in endings)
    assert not any(out for _, out, _ in endings)
    (line,) = "".join(err for *_, err in endings).splitlines()
    return line


def test_an_error_of_all_processes_is_one_line(server: ForkServer, command: list[str], tmp_path: Path) -> None:
    assert "lower --lr" in failing(server, [[*command, "--lr", "1e30", "-q"]] * 2, tmp_path)
    assert "'no.npz': no such file" in failing(server, [["train", "vae", "--data", "no.npz"]] * 2, tmp_path)
    assert "iwae needs several samples" in failing(server, [["train", "vae", "--objective", "iwae"]] * 2, tmp_path)
    few = ["train", "vae", "--data", command[command.index("--data") + 1], "--batch-size", "1"]
    assert "a batch of 1 cannot be divided among 2 processes: start fewer processes" in failing(server, [few] * 2, tmp_path)
    (tmp_path / "vae.safetensors").touch()
    assert "'vae.safetensors' already exists" in failing(server, [command] * 2, tmp_path)


def test_an_error_of_one_process_is_told_by_the_first(server: ForkServer, command: list[str], tmp_path: Path) -> None:
    other = [word if not word.endswith(".npz") else "no.npz" for word in command]
    assert "process 1: 'no.npz': no such file" in failing(server, [command, other], tmp_path, machines=2)
    np.savez(tmp_path / "other.npz", x_train=np.zeros((200, 12, 12), np.uint8))
    other = [word if not word.endswith(".npz") else "other.npz" for word in command]
    line = failing(server, [command, other], tmp_path, machines=2)
    assert "process 1 has other data than process 0: give all processes the same files" in line
    assert "process 1 has another beta" in failing(server, [command, [*command, "--beta", "2"]], tmp_path)
    assert os.listdir(tmp_path) == ["other.npz"]


def test_torchrun_starts_it(command: list[str], whole: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    result = subprocess.run([*torchrun, "-m", "vaectl", *command], cwd=tmp_path, env=environment(), capture_output=True)
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout == b"vae.safetensors\n"
    assert (tmp_path / "vae.safetensors").read_bytes() == whole.read_bytes()


def test_where_the_disk_is_full_all_processes_end_with_one_line(command: list[str], tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    limited = ["bash", "-c", 'ulimit -f 40 && exec "$@"', "bash", *torchrun, "-m", "vaectl", *command]
    result = subprocess.run(limited, cwd=tmp_path, env=environment(), capture_output=True, timeout=60)
    own = [line for line in result.stderr.decode().splitlines() if line.startswith("vaectl train:")]
    assert result.returncode == 1
    assert len(own) == 1 and own[0].endswith("file too large"), result.stderr
    assert not [name for name in os.listdir(tmp_path) if not name.endswith(".lock")]


def test_other_commands_do_not_run_in_several_processes(server: ForkServer, vae: Path, tmp_path: Path) -> None:
    command = ["encode", "mnist:0", "-c", str(vae), "-o", "z.npy"]
    assert "encode does not run in several processes of torchrun" in failing(server, [command] * 2, tmp_path)
    assert not os.listdir(tmp_path)
