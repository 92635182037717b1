"""Draws a folder of small icons in colour: python icons.py FOLDER COUNT."""

import colorsys
import math
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

SIDE, FINER = 48, 4  # pixels, and how much finer they are drawn


def corners(count: int, radius: float, inner: float, turn: float) -> list[tuple[float, float]]:
    """The corners of a star; without dents, of a polygon."""
    middle = SIDE * FINER / 2
    return [
        (middle + reach * math.cos(angle), middle + reach * math.sin(angle))
        for corner in range(2 * count)
        for angle, reach in [(turn + math.pi * corner / count, radius * (inner if corner % 2 else 1))]
    ]


def icon(rng: random.Random) -> Image.Image:
    """One icon: a disc, a ring, a polygon or a star of any colour, size and turn on a dark ground."""
    image = Image.new("RGB", (SIDE * FINER, SIDE * FINER), (16, 18, 24))
    draw = ImageDraw.Draw(image)
    colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(rng.random(), 0.75, 0.95))
    radius = FINER * rng.uniform(12, 21)
    box = [SIDE * FINER / 2 + sign * radius for sign in (-1, -1, 1, 1)]
    count = rng.choice((0, 1, 3, 4, 5, 6))
    if count == 0:
        draw.ellipse(box, fill=colour)
    elif count == 1:
        draw.ellipse(box, outline=colour, width=round(radius * 0.4))
    else:
        inner = rng.choice((0.45, math.cos(math.pi / count)))
        draw.polygon(corners(count, radius, inner, rng.uniform(0, 2 * math.pi)), fill=colour)
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


folder, count = Path(sys.argv[1]), int(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
for index in range(count):
    icon(random.Random(index)).save(folder / f"icon-{index:04d}.png")
