"""Helpers that call vaectl as a shell does, inspect the result, and make test files."""

import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread, Timer
from time import perf_counter
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaectl.models import checkpoint
from vaectl.models.checkpoint import Card, Checkpoint
from vaectl.models.latents import LatentStats
from vaectl.models.mixture import Mixture
from vaectl.models.network import build_mlp

VAECTL = Path(sys.executable).with_name("vaectl")
FIXTURES = Path(__file__).parent / "fixtures"

Result = subprocess.CompletedProcess[bytes]


class MeasuredResult(Result):
    """The result of a call, the seconds that it took, of CPU time too, and the most bytes of memory that it had resident."""

    def __init__(self, result: Result, seconds: float, cpu_seconds: float, memory_bytes: int) -> None:
        super().__init__(result.args, result.returncode, result.stdout, result.stderr)
        self.seconds = seconds
        self.cpu_seconds = cpu_seconds
        self.memory_bytes = memory_bytes


def environment(buffering: str = "buffered") -> dict[str, str]:
    """The environment without the variables that vaectl reads; Python's streams are "buffered" or "unbuffered"."""
    own = ("VAECTL_CHECKPOINT", "VAECTL_DEVICE", "VAECTL_DEBUG", "PYTHONUNBUFFERED", "OPENBLAS_NUM_THREADS")
    kept = {name: value for name, value in os.environ.items() if name not in own}
    # Several tests run at once, and their networks are too small for threads.
    kept["OMP_NUM_THREADS"] = "1"
    return kept | ({"PYTHONUNBUFFERED": "1"} if buffering == "unbuffered" else {})


NO_LIMITS = {"memory": 0, "cpu_seconds": 0}


class ForkServer:
    """Calls vaectl in forks of a process that has done its imports, with or without those that need `torch`.

    `launcher` is a command that starts another program, as `env` does, with fewer rights for example.
    """

    def __init__(self, torch: bool, launcher: Sequence[str] = ()) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.address = str(Path(self.folder.name) / "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen()
            descriptor = listener.fileno()
            arguments = [*(["torch"] if torch else []), str(descriptor)]
            command = [*launcher, sys.executable, str(Path(__file__).with_name("fork_server.py")), *arguments]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment(), pass_fds=[descriptor])
        self.connection = Connection(self.address)

    def call(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        input: bytes = b"",
        memory: int = 0,
        cpu_seconds: int = 0,
        timeout: float = 120,
        number: signal.Signals = signal.SIGKILL,
        **variables: str,
    ) -> MeasuredResult:
        """Call vaectl. If not 0, `memory` limits how many more bytes it may use than it starts with, `cpu_seconds` its CPU time.

        After `timeout` seconds it receives the signal `number`.
        """
        limits = {"memory": memory, "cpu_seconds": cpu_seconds}
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            reading, writing = os.pipe()
            streams = [reading, out.fileno(), err.fileno()]
            process = self.connection.start(arguments, cwd, streams, limits, variables)
            os.close(reading)
            feeder = Thread(target=feed, args=(writing, input))
            feeder.start()
            start = perf_counter()
            ending = self.connection.wait(process, timeout, number)
            seconds = perf_counter() - start
            feeder.join()
            out.seek(0)
            err.seek(0)
            result = Result(["vaectl", *arguments], ending.code, out.read(), err.read())
            return MeasuredResult(result, seconds, ending.cpu_seconds, ending.memory_bytes)

    @contextmanager
    def start(self, arguments: Sequence[str], cwd: Path, **variables: str) -> Iterator["RunningCall"]:
        """Start a call of vaectl, which runs during the block."""
        reading, writing = os.pipe()
        with (
            closing(Connection(self.address)) as connection,
            open(os.devnull, "rb") as nothing,
            tempfile.TemporaryFile() as out,
            open(reading, "rb") as err,
        ):
            process = connection.start(arguments, cwd, [nothing.fileno(), out.fileno(), writing], NO_LIMITS, variables)
            os.close(writing)
            yield RunningCall(process, connection, out, err)

    def close(self) -> None:
        """Stop the server."""
        self.connection.close()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()


