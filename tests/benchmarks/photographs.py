"""PSNR of photos with noise of sigma 25/255, denoised by a unet, by non-local means and by BM3D.

pip install scikit-image bm3d
python tests/benchmarks/photographs.py TRAINING-FOLDER TEST-FOLDER [options of vaectl train]

Noisy pixels are clipped to [0, 1], and all methods get the same images. Non-local means and BM3D are given the true sigma;
non-local means also gets the strength and patch size with the best PSNR on the test images.
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


def psnr(images: list[Array], clean: list[Array]) -> float:
    """The mean PSNR of the images, in dB."""
    return float(np.mean([-10 * np.log10(np.square(a.clip(0, 1) - b).mean()) for a, b in zip(images, clean, strict=True)]))


def main(training: str, test: str, options: list[str]) -> None:
    clean = [np.asarray(Image.open(path).convert("RGB"), np.float32) / 255 for path in sorted(Path(test).iterdir())]
    rng = np.random.default_rng(0)
    noisy = [(image + SIGMA * rng.standard_normal(image.shape, np.float32)).clip(0, 1) for image in clean]
    print(f"{'noisy':<28}{psnr(noisy, clean):7.2f} dB", flush=True)
    for name, seconds, result in run_methods(noisy, os.path.abspath(training), options, clean):
        print(f"{name:<28}{result:7.2f} dB  {seconds:6.1f} s", flush=True)


def run_methods(noisy: list[Array], training: str, options: list[str], clean: list[Array]) -> Iterator[tuple[str, float, float]]:
    """Each method's name, the seconds it took, and its PSNR."""
    with tempfile.TemporaryDirectory() as folder:
        unet = ["--net", "unet", "--data", training, "--corrupt", f"gaussian:{SIGMA}", *options]
        training_run = measure([VAECTL, "train", "dae", *unet], Path(folder))
        print(f"{'vaectl train':<28}{training_run.seconds:17.1f} s  {training_run.megabytes:.0f} MB", flush=True)
        model = vaectl.load(f"{folder}/dae.safetensors")
    start = time.perf_counter()
    result = psnr([model.denoise(image)[0] for image in noisy], clean)
    yield "vaectl denoise", time.perf_counter() - start, result
    best, best_seconds, best_name = 0.0, 0.0, ""
    for strength, patch in product((0.3, 0.4, 0.5, 0.6), (3, 5, 7)):
        start = time.perf_counter()
        settings = {"h": strength * SIGMA, "sigma": SIGMA, "patch_size": patch, "patch_distance": 9}
        result = psnr([denoise_nl_means(image, **settings, channel_axis=-1) for image in noisy], clean)
        if result > best:
            best, best_seconds, best_name = result, time.perf_counter() - start, f"non-local means {strength}, {patch}"
    yield best_name, best_seconds, best
    start = time.perf_counter()
    result = psnr([bm3d_rgb(image, SIGMA) for image in noisy], clean)
    yield "BM3D", time.perf_counter() - start, result


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
