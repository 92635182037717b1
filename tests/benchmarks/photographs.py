"""PSNR of photographs with noise of sigma 25/255, mended by a unet, by non-local means and by BM3D.

pip install scikit-image bm3d
python tests/benchmarks/photographs.py TRAINING-FOLDER TEST-FOLDER [options of vaectl train]

The noise is clipped to the range of pixels, and all methods see the same pictures. Non-local means is given the true sigma, and
the best of several strengths and patch sizes by the PSNR itself.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from bm3d import bm3d_rgb
from measure import VAECTL, measure
from numpy.typing import NDArray
from PIL import Image
from skimage.restoration import denoise_nl_means

import vaectl

SIGMA = 25 / 255
Array = NDArray[np.float32]


def psnr(pictures: list[Array], clean: list[Array]) -> float:
    """The mean PSNR of the pictures, dB."""
    return float(np.mean([-10 * np.log10(np.square(a.clip(0, 1) - b).mean()) for a, b in zip(pictures, clean, strict=True)]))


def main(training: str, test: str, options: list[str]) -> None:
    clean = [np.asarray(Image.open(path).convert("RGB"), np.float32) / 255 for path in sorted(Path(test).iterdir())]
    rng = np.random.default_rng(0)
    noisy = [(picture + SIGMA * rng.standard_normal(picture.shape, np.float32)).clip(0, 1) for picture in clean]
    print(f"{'noisy':<28}{psnr(noisy, clean):7.2f} dB", flush=True)
    for name, seconds, found in mended(noisy, os.path.abspath(training), options, clean):
        print(f"{name:<28}{found:7.2f} dB  {seconds:6.1f} s", flush=True)


def mended(noisy: list[Array], training: str, options: list[str], clean: list[Array]) -> Iterator[tuple[str, float, float]]:
    """Each method's name, the seconds it took, and its PSNR."""
    with tempfile.TemporaryDirectory() as folder:
        unet = ["--net", "unet", "--data", training, "--corrupt", f"gaussian:{SIGMA}", *options]
        found = measure([VAECTL, "train", "dae", *unet], Path(folder))
        print(f"{'vaectl train':<28}{found.seconds:17.1f} s  {found.megabytes:.0f} MB", flush=True)
        model = vaectl.load(f"{folder}/dae.safetensors")
    start = time.perf_counter()
    own = psnr([model.denoise(picture)[0] for picture in noisy], clean)
    yield "vaectl denoise", time.perf_counter() - start, own
    best, best_seconds, best_name = 0.0, 0.0, ""
    for strength, patch in product((0.3, 0.4, 0.5, 0.6), (3, 5, 7)):
        start = time.perf_counter()
        settings = {"h": strength * SIGMA, "sigma": SIGMA, "patch_size": patch, "patch_distance": 9}
        found_psnr = psnr([denoise_nl_means(picture, **settings, channel_axis=-1) for picture in noisy], clean)
        if found_psnr > best:
            best, best_seconds, best_name = found_psnr, time.perf_counter() - start, f"non-local means {strength}, {patch}"
    yield best_name, best_seconds, best
    start = time.perf_counter()
    found_psnr = psnr([bm3d_rgb(picture, SIGMA) for picture in noisy], clean)
    yield "BM3D", time.perf_counter() - start, found_psnr


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
