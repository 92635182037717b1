"""What a message quotes from a file does not reach the terminal as it is."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import Edit, Result, edit_safetensors, write_png

from vaectl.text import escape

Call = Callable[..., Result]
Fails = Callable[..., str]

CLEAR = "\x1b[2J\x9b2J\u202e"  # clears the screen, twice, and writes backwards
ESCAPED = r"\x1b[2J\x9b2J\u202e"
IMAGES = np.zeros((5, 2, 2), np.uint8)


def write_archive(path: Path, **members: NDArray[np.uint8]) -> None:
    """Write an NPZ archive whose arrays have any names."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in members.items():
            np.save(stream := io.BytesIO(), array)
            archive.writestr(f"{name}.npy", stream.getvalue())


@pytest.mark.fault(56)
@pytest.mark.parametrize("command", ["train vae --data a.npz", "encode a.npz -c tiny.safetensors"])
def test_names_in_an_archive_are_escaped(command: str, tiny: Path, fails: Fails, tmp_path: Path) -> None:
    write_archive(tmp_path / "a.npz", **dict.fromkeys((CLEAR, "b"), IMAGES))
    text = fails(*command.split(), words=("'a.npz'", ESCAPED))
    assert text.isascii() and text[:-1].isprintable()


@pytest.mark.fault(56)
@pytest.mark.parametrize(
    "edit",
    [
        lambda card, header: header["encoder.1.bias"].update(dtype=CLEAR),
        lambda card, header: header.update({CLEAR: header["encoder.1.bias"]}),
        lambda card, header: card["latent_stats"].update({CLEAR: [0]}),
        lambda card, header: card["network"]["encoder"].insert(0, {"layer": CLEAR}),
        lambda card, header: card.update(fit=CLEAR),
        lambda card, header: card.update(model=CLEAR),
    ],
)
def test_whatever_a_checkpoint_contains_is_escaped(edit: Edit, tiny: Path, fails: Fails, tmp_path: Path) -> None:
    edit_safetensors(tiny, edit)
    write_png(tmp_path / "a.png", IMAGES[0])
    text = fails("denoise", "a.png", "-c", tiny.name, words=(ESCAPED,))
    assert text.isascii() and text[:-1].isprintable()


@pytest.mark.fault(56)
def test_a_table_on_stderr_and_a_card_are_escaped(tiny: Path, run: Call, tmp_path: Path) -> None:
    edit_safetensors(tiny, lambda card, header: card.update(model=f"{CLEAR}:bug:\ud800"))
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (40, 2, 2), np.uint8))
    table = run("evaluate", "-c", tiny, "--data", "a.npy", "--samples", 0).stderr.decode()
    card = run("info", tiny).stdout.decode()
    for text in (table, card):
        assert f"{ESCAPED}:bug:\\ud800" in text
        assert all(line.isprintable() for line in text.splitlines())


@pytest.mark.fault(24, 56)
def test_file_names_that_are_not_text_are_shown_like_others(run: Call, tiny: Path) -> None:
    name = os.fsdecode(b"\xff\x1b[2J \xc3\xa9.png")
    assert r"'\udcff\x1b[2J é.png': no such file".encode() in run("encode", name, "-c", tiny, code=1).stderr
    assert escape("Zürich ≥ 3 图像 " + name) == r"Zürich ≥ 3 图像 \udcff\x1b[2J é.png"
