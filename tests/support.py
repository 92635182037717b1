"""Ways to call vaectl as a shell does, and to look at what it said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

VAECTL = Path(sys.executable).with_name("vaectl")

Result = subprocess.CompletedProcess[bytes]


def environment(buffering: str = "buffered") -> dict[str, str]:
    """This environment without the variables that vaectl reads, and with Python's streams as asked."""
    own = ("VAECTL_CHECKPOINT", "VAECTL_DEVICE", "VAECTL_DEBUG", "PYTHONUNBUFFERED", "OPENBLAS_NUM_THREADS")
    kept = {name: value for name, value in os.environ.items() if name not in own}
    # Several tests run at once, and their networks are too small for threads.
    kept["OMP_NUM_THREADS"] = "1"
    return kept | ({"PYTHONUNBUFFERED": "1"} if buffering == "unbuffered" else {})


def one_line(result: Result, *words: str) -> str:
    """The one line that an error is, in which each of the words stands; nothing came on stdout."""
    text = result.stderr.decode()
    assert text.count("\n") == 1 and text.endswith("\n"), text
    assert "Traceback" not in text
    assert not result.stdout
    for word in words:
        assert word in text, f"{word!r} is not in {text!r}"
    return text


def write_png(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """A picture file of (H, W) or (H, W, 3) bytes, or (H, W, 1)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).save(path)
    return path


def run_in(folder: Path, *arguments: str) -> None:
    """Call vaectl in `folder`, where it must succeed."""
    result = subprocess.run([str(VAECTL), *arguments], capture_output=True, cwd=folder, env=environment(), timeout=120)
    assert result.returncode == 0, result.stderr.decode()


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
