"""Images on a terminal: as pixels where it is known to support them, in half blocks of color elsewhere.

What the terminal supports is read from the environment; it is never queried, because its answer would arrive on stdin, which may
be data.
"""

import fcntl
import os
import struct
import termios
from contextlib import suppress
from importlib.util import find_spec
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from vaectl.base.arrays import Array
from vaectl.images import resize, sheets

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

SHADES = " .:-=+*#%@"  # from black to white, for terminals without color or block characters
DEFAULT_CELL = (10, 20)  # pixels per character, if the terminal does not say
MIN_WIDTH = 10  # pixels of an image in a sheet, below which a digit is unreadable
RESERVED_ROWS = 4  # for the prompt and a few lines


def make_console(*, stderr: bool = False) -> "Console":
    """A rich console on stdout or stderr that prints text as it is."""
    from rich.console import Console, ConsoleDimensions

    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)
    if console.is_dumb_terminal:  # rich does not ask it for its size
        size = get_terminal_size(os.get_terminal_size(2 if stderr else 1))
        console.size = ConsoleDimensions(size.columns or 80, size.lines or 25)
    return console


def show(stack: Array, columns: int | None = None) -> None:
    """Draw images (N, H, W, C) on the terminal that stdout is."""
    draw(make_console(), stack, columns)


def draw(console: "Console", stack: Array, columns: int | None = None) -> None:
    """Draw images as a sheet, in as many columns as are readable if `columns` is None.

    Small sheets are enlarged. One image is shrunk to fit the terminal; a sheet only to its width, and may scroll.
    """
    protocol = graphics_protocol() if console.color_system else None
    cell_width, cell_height = cell_size() if protocol else (1, 2)
    width, height = console.width * cell_width, max(4, console.height - RESERVED_ROWS) * cell_height
    if columns is None:
        columns = min(sheets.default_columns(len(stack)), max_columns(width, stack.shape[2]))
    sheet = sheets.make_sheet(stack, columns)
    sheet = sheets.upscale(sheet[np.newaxis], max(1, width // (3 * sheet.shape[1])))[0]
    shrink = min(1.0, width / sheet.shape[1], height / sheet.shape[0] if len(stack) == 1 else 1.0)
    size = max(1, int(sheet.shape[1] * shrink)), max(2, int(sheet.shape[0] * shrink) // 2 * 2)
    image = resize.to_pil(sheet).convert("RGB").resize(size, resize.RESAMPLING)
    if protocol:
        console.file.write(f"{pixel_sequence(image.size, image.tobytes(), protocol)}\n")
        return
    pixels = np.asarray(image)
    blocks = console.color_system and not console.no_color and console.encoding.startswith("utf")
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        console.print(half_blocks(upper, lower) if blocks else shades(upper, lower))


def max_columns(width: int, image_width: int) -> int:
    """How many images fit side by side into `width` pixels and remain readable."""
    return max(1, width // min(image_width, MIN_WIDTH))


def stdout_columns(image_width: int) -> int:
    """How many images fit side by side on the terminal that stdout is."""
    console = make_console()
    protocol = graphics_protocol() if console.color_system else None
    return max_columns(console.width * (cell_size()[0] if protocol else 1), image_width)


def graphics_protocol() -> Literal["kitty", "sixel"] | None:
    """The protocol in which the terminal takes pixels, as far as the environment tells."""
    term, program = os.environ.get("TERM", ""), os.environ.get("TERM_PROGRAM", "")
    # In a multiplexer, the variables are those of the terminal around it, which does not get the pixels.
    if os.environ.get("TMUX") or term.startswith(("tmux", "screen")) or not find_spec("chafa"):
        return None
    if "KITTY_WINDOW_ID" in os.environ or term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return "kitty"
    if term.startswith(("foot", "mlterm", "yaft", "contour")) or program == "WezTerm":
        return "sixel"
    return None


def pixel_sequence(size: tuple[int, int], rgb: bytes, protocol: str) -> str:
    """The escape sequence that shows an RGB image of this width and height, pixel by pixel."""
    import chafa

    width, height = size
    config = chafa.CanvasConfig()
    config.cell_width, config.cell_height = cell_size()
    config.width = max(1, round(width / config.cell_width))
    config.height = max(1, round(height / config.cell_height))
    config.pixel_mode = {
        "kitty": chafa.PixelMode.CHAFA_PIXEL_MODE_KITTY,
        "sixel": chafa.PixelMode.CHAFA_PIXEL_MODE_SIXELS,
    }[protocol]
    canvas = chafa.Canvas(config)
    canvas.draw_all_pixels(chafa.PixelType.CHAFA_PIXEL_RGB8, rgb, width, height, 3 * width)
    sequence: bytes = canvas.print(chafa.TermDb().get_fallback_info())
    return sequence.decode("ascii")


def cell_size() -> tuple[int, int]:
    """The width and height of a character in pixels."""
    with suppress(OSError):
        rows, columns, width, height = struct.unpack("HHHH", fcntl.ioctl(2, termios.TIOCGWINSZ, bytes(8)))
        if rows and columns and width and height:
            return width // columns, height // rows
    return DEFAULT_CELL


def half_blocks(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> "Text":
    """Two rows of pixels as one row of colored characters."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    line = Text()
    for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
        line.append("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
    return line


def shades(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> str:
    """Two rows of pixels as one row of characters, by brightness."""
    brightness = (upper.mean(axis=1) + lower.mean(axis=1)) / 2
    return "".join(SHADES[int(value * len(SHADES) / 256)] for value in brightness)
