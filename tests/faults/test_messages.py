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

from vaectl.base.text import MAX_MESSAGE, escape

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


@pytest.mark.parametrize("command", ["train vae --data a.npz", "encode a.npz -c tiny.safetensors"])
def test_names_in_an_archive_are_escaped(command: str, tiny: Path, fails: Fails, tmp_path: Path) -> None:
    write_archive(tmp_path / "a.npz", **dict.fromkeys((CLEAR, "b"), IMAGES))
    text = fails(*command.split(), words=("'a.npz'", ESCAPED))
    assert text.isascii() and text[:-1].isprintable()


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


def test_a_table_on_stderr_and_a_card_are_escaped(tiny: Path, run: Call, tmp_path: Path) -> None:
    edit_safetensors(tiny, lambda card, header: card.update(model=f"{CLEAR}:bug:\ud800"))
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (40, 2, 2), np.uint8))
    table = run("evaluate", "-c", tiny, "--data", "a.npy", "--samples", 0).stderr.decode()
    card = run("info", tiny).stdout.decode()
    for text in (table, card):
        assert f"{ESCAPED}:bug:\\ud800" in text
        assert all(line.isprintable() for line in text.splitlines())


def test_file_names_that_are_not_text_are_shown_like_others(run: Call, tiny: Path) -> None:
    name = os.fsdecode(b"\xff\x1b[2J \xc3\xa9.png")
    assert r"'\udcff\x1b[2J é.png': no such file".encode() in run("encode", name, "-c", tiny, code=1).stderr
    assert escape("Zürich ≥ 3 图像 " + name) == r"Zürich ≥ 3 图像 \udcff\x1b[2J é.png"


def test_of_many_names_in_an_archive_a_few_are_listed(tiny: Path, fails: Fails, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many.npz", "w") as archive:
        for index in range(20_000):
            archive.writestr(f"{index:05d}.npy", b"")
    listed = "'00000', '00001', '00002' and 19,997 more"
    fails(
        "train",
        "vae",
        "--data",
        "many.npz",
        words=(f"'many.npz' holds no array 'x_train', only {listed}: name the training images x_train",),
    )
    fails("encode", "many.npz", "-c", tiny, words=(f"'many.npz' holds 20,000 arrays ({listed}): save the one you want",))


def test_of_many_files_that_are_not_images_a_few_are_listed(tiny: Path, run: Call, tmp_path: Path) -> None:
    write_png(tmp_path / "in" / "a.png", IMAGES[0])
    for index in range(1500):
        (tmp_path / "in" / f"{index:04d}.txt").touch()
    warning = run("encode", "in", "-c", tiny).stderr.decode()
    assert "ignored 1,500 files that are not images ('0000.txt', '0001.txt', '0002.txt' and 1,497 more)" in warning


@pytest.mark.parametrize(
    "edit",
    [
        lambda card, header: header.update(__metadata__={str(index): "" for index in range(9999)}),
        lambda card, header: header.update({str(index): header["encoder.1.bias"] for index in range(9999)}),
        lambda card, header: header.update({"x" * 100_000: header["encoder.1.bias"]}),
        lambda card, header: header["encoder.1.bias"].update(shape=[1] * 100_000),
        lambda card, header: header["encoder.1.bias"].update(dtype="\0" * 100_000),
        lambda card, header: card["network"]["encoder"].insert(0, {"layer": "x" * 100_000}),
        lambda card, header: card.update(model=["x" * 100_000]),
    ],
)
def test_an_error_about_a_checkpoint_is_not_endless(edit: Edit, tiny: Path, fails: Fails) -> None:
    edit_safetensors(tiny, edit)
    text = fails("info", tiny.name, words=("is not a vaectl checkpoint", ": use one that vaectl train wrote"))
    assert len(text) < MAX_MESSAGE + 100


@pytest.mark.parametrize("command", ["train vae --data a.npz", "encode a.npz -c tiny.safetensors", "interpolate a.npz"])
def test_an_archive_without_images_is_named(command: str, tiny: Path, fails: Fails, tmp_path: Path) -> None:
    archives: list[dict[str, NDArray[np.uint8]]] = [{"x_train": IMAGES[:0]}, {"a": IMAGES, "b": IMAGES}, {}]
    for members in archives:
        write_archive(tmp_path / "a.npz", **members)
        fails(*command.split(), words=("'a.npz'",), VAECTL_CHECKPOINT=tiny.name)


@pytest.mark.parametrize(
    "command", ["sample", "encode a.npy", "decode a.npy", "grid", "interpolate a.npy", "train vae", "evaluate", "denoise a.npy"]
)
@pytest.mark.parametrize("place", ["missing/z", "a.npy/z"])
def test_an_output_in_no_folder_is_named(command: str, place: str, tiny: Path, fails: Fails, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    fails(*command.split(), "-o", place, words=(repr(place),), code=1, VAECTL_CHECKPOINT=tiny.name)


def test_an_input_without_items_is_named(tiny: Path, fails: Fails, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros((0, 1), np.float32))
    fails("decode", "z.npy", "-c", tiny, words=("'z.npy' is empty: it contains no latents",))
    fails("decode", "z.npy", "z.npy", "-c", tiny, words=("'z.npy', like the others, is empty: it contains no latents",))
