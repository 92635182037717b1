"""Draw a folder of small color icons: python icons.py FOLDER COUNT."""

import colorsys
import math
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

SIZE = 48  # pixels
SUPERSAMPLING = 4


def star_points(count: int, radius: float, inner_ratio: float, rotation: float) -> list[tuple[float, float]]:
    """The points of a star; with a large enough inner ratio, of a polygon."""
    center = SIZE * SUPERSAMPLING / 2
    points = []
    for index in range(2 * count):
        angle = rotation + math.pi * index / count
        distance = radius * (inner_ratio if index % 2 else 1)
        points.append((center + distance * math.cos(angle), center + distance * math.sin(angle)))
    return points


def draw_icon(rng: random.Random) -> Image.Image:
    """A disc, a ring, a polygon or a star of random color, size and rotation on a dark background."""
    image = Image.new("RGB", (SIZE * SUPERSAMPLING, SIZE * SUPERSAMPLING), (16, 18, 24))
    draw = ImageDraw.Draw(image)
    color = tuple(round(255 * value) for value in colorsys.hsv_to_rgb(rng.random(), 0.75, 0.95))
    radius = SUPERSAMPLING * rng.uniform(12, 21)
    box = [SIZE * SUPERSAMPLING / 2 + sign * radius for sign in (-1, -1, 1, 1)]
    count = rng.choice((0, 1, 3, 4, 5, 6))
    if count == 0:
        draw.ellipse(box, fill=color)
    elif count == 1:
        draw.ellipse(box, outline=color, width=round(radius * 0.4))
    else:
        inner_ratio = rng.choice((0.45, math.cos(math.pi / count)))
        draw.polygon(star_points(count, radius, inner_ratio, rng.uniform(0, 2 * math.pi)), fill=color)
    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


folder, count = Path(sys.argv[1]), int(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
for index in range(count):
    draw_icon(random.Random(index)).save(folder / f"icon-{index:04d}.png")
