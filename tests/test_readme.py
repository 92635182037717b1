"""The README's commands do what it says, typed one after another in one folder."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from support import Result, write_png

from vaectl import cli

Call = Callable[..., Result]
README = Path(__file__).parents[1] / "README.md"


def commands() -> list[str]:
    """The lines of all bash blocks, but for the installation, which CI runs as it stands."""
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if not line.startswith("pip install")]


def test_every_verb_is_documented() -> None:
    assert all(re.search(rf"^vaectl {verb}\b|\| vaectl {verb}\b", "\n".join(commands()), re.MULTILINE) for verb in cli.VERBS)


def test_the_commands_run(shell: Call, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "img.png", digits[0])
    write_png(tmp_path / "other.png", digits[1])
    for index in range(3):
        write_png(tmp_path / "pictures" / f"{index}.png", digits[index])
    np.savez(tmp_path / "digits.npz", x_train=digits, x_test=digits[:8])
    photograph = np.asarray(Image.radial_gradient("L").convert("RGB").resize((90, 80)))
    for name in ("photos/1.png", "photos/2.png", "noisy/1.png", "marked.png", "logo.png"):
        write_png(tmp_path / name, photograph)
    for line in commands():
        # A short training of a small network shows the same as a long one.
        small = "--epochs 1 --hidden 4,4 --size 32 --batch-size 256" if "--net unet" in line else "--epochs 1 --hidden 16"
        quick = f"{line} {small}" if line.startswith("vaectl train") else line
        result = shell(f"set -o pipefail; {quick}")
        assert result.returncode == 0, f"{quick}\n{result.stderr.decode()}"


def test_the_python_lines_run(shell: Call, tmp_path: Path, vae: Path, digits: NDArray[np.uint8]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "vae.safetensors").write_bytes(vae.read_bytes())
    np.save(tmp_path / "pictures.npy", digits[..., 0])
    (tmp_path / "lines.py").write_text(
        f"import numpy\npictures = numpy.load('pictures.npy')\n{block}\nassert mu.shape == (64, 2)\n"
    )
    result = shell("python lines.py")
    assert result.returncode == 0, result.stderr.decode()
