"""Every example runs, at a small size, and makes the picture that the README shows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import Result, write_png

Call = Callable[..., Result]
ROOT = Path(__file__).parents[1]
PICTURES = {
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
    assert {path.stem for path in (ROOT / "examples").glob("*.sh")} == set(PICTURES)
    readme = (ROOT / "README.md").read_text()
    for name, picture in PICTURES.items():
        assert f"examples/{name}.sh" in readme and f"docs/{picture}" in readme and (ROOT / "docs" / picture).exists()


@pytest.mark.parametrize("name", PICTURES)
def test_an_example_makes_its_picture(name: str, shell: Call, small_data: Path, tmp_path: Path) -> None:
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (90, 110, 3), np.uint8)
        write_png(tmp_path / "photos" / f"{index}.png", pixels)
    quick = {
        "icons": "--epochs 1 --hidden 4,8,8 --batch-size 1000",
        "photo_denoise": "photos/ photos/0.png --epochs 1 --hidden 4,4 --size 32 --batch-size 512",
        "photo_watermark": "photos/ photos/0.png --epochs 1 --hidden 4,4 --size 32 --batch-size 512",
    }.get(name, f"--data {small_data} --epochs 3 --hidden 32")
    result = shell(f"{ROOT}/examples/{name}.sh {quick}")
    assert result.returncode == 0, result.stderr.decode()
    with Image.open(tmp_path / PICTURES[name]) as made, Image.open(ROOT / "docs" / PICTURES[name]) as shown:
        # Photographs come at their own size: three of them, one above the other.
        assert made.size == ((110, 270) if name.startswith("photo") else shown.size)
