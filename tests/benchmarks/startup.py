"""Seconds and memory of the verbs that should start at once, beside those of `import torch`, in turn.

python tests/benchmarks/startup.py [RUNS]
"""

import sys
import tempfile
from pathlib import Path

from measure import VAECTL, Measured, measure, median_seconds
from PIL import Image

COMPLETION = ("_VAECTL_COMPLETE=complete_bash", "COMP_WORDS=vaectl train vae --", "COMP_CWORD=3")


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Made here, small: a child's memory is never accounted below its parent's.
        Image.radial_gradient("L").resize((28, 28)).save(folder / "img.png")
        measure([VAECTL, "train", "vae", "--latent", "2", "--epochs", "1"], folder)
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            "vaectl --help": [VAECTL, "--help"],
            "vaectl encode img.png > z.npy": [VAECTL, "encode", "img.png", "-o", "-"],
            "vaectl grid -o latent.png": [VAECTL, "grid", "-o", "latent.png"],
            "vaectl sample -n 64 -o z.npy": [VAECTL, "sample", "-n", "64", "-o", "z.npy"],
            "vaectl decode z.npy -o sheet.png": [VAECTL, "decode", "z.npy", "-o", "sheet.png"],
            "vaectl interpolate z.npy": [VAECTL, "interpolate", "z.npy", "-o", "walk.npy"],
            "completion of vaectl train vae --": ["env", *COMPLETION, VAECTL],
        }
        found: dict[str, list[Measured]] = {label: [] for label in commands}
        for _ in range(runs):
            for label, command in commands.items():
                found[label].append(measure(command, folder))
    torch_seconds = median_seconds(found["import torch"])
    for label, measured in found.items():
        seconds = median_seconds(measured)
        megabytes = max(run.megabytes for run in measured)
        print(f"{label:<35}{seconds:6.3f} s  1/{torch_seconds / seconds:<5.1f}{megabytes:7.0f} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
