"""Train the ready-made denoiser, `photo`; vaectl/data/CREDITS-photo.md says how the weights in the package were trained.

pip install scikit-image
python recipes/photo.py PHOTOS --epochs 17 --lr 0.0017 [options of vaectl train, such as --resume]
python recipes/photo.py PHOTOS --from photo --epochs 60 --lr 0.0008 --precision bf16
python recipes/photo.py PHOTOS experts --epochs 14 --lr 0.0006 --precision bf16
python recipes/photo.py PHOTOS rest --epochs 20 --lr 0.0006 --precision bf16

The third command trains an expert for each noise range below, from photo.safetensors, and adds them to that file. The last one
trains the weights for all other photos: JPEG, phones, and hardly any noise.

PHOTOS is the folder with the photographs named in vaectl/data/CREDITS-photo.md. They are used at a half to a tenth of their size:
large photographs are smooth from pixel to pixel, the smaller ones of users are not. Few photographs have few textures, so their
most detailed parts are used again, sharpened and in other colors. The training images also include public-domain images from
scikit-image, pages of text and line drawings, and "dead leaves": random shapes that cover each other.
"""

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from subprocess import run

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from vaectl.images.noise import Expert
from vaectl.models import checkpoint

REDUCTIONS = (2, 2.5, 3, 4, 5, 6, 8, 10)
CRISP_REDUCTIONS = (3, 4, 5, 6, 8, 10)
GRAY_ONE_IN = 8
# In the public domain or CC0, as skimage.data says; the noisy ones only at half their size.
PUBLIC_DOMAIN = {
    "astronaut.png": (1, 2), "brick.png": (1, 2), "camera.png": (1, 2), "chelsea.png": (2,), "coffee.png": (1, 2),
    "grass.png": (1, 2), "gravel.png": (1, 2), "retina.jpg": (2,), "rocket.jpg": (2,),
}  # fmt: skip
TILE = 128
N_TILES = 5  # of a crisp image, those with the most detail
N_DRAWINGS = 8
N_DEAD_LEAVES = 48
LEAVES_SIDE = 256
# Most images have noise, of any strength up to 55 of 255 or as from a phone; JPEG comes before, after, or not at all. One in
# seven has no noise, so that the model leaves clean photographs unchanged.
CORRUPT = ("camera@0.08", "jpeg:20-95@0.08", "gaussian:0-0.216@0.85", "jpeg:20-95@0.25")
# The estimated noise for which each expert is used, and what it learns: a wider range, because estimates are slightly off.
# Hardly any JPEG: noise that has been through it does not count. Below 0.017, some sharp photos without noise would be smoothed.
EXPERTS = (
    (0.017, 0.075, ("gaussian:0.015-0.085@0.98",)),
    (0.075, 0.13, ("gaussian:0.07-0.14@0.97", "jpeg:80-95@0.04")),
    (0.13, 0.25, ("gaussian:0.12-0.22@0.97", "jpeg:80-95@0.04")),
)

# What is left to the other weights where experts take white noise.
REST = ("camera@0.25", "gaussian:0.004-0.018@0.25", "gaussian:0-0.216@0.35", "jpeg:20-80@0.35", "jpeg:75-99@0.35")

Pixels = NDArray[np.float32]  # (H, W, 3), 0 to 255


