"""Fixtures shared by all tests: ways to call vaectl as a shell does, and small models trained once."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from support import VAECTL, ForkServer, Result, environment, write_png

from vaectl.datasets.load import Dataset, load_dataset

Call = Callable[..., Result]
TORCH_WORDS = {"train", "evaluate", "--device"}

# Hypothesis tries the same few files in each run of the tests, and thousands of others in `make fuzz`.
CALLS_ARE_SLOW = settings(deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile("tests", CALLS_ARE_SLOW, max_examples=6, derandomize=True, database=None)
settings.register_profile("fuzz", CALLS_ARE_SLOW, max_examples=2000, print_blob=True)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def fork_server() -> Iterator[Callable[..., ForkServer]]:
    """Returns the fork server for a call, started when first needed: with torch if the call imports it."""
    started: dict[bool, ForkServer] = {}

    def find(*words: str, **variables: str) -> ForkServer:
        torch = not TORCH_WORDS.isdisjoint(words) or "VAECTL_DEVICE" in variables
        if torch not in started:
            started[torch] = ForkServer(torch)
        return started[torch]

    yield find
    for server in started.values():
        server.close()


@pytest.fixture
def run(tmp_path: Path, fork_server: Callable[..., ForkServer]) -> Call:
    """Calls vaectl in an empty folder, `run("encode", "a.png", input=b"")`, and checks that it exits with `code`.

    With `buffering`, "buffered" or "unbuffered", it starts a new process whose standard streams are so.
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
            server = fork_server(*words, **variables)
            result = server.call(words, cwd=cwd, input=input, memory=memory, **variables)
        assert result.returncode == code, result.stderr.decode()
        return result

    return call


@pytest.fixture(scope="session")
def run_in(fork_server: Callable[..., ForkServer]) -> Callable[..., None]:
    """Calls vaectl in a folder, where it must succeed."""

    def call(folder: Path, *arguments: str) -> None:
        result = fork_server(*arguments).call(arguments, cwd=folder)
        assert result.returncode == 0, result.stderr.decode()

    return call


@pytest.fixture
def shell(tmp_path: Path) -> Call:
    """Runs a line of bash in an empty folder, with vaectl on the path."""

    def call(line: str, *, buffering: str = "buffered", cwd: Path = tmp_path, **variables: str) -> Result:
        env = environment(buffering) | variables
        env["PATH"] = variables.get("PATH", f"{VAECTL.parent}{os.pathsep}{env['PATH']}")
        return subprocess.run(["bash", "-c", line], capture_output=True, cwd=cwd, env=env, timeout=120)

    return call


@pytest.fixture(scope="session")
def forked_vaectl(fork_server: Callable[..., ForkServer], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables with which `vaectl`, on the path, is forked from a process that has done its imports."""
    program = tmp_path_factory.mktemp("bin") / "vaectl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -SE "{Path(__file__).with_name("forked_vaectl.py")}" "$@"\n')
    program.chmod(0o755)
    path = os.pathsep.join([str(program.parent), str(VAECTL.parent), os.environ["PATH"]])
    return {"PATH": path, "VAECTL_FORK_SERVER": fork_server("train").address}


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    """MNIST."""
    return load_dataset("mnist")


@pytest.fixture(scope="session")
def digits(mnist: Dataset) -> NDArray[np.uint8]:
    """The first 64 test images of MNIST, (64, 28, 28, 1)."""
    return np.asarray(mnist.test[:64])


@pytest.fixture
def digits_folder(tmp_path: Path, digits: NDArray[np.uint8]) -> Path:
    """A folder of 12 digits, 00.png to 09.png, more/10.png and more/11.png."""
    for index in range(12):
        write_png(tmp_path / "digits" / ("more" if index >= 10 else "") / f"{index:02d}.png", digits[index])
    return tmp_path / "digits"


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Returns a folder of this name, filled by a function in the first of the parallel workers that asks for it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def find(name: str, fill: Callable[[Path], None]) -> Path:
        folder, filled = shared / name, shared / f"{name}.filled"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not filled.exists():
                folder.mkdir()
                fill(folder)
                filled.touch()
        return folder

    return find


@pytest.fixture(scope="session")
def small_data(make_once: Callable[..., Path], request: pytest.FixtureRequest) -> Path:
    """2,000 training and 500 test images of MNIST and their labels as an NPZ file."""

    def fill(folder: Path) -> None:
        mnist: Dataset = request.getfixturevalue("mnist")
        assert isinstance(mnist.train, np.ndarray) and isinstance(mnist.test, np.ndarray)
        splits = (("train", mnist.train, mnist.train_labels, 2000), ("test", mnist.test, mnist.test_labels, 500))
        images = {f"x_{split}": stack[:count, :, :, 0] for split, stack, _, count in splits}
        labels = {f"y_{split}": np.array(found[:count]).astype(int) for split, _, found, count in splits}
        np.savez(folder / "small.npz", **images, **labels)

    return make_once("data", fill) / "small.npz"


@pytest.fixture(scope="session")
def models(make_once: Callable[..., Path], small_data: Path, run_in: Callable[..., None]) -> Path:
    """A folder with a small vae.safetensors, ae.safetensors and dae.safetensors of 2, 4 and 32 latent dimensions."""

    def fill(folder: Path) -> None:
        for model, latent_dim, hidden in (("ae", "4", "64,32"), ("dae", "32", "200"), ("vae", "2", "64,32")):
            sizes = ("--latent", latent_dim, "--hidden", hidden)
            run_in(folder, "train", model, *sizes, "--data", str(small_data), "--epochs", "20")

    return make_once("models", fill)


@pytest.fixture
def vae(models: Path) -> Path:
    return models / "vae.safetensors"


@pytest.fixture
def dae(models: Path) -> Path:
    return models / "dae.safetensors"


@pytest.fixture
def ae(models: Path) -> Path:
    return models / "ae.safetensors"


def pytest_configure() -> None:
    """Let torch compute with one thread, for several tests run at once, and their networks are too small for threads."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the slowest tests, so that no worker is left with one of them in the end."""
    slow = ("test_docs", "test_resume", "test_examples", "test_interruptions", "test_on_ray")
    items.sort(key=lambda item: not any(name in item.nodeid for name in slow))


@pytest.fixture
def without(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """The variables with which a new process cannot import a module."""

    def hide(module: str) -> dict[str, str]:
        (tmp_path / "hidden").mkdir()
        (tmp_path / "hidden" / f"{module}.py").write_text(f"raise ModuleNotFoundError('hidden', name={module!r})")
        return {"PYTHONPATH": os.pathsep.join([str(tmp_path / "hidden"), os.environ.get("PYTHONPATH", "")])}

    return hide
