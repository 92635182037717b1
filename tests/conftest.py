"""What the tests share: a way to call vaectl as a shell does, and small models trained once through it."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import VAECTL, Result, environment, run_in

from vaectl import datasets

Call = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Call:
    """Calls vaectl in an empty folder: `run("encode", "a.png", input=b"")`; the exit code is checked against `code`."""

    def call(
        *arguments: object, input: bytes = b"", code: int = 0, cwd: Path = tmp_path, buffering: str = "buffered", **variables: str
    ) -> Result:
        command = [str(VAECTL), *map(str, arguments)]
        result = subprocess.run(
            command, input=input, capture_output=True, cwd=cwd, env=environment(buffering) | variables, timeout=120
        )
        assert result.returncode == code, result.stderr.decode()
        return result

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
def models(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Path:
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
