"""What the tests share: a way to call vaectl as a shell does, and small models trained once through it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from matrix import FAULTS
from numpy.typing import NDArray
from support import VAECTL, Nursery, Result, environment

from vaectl import datasets

Call = Callable[..., Result]


@pytest.fixture(scope="session")
def nursery() -> Iterator[Callable[[str], Nursery]]:
    """The nursery for a verb, started when it is first needed."""
    started: dict[bool, Nursery] = {}

    def find(verb: str) -> Nursery:
        torch = verb in ("train", "evaluate")
        if torch not in started:
            started[torch] = Nursery(torch)
        return started[torch]

    yield find
    for each in started.values():
        each.close()


@pytest.fixture
def run(tmp_path: Path, nursery: Callable[[str], Nursery]) -> Call:
    """Calls vaectl in an empty folder: `run("encode", "a.png", input=b"")`; the exit code is checked against `code`.

    With `buffering` it is a process from its very start, whose standard streams Python buffers or not.
    """

    def call(
        *arguments: object,
        input: bytes = b"",
        code: int = 0,
        cwd: Path = tmp_path,
        buffering: str | None = None,
        memory: int = 0,
        **variables: str,
    ) -> Result:
        words = list(map(str, arguments))
        if buffering:
            env = environment(buffering) | variables
            result = subprocess.run([str(VAECTL), *words], input=input, capture_output=True, cwd=cwd, env=env, timeout=120)
        else:
            result = nursery(words[0] if words else "").call(words, cwd=cwd, input=input, memory=memory, **variables)
        assert result.returncode == code, result.stderr.decode()
        return result

    return call


@pytest.fixture(scope="session")
def run_in(nursery: Callable[[str], Nursery]) -> Callable[..., None]:
    """Calls vaectl in a folder, where it must succeed."""

    def call(folder: Path, *arguments: str) -> None:
        result = nursery(arguments[0]).call(arguments, cwd=folder)
        assert result.returncode == 0, result.stderr.decode()

    return call


@pytest.fixture
def shell(tmp_path: Path) -> Call:
    """Runs a line of bash, with vaectl on the path, in an empty folder."""

    def call(line: str, *, buffering: str = "buffered", cwd: Path = tmp_path, **variables: str) -> Result:
        env = environment(buffering) | variables
        env["PATH"] = f"{VAECTL.parent}{os.pathsep}{env['PATH']}"
        return subprocess.run(["bash", "-c", line], capture_output=True, cwd=cwd, env=env, timeout=120)

    return call


@pytest.fixture(scope="session")
def digits() -> NDArray[np.uint8]:
    """The first 64 test pictures of MNIST, (64, 28, 28, 1)."""
    return datasets.load("mnist").test[:64]


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 training and 500 test pictures of MNIST as an NPZ."""
    whole = datasets.load("mnist")
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez(path, x_train=whole.train[:2000, :, :, 0], x_test=whole.test[:500, :, :, 0])
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, small_data: Path, run_in: Callable[..., None]) -> Path:
    """A folder with a small vae.safetensors, ae.safetensors and dae.safetensors of 2, 4 and 32 dimensions."""
    folder = tmp_path_factory.mktemp("models")
    run_in(folder, "train", "ae", "--latent", "4", "--hidden", "64,32", "--data", str(small_data), "--epochs", "40")
    run_in(folder, "train", "dae", "--latent", "32", "--hidden", "200", "--data", str(small_data), "--epochs", "40")
    run_in(folder, "train", "vae", "--latent", "2", "--hidden", "64,32", "--data", str(small_data), "--epochs", "40")
    return folder


@pytest.fixture
def vae(models: Path) -> Path:
    return models / "vae.safetensors"


@pytest.fixture
def dae(models: Path) -> Path:
    return models / "dae.safetensors"


@pytest.fixture
def ae(models: Path) -> Path:
    return models / "ae.safetensors"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, the README, and note in each report which faults the test holds."""
    items.sort(key=lambda item: "test_readme" not in item.nodeid)
    for item in items:
        for mark in item.iter_markers("fault"):
            item.user_properties += [("fault", number) for number in mark.args]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which rows of the fault matrix hold, where they were asked for: `pytest -m "fault and not long"`."""
    if "fault" not in str(config.option.markexpr):
        return
    kinds = {kind: terminalreporter.stats.get(kind, []) for kind in ("passed", "failed", "error")}
    rows = {kind: {value for report in reports for _, value in report.user_properties} for kind, reports in kinds.items()}
    broken = rows["failed"] | rows["error"]
    held = rows["passed"] - broken
    terminalreporter.write_line(f"{len(held)} of the {len(FAULTS)} faults are held")
    for number in sorted(FAULTS.keys() - held):
        terminalreporter.write_line(f"{'broken' if number in broken else 'not tested'}: {number}, {FAULTS[number]}")
