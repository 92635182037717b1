"""What commands show on a terminal."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import VAECTL, run_on_terminal, write_png

BLOCK = "▀"


def test_an_array_is_not_written_to_a_terminal_unless_forced(vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    image = write_png(tmp_path / "img.png", digits[0])
    code, text = run_on_terminal(["encode", image, "-c", vae], tmp_path)
    assert code == 2
    assert "stdout is a terminal" in text and "-o -" in text
    code, text = run_on_terminal(["encode", image, "-c", vae, "-o", "-", "--format", "csv"], tmp_path)
    assert code == 0
    assert text.startswith("name,z0,z1")


def test_without_input_the_error_says_what_to_give(vae: Path, tmp_path: Path) -> None:
    code, text = run_on_terminal(["encode", "-c", vae, "-o", "z.npy"], tmp_path)
    assert code == 2
    assert "nothing to read: give an IMAGE" in text


def test_images_are_drawn_in_half_blocks(vae: Path, tmp_path: Path) -> None:
    code, text = run_on_terminal(["grid", "--steps", "3", "-c", vae], tmp_path)
    assert code == 0
    assert BLOCK in text and "\x1b[" in text


def test_without_color_or_blocks_images_are_drawn_in_characters(vae: Path, tmp_path: Path) -> None:
    code, text = run_on_terminal(["grid", "--steps", "3", "-c", vae], tmp_path, NO_COLOR="1", TERM="dumb")
    assert code == 0
    assert "\x1b[3" not in text and set(text) & set("#%@")
    code, text = run_on_terminal(["grid", "--steps", "3", "-c", vae], tmp_path, PYTHONIOENCODING="latin-1")
    assert code == 0 and set(text) & set("#%@")


def test_half_blocks_are_not_drawn_without_their_colors(vae: Path, tmp_path: Path) -> None:
    code, text = run_on_terminal(["grid", "--steps", "3", "-c", vae], tmp_path, NO_COLOR="1")
    assert code == 0
    assert BLOCK not in text and "\x1b[" not in text and set(text) & set("#%@")


@pytest.mark.parametrize("term", ["dumb", "xterm"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_images_fit_a_narrow_terminal(term: str, stream: str, vae: Path, small_data: Path, tmp_path: Path) -> None:
    preview = f"train ae --data {small_data} --hidden 4 --epochs 1 > path"
    arguments = preview if stream == "stderr" else f"grid -c {vae}"
    line = f'stty rows 30 columns 20; unset COLUMNS LINES; "$0" {arguments}'
    code, text = run_on_terminal(["-c", line, VAECTL], tmp_path, "bash", TERM=term)
    assert code == 0
    drawn = [row for row in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if re.fullmatch(r"[ .:=+*#%@▀-]+", row)]
    assert drawn and max(map(len, drawn)) <= 20


@pytest.mark.parametrize(("term", "start"), [("xterm-kitty", "\x1b_G"), ("foot", "\x1bP")])
def test_a_terminal_that_supports_pixels_gets_them(term: str, start: str, vae: Path, tmp_path: Path) -> None:
    code, text = run_on_terminal(["sample", "-n", "4", "-c", vae], tmp_path, TERM=term, TMUX="")
    assert code == 0
    assert start in text and BLOCK not in text


@pytest.mark.parametrize(("columns", "steps"), [("50", 5), ("210", 20)])
def test_by_default_a_grid_has_as_many_steps_as_are_readable(columns: str, steps: int, vae: Path, tmp_path: Path) -> None:
    code, text = run_on_terminal(["grid", "-c", vae], tmp_path, COLUMNS=columns)
    assert code == 0
    assert max(line.count(BLOCK) for line in text.splitlines()) <= int(columns)
    explicit, other = (
        run_on_terminal(["grid", "-c", vae, "--steps", n], tmp_path, COLUMNS=columns)[1] for n in (steps, steps - 1)
    )
    assert text == explicit != other


def visible_lines(text: str) -> list[str]:
    """The lines that a terminal shows in the end: what was erased or overwritten is gone."""
    lines, row, column = [""], 0, 0
    for code, letter in re.findall(r"\x1b\[([0-9;?]*[A-Za-z])|([^\x1b])", text):
        if code.endswith("A"):
            row = max(0, row - int(code[:-1] or 1))
        elif code == "2K":
            lines[row] = ""
        elif letter == "\r":
            column = 0
        elif letter == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif letter:
            lines[row] = f"{lines[row]:{column}}"[:column] + letter + lines[row][column + 1 :]
            column += 1
    return lines


@pytest.mark.parametrize(
    ("model", "caption"),
    [
        (["vae", "--latent", "2"], "the latent plane from -3 to 3"),
        (["ae"], "test images above, their reconstructions below"),
    ],
)
def test_training_leaves_a_line_per_epoch_and_a_preview_with_a_caption(
    model: list[str], caption: str, small_data: Path, tmp_path: Path, forked_vaectl: dict[str, str]
) -> None:
    line = shlex.join(["vaectl", "train", *model, "--data", str(small_data), "--hidden", "16", "--epochs", "3"])
    code, text = run_on_terminal(["-c", line], tmp_path, "bash", **forked_vaectl, COLUMNS="120")
    assert code == 0
    lines = visible_lines(text)
    assert [line.partition(":")[0] for line in lines if line.startswith("epoch")] == [f"epoch {n}/3" for n in (1, 2, 3)]
    assert caption in lines
    assert BLOCK in lines[lines.index(caption) - 1]


def test_a_slow_stream_is_read_once_behind_a_progress_bar(vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "digits.npy", np.tile(digits, (40, 1, 1, 1)))
    slowly = "(head -c 1500000 digits.npy; sleep 2; tail -c +1500001 digits.npy)"
    line = f'"$0" encode <({slowly}) -c {vae} -o z.npy'
    code, text = run_on_terminal(["-c", line, VAECTL], tmp_path, "bash")
    assert code == 0, text
    assert len(np.load(tmp_path / "z.npy")) == 40 * len(digits)
