"""The commands and the Python code in README.md and docs/*.md run, the links lead somewhere, and the reference is up to date."""

import re
import runpy
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import Result, write_png

from vaectl import cli

Call = Callable[..., Result]
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ALL_PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")]
TRANSLATION = ROOT / "README.ko.md"
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)

# A short training of a small network shows the same as a long one.
QUICK, QUICK_UNET = "--epochs 1 --hidden 16", "--epochs 1 --hidden 4,4 --size 16 --batch-size 1024"
QUICK_PYTHON = """\
import vaectl
train = vaectl.train


def train_briefly(model, data, **options):
    return train(model, "{data}" if isinstance(data, str) and data == "mnist" else data, **options | dict(epochs=1, hidden=[16]))


vaectl.train = train_briefly
"""


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the lines of each block that is run; CI runs the installation as it stands."""
    return [(language, code) for language, code in BLOCK.findall(page.read_text()) if not code.startswith("pip install")]


def shorten(line: str, data: Path) -> str:
    """The command; if it is a training, a short one, on `data` instead of the whole MNIST."""
    if "vaectl train" not in line:
        return line
    sizes = "--epochs 1" if "--from" in line else QUICK_UNET if "--net unet" in line else QUICK
    return " ".join([line, sizes, *([] if "--data" in line else ["--data", str(data)])])


def make_files(folder: Path) -> None:
    """What the pages in docs/ take for granted."""
    rng = np.random.default_rng(0)
    digits = rng.integers(0, 256, (40, 28, 28, 1), np.uint8)
    for name, digit in zip(("img.png", "other.png"), digits, strict=False):
        write_png(folder / name, digit)
    np.save(folder / "images.npy", digits[..., 0])
    np.savez(folder / "digits.npz", x_train=digits, x_test=digits[:8])
    photo = np.asarray(Image.radial_gradient("L").convert("RGB").resize((90, 80)))
    for name in ("photos/1.png", "photos/2.png", "photos/3.png", "noisy/1.png", "marked.png", "logo.png"):
        write_png(folder / name, photo)
    for name in ("clean/1.png", "clean/2.png", "clean/3.png", "scans/1.png", "scans/2.png", "scans/3.png"):
        write_png(folder / name, photo)
    Image.fromarray(photo).save(folder / "photo.jpg")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_the_blocks_of_a_page_run_in_order(
    page: Path, shell: Call, tmp_path: Path, small_data: Path, forked_vaectl: dict[str, str]
) -> None:
    is_readme = page.name == "README.md"
    if not is_readme:
        make_files(tmp_path)
    for language, group in groupby(blocks(page), key=lambda block: block[0]):
        code = "\n".join(code for _, code in group)
        if language == "bash":
            lines = [shorten(line, small_data) for line in code.splitlines()]
            if is_readme:  # its commands need an empty folder and trained models only, so their order must not matter
                trainings = [line for line in lines if "vaectl train" in line]
                lines = [*trainings, *(line for line in reversed(lines) if line not in trainings)]
            result = shell("\n".join(["set -euxo pipefail", *lines]), **forked_vaectl)
        else:
            (tmp_path / "blocks.py").write_text(QUICK_PYTHON.format(data=small_data) + code)
            result = shell("python blocks.py")
        assert result.returncode == 0, result.stderr.decode()


def test_the_readme_lists_every_command() -> None:
    table = (ROOT / "README.md").read_text().partition("## Commands")[2].partition("##")[0]
    assert re.findall(r"^\| `vaectl (\w+)", table, re.MULTILINE) == list(cli.COMMANDS)


def test_the_translation_has_the_same_commands() -> None:
    assert blocks(TRANSLATION) == blocks(ROOT / "README.md")


@pytest.mark.parametrize(("page", "title"), [(ROOT / "README.md", "The equations"), (TRANSLATION, "수식")], ids=["en", "ko"])
def test_the_readme_names_the_equations_in_their_order(page: Path, title: str) -> None:
    section = page.read_text().partition(f"## {title}")[2].partition("\n## ")[0]
    names = re.findall(r"`([a-z]+_[a-z]+|reparameterize)`", section)
    defined = re.findall(r"^def (\w+)", (ROOT / "vaectl/training/losses.py").read_text(), re.MULTILINE)
    assert names == defined[: len(names)] and "neg_elbo" in names


def test_the_command_reference_is_up_to_date() -> None:
    generated = runpy.run_path(str(ROOT / "docs" / "generate_cli.py"))["render"]()
    assert (ROOT / "docs" / "cli.md").read_text() == generated, "run `make docs`"


@pytest.mark.parametrize("page", sorted(ALL_PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", page.read_text())
    for target in (first or second for first, second in targets):
        assert ":" in target or (page.parent / target).exists(), target
