"""Ways to call vaectl as a shell does, and to look at what it said."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread, Timer

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaectl import checkpoint, networks
from vaectl.checkpoint import Card, Checkpoint
from vaectl.latents import LatentStatistics

VAECTL = Path(sys.executable).with_name("vaectl")

Result = subprocess.CompletedProcess[bytes]


def environment(buffering: str = "buffered") -> dict[str, str]:
    """This environment without the variables that vaectl reads, and with Python's streams as asked."""
    own = ("VAECTL_CHECKPOINT", "VAECTL_DEVICE", "VAECTL_DEBUG", "PYTHONUNBUFFERED", "OPENBLAS_NUM_THREADS")
    kept = {name: value for name, value in os.environ.items() if name not in own}
    # Several tests run at once, and their networks are too small for threads.
    kept["OMP_NUM_THREADS"] = "1"
    return kept | ({"PYTHONUNBUFFERED": "1"} if buffering == "unbuffered" else {})


class Nursery:
    """Where calls of vaectl are forked from a process that has done its imports; `torch` among them or not."""

    def __init__(self, torch: bool) -> None:
        own, other = socket.socketpair()
        command = [sys.executable, str(Path(__file__).with_name("nursery.py")), *(["torch"] if torch else [])]
        self.process = subprocess.Popen(command, stdin=other.fileno(), env=environment())
        other.close()
        self.socket = own
        self.answers = own.makefile("rb")

    def call(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        input: bytes = b"",
        memory: int = 0,
        timeout: float = 120,
        number: signal.Signals = signal.SIGKILL,
        **variables: str,
    ) -> Result:
        """Call vaectl; it may have so many bytes of `memory` more than it begins with, where that is not 0.

        After `timeout` seconds it gets the signal `number`.
        """
        asked = {"arguments": arguments, "cwd": str(cwd), "environment": environment() | variables, "memory": memory}
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            reading, writing = os.pipe()
            socket.send_fds(self.socket, [json.dumps(asked).encode()], [reading, out.fileno(), err.fileno()])
            os.close(reading)
            process = int(self.answers.readline())
            feeder = Thread(target=feed, args=(writing, input))
            feeder.start()
            timer = Timer(timeout, os.kill, (process, number))
            timer.start()
            code = int(self.answers.readline())
            timer.cancel()
            feeder.join()
            out.seek(0)
            err.seek(0)
            return Result(["vaectl", *arguments], code, out.read(), err.read())

    def close(self) -> None:
        """End it."""
        self.answers.close()
        self.socket.close()
        self.process.wait()


def feed(pipe: int, data: bytes) -> None:
    """Write the data into a pipe, as far as somebody reads it."""
    with suppress(BrokenPipeError), open(pipe, "wb", buffering=0) as stream:
        while data:
            data = data[stream.write(data) :]


def one_line(result: Result, *words: str) -> str:
    """The one line that an error is, in which each of the words stands; nothing came on stdout."""
    text = result.stderr.decode()
    assert text.count("\n") == 1 and text.endswith("\n"), text
    assert "Traceback" not in text
    assert not result.stdout
    for word in words:
        assert word in text, f"{word!r} is not in {text!r}"
    return text


def contents(folder: Path) -> dict[str, bytes | int]:
    """Every file under a folder, with its bytes, or its kind where it is none."""
    found: dict[str, bytes | int] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        regular = stat.S_ISREG(status.st_mode)
        found[os.fsdecode(path.relative_to(folder))] = path.read_bytes() if regular else stat.S_IFMT(status.st_mode)
    return found


def write_png(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """A picture file of (H, W) or (H, W, 3) bytes, or (H, W, 1)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).save(path)
    return path


def rewritten(path: Path, change: object, key: str = "vaectl") -> None:
    """Change the JSON under `key` in a safetensors file, or its header."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    values = json.loads(header["__metadata__"][key])
    assert callable(change)
    change(values, header)
    if key in header.get("__metadata__", {}):
        header["__metadata__"][key] = json.dumps(values)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def idx(array: NDArray[np.uint8]) -> bytes:
    """The format in which MNIST and its kin are stored."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def tiny_checkpoint(path: Path) -> Path:
    """A checkpoint of a vae with pictures of 2 x 2 and one dimension."""
    network = networks.mlp((2, 2, 1), 1, [2], variational=True)
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in network.tensors().items()}
    spread = LatentStatistics([0.0], [1.0], [-2.0], [2.0])
    card = Card("vae", network, "crop", "bernoulli", None, 1.0, [], spread, {}, {}, {}, [], {})
    checkpoint.save(str(path), Checkpoint(card, tensors))
    return path