class Connection:
    """A connection to a fork server, over which one call runs at a time."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(address)
        self.replies = self.socket.makefile("rb")

    def start(
        self, arguments: Sequence[str], cwd: Path, streams: Sequence[int], limits: dict[str, int], variables: dict[str, str]
    ) -> int:
        """Start a call with these standard streams, and return its process id."""
        request = {"arguments": arguments, "cwd": str(cwd), "environment": environment() | variables, **limits}
        socket.send_fds(self.socket, [json.dumps(request).encode()], streams)
        return int(self.replies.readline())

    def wait(self, process: int, timeout: float, number: signal.Signals = signal.SIGKILL) -> "Ending":
        """Wait for the end of the call; after `timeout` seconds it receives the signal `number`."""
        timer = Timer(timeout, os.kill, (process, number))
        timer.start()
        code, cpu_seconds, kilobytes = self.replies.readline().split()
        timer.cancel()
        return Ending(int(code), float(cpu_seconds), int(kilobytes) << 10)

    def close(self) -> None:
        """Close the connection."""
        self.replies.close()
        self.socket.close()


@dataclass(frozen=True)
class Ending:
    """The exit code of a call, its seconds of CPU time, and the most bytes of memory that it had resident."""

    code: int
    cpu_seconds: float
    memory_bytes: int


@dataclass
class RunningCall:
    """A call of vaectl in a process of its own, whose stderr can be read while it runs."""

    process: int
    connection: Connection
    stdout: IO[bytes]
    stderr: IO[bytes]

    def read_until(self, text: str) -> None:
        """Read lines of stderr until one contains `text`."""
        while text not in (line := self.stderr.readline().decode()):
            assert line, f"the call ended before it printed {text!r}"

    def send_signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        os.kill(self.process, number)

    def finish(self) -> tuple[int, bytes, bytes]:
        """Wait for the exit code; return it with stdout, and what was not read of stderr."""
        code = self.connection.wait(self.process, timeout=60).code
        self.stdout.seek(0)
        return code, self.stdout.read(), self.stderr.read()


def feed(pipe: int, data: bytes) -> None:
    """Write data to a pipe until its reader closes it."""
    with suppress(BrokenPipeError), open(pipe, "wb", buffering=0) as stream:
        while data:
            data = data[stream.write(data) :]


def run_on_terminal(arguments: Sequence[object], cwd: Path, program: object = VAECTL, **variables: str) -> tuple[int, str]:
    """Run a program with a terminal as all its standard streams, and return its exit code and what it wrote."""
    main, terminal = pty.openpty()
    env = environment() | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "30"} | variables
    command = [str(program), *map(str, arguments)]
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, cwd=cwd, env=env)
    os.close(terminal)
    text = b""
    with suppress(OSError):  # raised when the program has closed the terminal
        while more := os.read(main, 4096):
            text += more
    os.close(main)
    return process.wait(timeout=60), text.decode()


def one_line(result: Result, *words: str) -> str:
    """The single line on stderr, which must contain all the words; stdout must be empty."""
    text = result.stderr.decode()
    assert text.count("\n") == 1 and text.endswith("\n"), text
    assert "Traceback" not in text
    assert not result.stdout
    for word in words:
        assert word in text, f"{word!r} is not in {text!r}"
    return text


def contents(folder: Path) -> dict[str, bytes | int]:
    """Everything under a folder by path: the bytes of a regular file, the file type of anything else."""
    found: dict[str, bytes | int] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        regular = stat.S_ISREG(status.st_mode)
        found[os.fsdecode(path.relative_to(folder))] = path.read_bytes() if regular else stat.S_IFMT(status.st_mode)
    return found


def write_png(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """Write an image of (H, W), (H, W, 1) or (H, W, 3) bytes, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).save(path)
    return path


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def png_chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def make_png(
    pixels: NDArray[Any], bits: int, transparent: Sequence[int] = (), *, interlaced: bool = False, exif: bytes = b""
) -> bytes:
    """A PNG of pixels (H, W, channels) of any bit depth, with a transparent color."""
    height, width, channels = pixels.shape
    rows = b""
    for top, left, down, right in ADAM7 if interlaced else ((0, 0, 1, 1),):
        for row in pixels[top::down, left::right]:
            digits = "".join(f"{value:0{bits}b}" for value in row.ravel())
            digits += "0" * (-len(digits) % 8)
            rows += b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big") if digits else b""
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, color_type, 0, 0, interlaced])
    color = b"".join(value.to_bytes(2, "big") for value in transparent)
    chunks = [(b"IHDR", head), (b"tRNS", color), (b"eXIf", exif), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, data) for name, data in chunks if data or name == b"IEND")


# Changes the JSON under a metadata key, or the header, of a safetensors file in place.
Edit = Callable[[dict[str, Any], dict[str, Any]], object]


def edit_safetensors(path: Path, edit: Edit, key: str = "vaectl", source: Path | None = None) -> None:
    """Edit the JSON under `key` in a safetensors file, or its header; given a `source`, write an edited copy of it instead."""
    data = (source or path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    values = json.loads(header["__metadata__"][key])
    edit(values, header)
    if key in header.get("__metadata__", {}):
        header["__metadata__"][key] = json.dumps(values)
    text = json.dumps(header).encode()
    path.unlink(missing_ok=True)  # a file that is truncated is soon written to the disk, and the next test would wait
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def to_idx(array: NDArray[np.uint8]) -> bytes:
    """The array as an IDX file, the format of MNIST."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


TINY_PRIOR = {
    "dims": np.array([0]),
    "weights": np.array([0.25, 0.75], np.float32),
    "means": np.array([[-1], [1]], np.float32),
    "factors": np.array([[[0.5]], [[0.25]]], np.float32),
    "shares": np.array([[1, 0], [0, 1]], np.float32),
}


def write_tiny_checkpoint(path: Path, **prior: NDArray[Any]) -> Path:
    """Write the checkpoint of an untrained VAE with images of 2 x 2 and one latent dimension, and return its path.

    `prior` are arrays of `TINY_PRIOR`, right or wrong; without any, it has no learned prior.
    """
    network = build_mlp((2, 2, 1), 1, [2], variational=True)
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in network.weight_shapes().items()}
    stats = LatentStats([0.0], [1.0], [-2.0], [2.0])
    card = Card("vae", network, "crop", "bernoulli", None, 1.0, [], stats, {}, {}, {}, [], {})
    mixture = Mixture(1, **TINY_PRIOR, labels=("left", "right")) if prior else None
    for name, array in prior.items():
        object.__setattr__(mixture, name, array)  # past its checks, which are what a test is about
    checkpoint.save(str(path), Checkpoint(card, weights, mixture))
    return path


def write_fashion_mnist(folder: Path) -> NDArray[np.uint8]:
    """Write what torchvision would have downloaded; returns the 9 training images, of which the first 2 are for testing."""
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (9, 28, 28), np.uint8)
    for split, part in (("train", images), ("t10k", images[:2])):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(to_idx(part))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(to_idx(np.zeros(len(part), np.uint8)))
    return images
