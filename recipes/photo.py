"""Train the ready-made denoiser, `photo`; vaectl/data/CREDITS-photo.md says how far the weights in the package got.

pip install scikit-image
python recipes/photo.py PHOTOS --epochs 17 --lr 0.0017 [options of vaectl train, such as --resume]
python recipes/photo.py PHOTOS --from photo --epochs 15 --lr 0.001

PHOTOS is the folder with the photographs named in vaectl/data/CREDITS-photo.md. They are learned from at a half to a sixth of
their size: large photographs are smooth from pixel to pixel, the smaller ones of users are not. Beside them are pictures in the
public domain that scikit-image ships, pages of text and line drawings, and gray copies of some.
"""

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import run

import skimage
from PIL import Image, ImageDraw, ImageFont

REDUCTIONS = (2, 2.5, 3, 4, 5, 6)
GRAY_REDUCTION = 3
GRAY_ONE_IN = 4
# In the public domain or CC0, as skimage.data says; the noisy ones only at half their size.
PUBLIC_DOMAIN = {
    "astronaut.png": (1, 2), "brick.png": (2,), "camera.png": (1, 2), "chelsea.png": (2,), "coffee.png": (1, 2),
    "grass.png": (2,), "gravel.png": (2,), "retina.jpg": (2,), "rocket.jpg": (2,),
}  # fmt: skip
N_DRAWINGS = 4
# Most images have noise, of any strength up to 55 of 255, and some a phone's; JPEG comes before, after, or not at all. One in
# seven has none, so that clean photographs come back as they were.
CORRUPT = ("camera@0.08", "jpeg:20-95@0.08", "gaussian:0-0.216@0.85", "jpeg:20-95@0.15")


def training_images(photos: Path) -> Iterator[tuple[str, Image.Image]]:
    """Each image to learn from, with its name."""
    for index, path in enumerate(sorted(photos.glob("*.jpg"))):
        photo = Image.open(path).convert("RGB")
        for reduction in REDUCTIONS:
            small = shrink(photo, reduction)
            yield f"{path.stem}-{reduction}", small
            if reduction == GRAY_REDUCTION and index % GRAY_ONE_IN == 0:
                yield f"{path.stem}-{reduction}-gray", small.convert("L")
    for name, reductions in PUBLIC_DOMAIN.items():
        picture = Image.open(Path(skimage.data_dir) / name)
        picture = picture.convert("L" if picture.mode == "L" else "RGB")
        for reduction in reductions:
            yield f"{Path(name).stem}-{reduction}", shrink(picture, reduction)
    for seed in range(N_DRAWINGS):
        yield f"drawing-{seed}", draw_page(random.Random(seed))


def shrink(image: Image.Image, reduction: float) -> Image.Image:
    """The image at a fraction of its size."""
    return image.resize((round(image.width / reduction), round(image.height / reduction)), Image.Resampling.LANCZOS)


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
        shape = rng.choice((draw.rectangle, draw.ellipse, draw.line))
        if shape == draw.line:
            draw.line(box, tuple(rng.choice(inks)), rng.randrange(1, 4))
        else:
            shape(box, rng.choice((None, tuple(rng.choice((*inks, paper))))), tuple(rng.choice(inks)), rng.randrange(1, 4))
    return page


def main(photos: str, *options: str) -> None:
    """Write the images to learn from into photo-images/, and train."""
    folder = Path("photo-images")
    folder.mkdir(exist_ok=True)
    for name, image in training_images(Path(photos)):
        image.save(folder / f"{name}.png")
    corrupt = [word for spec in CORRUPT for word in ("--corrupt", spec)]
    command = [sys.executable, "-m", "vaectl", "train", "dae", "--net", "unet", "--data", str(folder), *corrupt]
    sys.exit(run([*command, "--color", "-o", "photo.safetensors", *options]).returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
