"""Time and memory of the commands that should start at once, compared with `import torch`, in turn in one run.

python tests/benchmarks/startup.py [RUNS] [--against VAECTL]

Another vaectl, such as that of an earlier version, is measured in turn with this one; the ratio of their times is printed.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from measure import VAECTL, Measurement, measure, median_seconds
from PIL import Image

COMPLETION = ("_VAECTL_COMPLETE=complete_bash", "COMP_WORDS=vaectl train vae --", "COMP_CWORD=3")


def make_commands(vaectl: str) -> dict[str, list[str]]:
    """The commands by name, for one executable."""
    return {
        "vaectl --help": [vaectl, "--help"],
        "vaectl encode img.png > z.npy": [vaectl, "encode", "img.png", "-o", "-"],
        "vaectl grid -o latent.png": [vaectl, "grid", "-o", "latent.png"],
        "vaectl sample -n 64 -o z.npy": [vaectl, "sample", "-n", "64", "-o", "z.npy"],
        "vaectl decode z.npy -o sheet.png": [vaectl, "decode", "z.npy", "-o", "sheet.png"],
        "vaectl interpolate z.npy": [vaectl, "interpolate", "z.npy", "-o", "walk.npy"],
        "completion of vaectl train vae --": ["env", *COMPLETION, vaectl],
    }


def prepare_folder(folder: Path, vaectl: str) -> None:
    """Make the image and the checkpoint that the commands read, with the executable that will read them."""
    folder.mkdir()
    # This process must stay small: a child's peak memory is never reported below its parent's.
    Image.radial_gradient("L").resize((28, 28)).save(folder / "img.png")
    measure([vaectl, "train", "vae", "--latent", "2", "--epochs", "1"], folder)


def main(runs: int, against: str | None) -> None:
    executables = [VAECTL, *([against] if against else [])]
    import_torch: list[Measurement] = []
    measured: dict[str, list[list[Measurement]]] = {name: [[] for _ in executables] for name in make_commands("")}
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(index) for index in range(len(executables))]
        for vaectl, folder in zip(executables, folders, strict=True):
            prepare_folder(folder, vaectl)
        for _ in range(runs):
            import_torch.append(measure([sys.executable, "-c", "import torch"], folders[0]))
            for label, measurements in measured.items():
                for vaectl, folder, each in zip(executables, folders, measurements, strict=True):
                    each.append(measure(make_commands(vaectl)[label], folder))
    torch_seconds = median_seconds(import_torch)
    print(f"{'import torch':<35}{describe(import_torch, torch_seconds)}")
    for label, (own, *others) in measured.items():
        print(f"{label:<35}{describe(own, torch_seconds)}")
        for other in others:
            ratio = median_seconds(own) / median_seconds(other)
            print(f"{'  the other':<35}{describe(other, torch_seconds)}  time ratio {ratio:.2f}")


def describe(measurements: list[Measurement], torch_seconds: float) -> str:
    """The median time, the fraction of `import torch` that it is, and the peak memory."""
    seconds = median_seconds(measurements)
    return f"{seconds:6.3f} s  1/{torch_seconds / seconds:<5.1f}{max(each.megabytes for each in measurements):7.0f} MB"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", metavar="RUNS", nargs="?", type=int, default=9)
    parser.add_argument("--against", metavar="VAECTL", type=os.path.abspath, help="another vaectl to compare with")
    arguments = parser.parse_args()
    main(arguments.runs, arguments.against)
