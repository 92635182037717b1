"""Every example runs, at a small size, and makes the picture that the README shows."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from support import Result

Call = Callable[..., Result]
ROOT = Path(__file__).parents[1]
PICTURES = {
    "manifold": "manifold.png",
    "denoise": "denoise.png",
    "watermark": "watermark.png",
    "morph": "morph.gif",
    "arithmetic": "arithmetic.png",
    "outliers": "outliers.png",
}


def test_every_example_is_listed_and_shown() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.sh")} == set(PICTURES)
    readme = (ROOT / "README.md").read_text()
    for name, picture in PICTURES.items():
        assert f"examples/{name}.sh" in readme and f"docs/{picture}" in readme and (ROOT / "docs" / picture).exists()


@pytest.mark.parametrize("name", PICTURES)
def test_an_example_makes_its_picture(name: str, shell: Call, small_data: Path, tmp_path: Path) -> None:
    quick = f"--data {small_data} --epochs 3 --hidden 32"
    result = shell(f"{ROOT}/examples/{name}.sh {quick}")
    assert result.returncode == 0, result.stderr.decode()
    with Image.open(tmp_path / PICTURES[name]) as made, Image.open(ROOT / "docs" / PICTURES[name]) as shown:
        assert made.size == shown.size
