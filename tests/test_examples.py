"""Every example runs, at a small size, and makes the image that examples/README.md shows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import Result, write_png

Call = Callable[..., Result]
ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "docs" / "images"
IMAGES = {
    "manifold": "manifold.png",
    "denoise": "denoise.png",
    "watermark": "watermark.png",
    "morph": "morph.gif",
    "arithmetic": "arithmetic.png",
    "outliers": "outliers.png",
    "icons": "icons.png",
    "photo_denoise": "photo_denoise.jpg",
    "photo_watermark": "photo_watermark.jpg",
}


def test_every_example_is_listed_and_shown() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.sh")} == set(IMAGES)
    page = (ROOT / "examples" / "README.md").read_text()
    for name, image in IMAGES.items():
        assert f"({name}.sh)" in page and f"../docs/images/{image}" in page and (GALLERY / image).exists()


@pytest.mark.parametrize("name", IMAGES)
def test_an_example_makes_its_image(
    name: str, shell: Call, small_data: Path, tmp_path: Path, forked_vaectl: dict[str, str]
) -> None:
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (90, 110, 3), np.uint8)
        write_png(tmp_path / "photos" / f"{index}.png", pixels)
    quick = {
        "icons": "--epochs 1 --hidden 4,8,8 --batch-size 1000",
        "photo_denoise": "photos/ photos/0.png --epochs 1 --hidden 4,4 --size 32 --batch-size 512",
        "photo_watermark": "photos/ photos/0.png --epochs 1 --hidden 4,4 --size 32 --batch-size 512",
    }.get(name, f"--data {small_data} --epochs 3 --hidden 32")
    result = shell(f"{ROOT}/examples/{name}.sh {quick}", **forked_vaectl)
    assert result.returncode == 0, result.stderr.decode()
    with Image.open(tmp_path / IMAGES[name]) as made, Image.open(GALLERY / IMAGES[name]) as shown:
        # Photos keep their own size: three of them, above one another.
        assert made.size == ((110, 270) if name.startswith("photo") else shown.size)
