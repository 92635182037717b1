"""Images per second and memory of `vaectl encode FOLDER`, compared with two threads of Pillow that only decode and resize.

python tests/benchmarks/folder.py FOLDER CHECKPOINT [RUNS]

The folder should hold some thousand JPEGs. Memory is measured on twice as many images, and on a tenth of that.
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


def decode(path: Path, size: tuple[int, int]) -> int:
    """Decode and resize one image with Pillow."""
    with Image.open(path) as image:
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS).width


def megabytes(paths: list[Path], times: int, folder: Path, checkpoint: Path) -> float:
    """The peak memory of encoding a folder that contains each image so many times."""
    for copy in range(times):
        (folder / str(copy)).mkdir(parents=True)
        for path in paths:
            os.symlink(path, folder / str(copy) / path.name)
    return measure([VAECTL, "encode", str(folder), "-c", str(checkpoint), "-o", f"{folder}.npy"], folder).megabytes


def main(folder: Path, checkpoint: Path, runs: int) -> None:
    height, width, _ = vaectl.load(checkpoint).image_shape
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    pillow_rates, vaectl_rates = [], []
    with tempfile.TemporaryDirectory() as name:
        encode = [VAECTL, "encode", str(folder), "-c", str(checkpoint), "-o", f"{name}/z.npy"]
        for _ in range(runs):
            start = time.perf_counter()
            with ThreadPoolExecutor(2) as pool:
                for _ in pool.map(lambda path: decode(path, (width, height)), paths):
                    pass
            pillow_rates.append(len(paths) / (time.perf_counter() - start))
            vaectl_rates.append(len(paths) / measure(encode, Path(name)).seconds)
        memory = [megabytes(paths[::step], 2, Path(name) / str(step), checkpoint) for step in (1, 10)]
    pillow, rate = statistics.median(pillow_rates), statistics.median(vaectl_rates)
    print(f"two threads of Pillow        {pillow:8.0f} images/s")
    print(f"vaectl encode                {rate:8.0f} images/s  {rate / pillow:.0%}")
    print(f"memory for {2 * len(paths):>7} images     {memory[0]:8.1f} MB")
    print(f"memory for {2 * len(paths) // 10:>7} images     {memory[1]:8.1f} MB  {memory[0] / memory[1]:.1%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), int(sys.argv[3]) if len(sys.argv) > 3 else 3)