def training_images(folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """Each training image, with its name."""
    rng = random.Random(0)
    photos = {path.stem: Image.open(path).convert("RGB") for path in sorted(folder.glob("*.jpg"))}
    smallest = [shrink(photo, CRISP_REDUCTIONS[-1]) for photo in photos.values()]
    for name, photo in photos.items():
        for reduction in REDUCTIONS:
            yield f"{name}-{reduction}", shrink(photo, reduction)
        for reduction in CRISP_REDUCTIONS:
            for index, tile in enumerate(most_detailed(crisp(shrink(photo, reduction), rng))):
                is_gray = rng.randrange(GRAY_ONE_IN) == 0
                yield f"{name}-{reduction}-crisp-{index}", tile.convert("L") if is_gray else tile
    for name, reductions in PUBLIC_DOMAIN.items():
        file = Image.open(str(files("skimage") / "data" / name))
        image = file.convert("L" if file.mode == "L" else "RGB")
        for reduction in reductions:
            yield f"{Path(name).stem}-{reduction}", shrink(image, reduction)
    for seed in range(N_DRAWINGS):
        yield f"drawing-{seed}", draw_page(random.Random(seed))
    for seed in range(N_DEAD_LEAVES):
        yield f"leaves-{seed}", draw_leaves(np.random.default_rng(seed), smallest)


def shrink(image: Image.Image, reduction: float) -> Image.Image:
    """The image at a fraction of its size."""
    return image.resize((round(image.width / reduction), round(image.height / reduction)), Image.Resampling.LANCZOS)


def crisp(image: Image.Image, rng: random.Random) -> Image.Image:
    """The image with more contrast, sharper edges and other colors, as cameras and editors make it."""
    image = Image.merge("RGB", rng.sample(image.split(), 3))
    image = ImageEnhance.Color(image).enhance(rng.uniform(0.3, 1.5))
    image = ImageOps.autocontrast(image, cutoff=rng.uniform(0.5, 4))
    return image.filter(ImageFilter.UnsharpMask(rng.uniform(0.5, 1.2), rng.randrange(30, 180), 0))


def most_detailed(image: Image.Image) -> list[Image.Image]:
    """The tiles with the largest differences between neighboring pixels."""
    corners = [(x, y) for x in range(0, image.width - TILE + 1, TILE) for y in range(0, image.height - TILE + 1, TILE)]
    tiles = [image.crop((x, y, x + TILE, y + TILE)) for x, y in corners]
    return sorted(tiles, key=lambda tile: -float(np.abs(np.diff(np.asarray(tile.convert("L"), np.float32))).mean()))[:N_TILES]


def draw_leaves(rng: np.random.Generator, palettes: list[Image.Image]) -> Image.Image:
    """Discs and polygons that cover each other, of all sizes, in the colors of a photograph and with textures.

    Such "dead leaves" have the edges and the spectrum of photographs, without a copyright (Lee, Mumford & Huang 2001).
    """
    side = 2 * LEAVES_SIDE
    palette = np.asarray(palettes[rng.integers(len(palettes))], np.float32).reshape(-1, 3)
    canvas = np.empty((side, side, 3), np.float32)
    canvas[:] = palette[rng.integers(len(palette))]
    for radius in leaf_radii(rng, 2500, 3, side / 3):
        paint_leaf(canvas, rng, radius, palette)
    return shrink(Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8)), 2)


def leaf_radii(rng: np.random.Generator, count: int, smallest: float, largest: float) -> NDArray[np.float64]:
    """Radii whose density falls with their third power, which looks the same at all scales."""
    return (smallest**-2 + rng.random(count) * (largest**-2 - smallest**-2)) ** -0.5


def paint_leaf(canvas: Pixels, rng: np.random.Generator, radius: float, palette: Pixels) -> None:
    """Paint one leaf over the canvas."""
    side = len(canvas)
    center = rng.uniform(0, side, 2)
    (top, left), (bottom, right) = (np.clip(center + sign * radius, 0, side).astype(int) for sign in (-1, 1))
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    dy, dx = y - center[0], x - center[1]
    corners = rng.choice((0, 3, 4, 5))
    angle = np.arctan2(dy, dx) + rng.uniform(0, 2 * np.pi)
    # The distance to the edge of a regular polygon, along each direction; 0 corners make a disc.
    edge = np.cos(np.pi / corners) / np.cos(angle % (2 * np.pi / corners) - np.pi / corners) if corners else 1
    inside = np.hypot(dy, dx) < radius * edge
    color = palette[rng.integers(len(palette))]
    leaf = color + texture(rng, dy, dx)[..., np.newaxis] * rng.normal(1, 0.3, 3).astype(np.float32)
    canvas[top:bottom, left:right][inside] = leaf[inside]


