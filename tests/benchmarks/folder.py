"""Pictures a second and memory of `vaectl encode FOLDER`, beside two threads that decode and resize them with Pillow alone.

python tests/benchmarks/folder.py FOLDER CHECKPOINT [RUNS]

The folder's JPEGs should be some thousands. Memory is that of twice as many, and of a tenth of these.
"""

import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure import VAECTL, measure
from PIL import Image

import vaectl


def decoded(path: Path, size: tuple[int, int]) -> int:
    """Decode and resize one picture, as a few lines of Pillow do."""
    with Image.open(path) as image:
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS).width


def megabytes(paths: list[Path], times: int, folder: Path, checkpoint: Path) -> float:
    """The memory of encoding a folder in which each picture stands so many times."""
    for copy in range(times):
        (folder / str(copy)).mkdir(parents=True)
        for path in paths:
            os.symlink(path, folder / str(copy) / path.name)
    return measure([VAECTL, "encode", str(folder), "-c", str(checkpoint), "-o", f"{folder}.npy"], folder).megabytes


def main(folder: Path, checkpoint: Path, runs: int) -> None:
    height, width, _ = vaectl.load(checkpoint).picture
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    pillow, own = [], []
    with tempfile.TemporaryDirectory() as name:
        encode = [VAECTL, "encode", str(folder), "-c", str(checkpoint), "-o", f"{name}/z.npy"]
        for _ in range(runs):
            start = time.perf_counter()
            with ThreadPoolExecutor(2) as pool:
                for _ in pool.map(lambda path: decoded(path, (width, height)), paths):
                    pass
            pillow.append(len(paths) / (time.perf_counter() - start))
            own.append(len(paths) / measure(encode, Path(name)).seconds)
        memory = [megabytes(paths[::step], 2, Path(name) / str(step), checkpoint) for step in (1, 10)]
    plain, rate = statistics.median(pillow), statistics.median(own)
    print(f"two threads of Pillow        {plain:8.0f} pictures/s")
    print(f"vaectl encode                {rate:8.0f} pictures/s  {rate / plain:.0%}")
    print(f"memory for {2 * len(paths):>7} pictures   {memory[0]:8.1f} MB")
    print(f"memory for {2 * len(paths) // 10:>7} pictures   {memory[1]:8.1f} MB  {memory[0] / memory[1]:.1%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), int(sys.argv[3]) if len(sys.argv) > 3 else 3)
