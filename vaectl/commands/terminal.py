"""Pictures on a terminal: as pixels where it is known to have them, in half blocks of colour elsewhere.

What the terminal can do is read from the environment; it is never asked, for its answer would come on stdin, which may be data.
"""

import fcntl
import os
import struct
import termios
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from vaectl.io import pictures

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Array = NDArray[np.float32]

SHADES = " .:-=+*#%@"  # from black to white, for terminals without colour or without blocks
USUAL_CELL = (10, 20)  # pixels of a character, where the terminal does not say


def show(picture: Array) -> None:
    """Draw a picture, (H, W, C), on the terminal that stdout is."""
    from rich.console import Console

    draw(Console(highlight=False), picture)


def draw(console: "Console", picture: Array) -> None:
    """Draw a picture, (H, W, C), shrunk to fit the terminal."""
    protocol = graphics()
    if protocol and console.color_system:
        console.file.write(f"{as_pixels(picture, protocol, console.width, console.height)}\n")
        return
    height, width, _ = picture.shape
    shrink = min(1.0, console.width / width, 2 * rows_free(console.height) / height)
    size = (max(1, int(width * shrink)), max(2, int(height * shrink) // 2 * 2))
    pixels = np.asarray(pictures.to_image(picture).convert("RGB").resize(size, pictures.SMOOTH))
    blocks = console.color_system and console.encoding.startswith("utf")
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        console.print(half_blocks(upper, lower) if blocks else shades(upper, lower))


def graphics() -> Literal["kitty", "sixel"] | None:
    """The protocol in which the terminal takes pixels, by what it says of itself in the environment."""
    term, program = os.environ.get("TERM", ""), os.environ.get("TERM_PROGRAM", "")
    # Inside a multiplexer the variables are those of the terminal around it, which does not get the pixels.
    if os.environ.get("TMUX") or term.startswith(("tmux", "screen")) or not find_spec("chafa"):
        return None
    if "KITTY_WINDOW_ID" in os.environ or term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return "kitty"
    if term.startswith(("foot", "mlterm", "yaft", "contour")) or program == "WezTerm":
        return "sixel"
    return None


def as_pixels(picture: Array, protocol: str, columns: int, rows: int) -> str:
    """The escape sequence that shows a picture in its own pixels, or smaller where it would not fit."""
    import chafa

    image = pictures.to_image(picture).convert("RGB")
    cell = cell_size()
    shrink = min(1.0, columns * cell[0] / image.width, rows_free(rows) * cell[1] / image.height)
    config = chafa.CanvasConfig()
    config.cell_width, config.cell_height = cell
    config.width = max(1, round(image.width * shrink / cell[0]))
    config.height = max(1, round(image.height * shrink / cell[1]))
    config.pixel_mode = {
        "kitty": chafa.PixelMode.CHAFA_PIXEL_MODE_KITTY,
        "sixel": chafa.PixelMode.CHAFA_PIXEL_MODE_SIXELS,
    }[protocol]
    canvas = chafa.Canvas(config)
    rgb = chafa.PixelType.CHAFA_PIXEL_RGB8
    canvas.draw_all_pixels(rgb, image.tobytes(), image.width, image.height, 3 * image.width)
    sequence: bytes = canvas.print(chafa.TermDb().get_fallback_info())
    return sequence.decode("ascii")


def cell_size() -> tuple[int, int]:
    """The width and height in pixels of one character."""
    with suppress(OSError):
        rows, columns, width, height = struct.unpack("HHHH", fcntl.ioctl(2, termios.TIOCGWINSZ, bytes(8)))
        if rows and columns and width and height:
            return width // columns, height // rows
    return USUAL_CELL


def rows_free(rows: int) -> int:
    """The rows of a terminal that a picture may take, so that the prompt and a line or two stay visible."""
    return max(4, rows - 4)


def half_blocks(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> "Text":
    """Two rows of pixels as one row of characters in colour."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    line = Text()
    for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
        line.append("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
    return line


def shades(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> str:
    """Two rows of pixels as one row of characters, by their brightness."""
    brightness = (upper.mean(axis=1) + lower.mean(axis=1)) / 2
    return "".join(SHADES[int(value * len(SHADES) / 256)] for value in brightness)