def texture(rng: np.random.Generator, y: Pixels, x: Pixels) -> Pixels:
    """Nothing, a shade, stripes or grain, around 0."""
    amplitude = rng.exponential(20)
    match rng.integers(4):
        case 0:
            return np.zeros_like(y)
        case 1:
            return np.asarray(amplitude * (y * rng.normal() + x * rng.normal()) / (1 + np.abs(y).max(initial=0)), np.float32)
        case 2:
            frequency = rng.uniform(0.1, 1.5)
            angle = rng.uniform(0, np.pi)
            return np.asarray(amplitude * np.sin(frequency * (np.cos(angle) * y + np.sin(angle) * x)), np.float32)
        case _:
            size = rng.integers(2, 6)  # of a grain
            grain = rng.normal(0, amplitude, (-(-y.shape[0] // size), -(-y.shape[1] // size)))
            return np.kron(grain, np.ones((size, size)))[: y.shape[0], : y.shape[1]].astype(np.float32)


def draw_page(rng: random.Random) -> Image.Image:
    """A page of text, lines and filled shapes, dark on light or light on dark."""
    light, dark = ([rng.randrange(low, low + 56) for _ in range(3)] for low in (200, 0))
    paper, *inks = (light, dark, [rng.randrange(256) for _ in range(3)]) if rng.random() < 0.7 else (dark, light, light)
    page = Image.new("RGB", (640, 480), tuple(paper))
    draw = ImageDraw.Draw(page)
    top = 8
    while top < 460:
        size = rng.randrange(9, 30)
        letters = "".join(rng.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789 .,()=+-", k=90))
        draw.text((rng.randrange(20), top), letters, tuple(rng.choice(inks)), ImageFont.load_default(size))
        top += round(size * 1.3)
    for _ in range(24):
        x, y = rng.randrange(600), rng.randrange(440)
        box = (x, y, x + rng.randrange(10, 160), y + rng.randrange(10, 120))
        match rng.choice(("rectangle", "ellipse", "line")):
            case "line":
                draw.line(box, tuple(rng.choice(inks)), rng.randrange(1, 4))
            case shape:
                paint = draw.rectangle if shape == "rectangle" else draw.ellipse
                paint(box, rng.choice((None, tuple(rng.choice((*inks, paper))))), tuple(rng.choice(inks)), rng.randrange(1, 4))
    return page


def train(images: Path, corrupt: Sequence[str], output: str, *options: str) -> None:
    """Train a denoiser of color photographs; the options are those of vaectl train."""
    corruptions = [word for spec in corrupt for word in ("--corrupt", spec)]
    command = [sys.executable, "-m", "vaectl", "train", "dae", "--net", "unet", "--data", str(images), *corruptions]
    if code := run([*command, "--color", "-o", output, *options]).returncode:
        sys.exit(code)


def train_experts(images: Path, *options: str) -> None:
    """Train the missing experts, and add them to photo.safetensors."""
    experts = []
    for index, (low, high, corrupt) in enumerate(EXPERTS):
        path = f"expert-{index}.safetensors"
        if not Path(path).exists():
            train(images, corrupt, path, "--from", "photo.safetensors", *options)
        experts.append(Expert(low, high, checkpoint.load(path).weights))
    checkpoint.save("photo.safetensors", replace(checkpoint.load("photo.safetensors"), experts=experts))


def train_rest(images: Path, *options: str) -> None:
    """Train the weights for photos outside the ranges of the experts, and put them into photo.safetensors."""
    train(images, REST, "rest.safetensors", "--from", "photo.safetensors", *options)
    weights = checkpoint.load("rest.safetensors").weights
    checkpoint.save("photo.safetensors", replace(checkpoint.load("photo.safetensors"), weights=weights))


def main(photos: str, *options: str) -> None:
    """Write the training images into photo-images/, and train."""
    folder = Path("photo-images")
    folder.mkdir(exist_ok=True)
    for name, image in training_images(Path(photos)):
        image.save(folder / f"{name}.png")
    match options:
        case ("experts", *others):
            train_experts(folder, *others)
        case ("rest", *others):
            train_rest(folder, *others)
        case _:
            train(folder, CORRUPT, "photo.safetensors", *options)


if __name__ == "__main__":
    main(*sys.argv[1:])
