"""Make the pictures of docs/denoising.md: python docs/denoising_pictures.py PHOTO FOLDER.

PHOTO must be one that the ready-made model has not learned from. Pages and their scans are made in the folder, for a model to
learn from.
"""

import random
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

import vaectl
from vaectl.images.corruption import NumpyRandom, apply_corruptions, parse_corruptions
from vaectl.io.inputs import read_image_file

IMAGES = Path(__file__).with_name("images")
SIDE, GAP = 220, 6
N_PAGES = 24
TEXT = "Noise that nobody can describe is learned from pairs: here a page and its scan, twenty-four times. "

Pixels = NDArray[np.float32]


def crop(photo: Image.Image) -> Pixels:
    """The middle of a photo, (1, SIDE, SIDE, 3)."""
    left, top = (photo.width - SIDE) // 2, (photo.height - SIDE) // 2
    return np.asarray(photo.crop((left, top, left + SIDE, top + SIDE)), np.float32)[np.newaxis] / 255


def table(rows: list[list[Pixels]]) -> Image.Image:
    """Images in rows, on white."""
    height, width = rows[0][0].shape[1:3]
    sheet = Image.new("RGB", (len(rows[0]) * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP), "white")
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            pixels = np.rint(np.broadcast_to(image[0], (height, width, 3)) * 255).astype(np.uint8)
            sheet.paste(Image.fromarray(pixels), (column * (width + GAP), row * (height + GAP)))
    return sheet


def draw_photos(photo: Image.Image) -> None:
    """Three strengths of noise, JPEG, and a phone."""
    model, clean = vaectl.load("photo"), crop(photo)

    def corrupted(*specs: str) -> Pixels:
        result: Pixels = apply_corruptions(parse_corruptions(specs, read_image_file), clean, NumpyRandom(0)).astype(np.float32)
        return result

    noisy = [corrupted(f"gaussian:{sigma / 255:.4f}") for sigma in (15, 25, 50)]
    table([noisy, [model.denoise(image) for image in noisy]]).save(IMAGES / "photo_noise.jpg", quality=92)
    for name, specs in {"photo_jpeg": ("gaussian:0.0392", "jpeg:30"), "photo_camera": ("camera",)}.items():
        image = corrupted(*specs)
        table([[image, model.denoise(image)]]).save(IMAGES / f"{name}.jpg", quality=92)


def draw_page(rng: random.Random) -> Image.Image:
    """A page of text."""
    page = Image.new("L", (440, 300), 255)
    draw, top = ImageDraw.Draw(page), 12
    while top < 270:
        size = rng.choice((13, 15, 18, 24))
        draw.text((16, top), (TEXT * 2)[rng.randrange(len(TEXT)) :], rng.randrange(60), ImageFont.load_default(size))
        top += round(size * 1.5)
    return page


def scan(page: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A bad scan: a shadow, a fold, coffee, blur and dust."""
    height, width = page.height, page.width
    pixels = np.asarray(page.filter(ImageFilter.GaussianBlur(0.7)), np.float32)
    down, across = np.mgrid[:height, :width]
    shade = 200 + 40 * np.sin(across / width * 3 + rng.uniform(0, 6)) - 60 * np.exp(-np.abs(across - rng.uniform(0, width)) / 4)
    center, radius = rng.uniform((0, 0), (height, width)), rng.uniform(40, 90)
    distance = np.hypot(down - center[0], across - center[1])
    shade = shade - 45 * np.exp(-np.abs(distance - radius) / 5)
    dust = rng.random((height, width)) < 0.004
    noisy = np.where(dust, 60, pixels * shade / 255 + rng.normal(0, 12, pixels.shape))
    return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


def draw_scans(folder: Path) -> None:
    """A page that was held out, its scan, and what a model that learned from pairs makes of it."""
    rng = np.random.default_rng(0)
    for part in ("clean", "scans"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(N_PAGES):
        page = draw_page(random.Random(number))
        page.save(folder / "clean" / f"{number}.png")
        scan(page, rng).save(folder / "scans" / f"{number}.png")
    model = vaectl.train("dae", folder / "clean", noisy=folder / "scans", net="unet", epochs=2)
    page = draw_page(random.Random(1000))
    bad = scan(page, rng)
    pixels = [np.asarray(image, np.float32)[np.newaxis, :, :, np.newaxis] / 255 for image in (page, bad)]
    table([[*pixels, model.denoise(pixels[1])]]).save(IMAGES / "photo_scan.png", optimize=True)


if __name__ == "__main__":
    draw_photos(Image.open(sys.argv[1]).convert("RGB"))
    draw_scans(Path(sys.argv[2]))
