"""Pictures a second and memory of `vaectl encode FOLDER`, beside two threads that decode and resize them with Pillow alone.

python tests/benchmarks/folder.py FOLDER CHECKPOINT [RUNS]

The folder's JPEGs should be some thousands. Memory is that of as many, and of a tenth of them.
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
            found = measure(encode, Path(name))
            own.append((len(paths) / found.seconds, found.megabytes))
        few = Path(name) / "few"
        few.mkdir()
        for path in paths[::10]:
            os.symlink(path.resolve(), few / path.name)
        small = measure([VAECTL, "encode", str(few), "-c", str(checkpoint), "-o", f"{name}/few.npy"], Path(name))
    plain, rate = statistics.median(pillow), statistics.median(rate for rate, _ in own)
    memory = statistics.median(megabytes for _, megabytes in own)
    print(f"two threads of Pillow        {plain:8.0f} pictures/s")
    print(f"vaectl encode                {rate:8.0f} pictures/s  {rate / plain:.0%}")
    print(f"memory for {len(paths):>7} pictures   {memory:8.1f} MB")
    print(f"memory for {len(paths) // 10:>7} pictures   {small.megabytes:8.1f} MB  {memory / small.megabytes:.1%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 3)
