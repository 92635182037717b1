"""Everything that is said to a person: on stderr, save for a picture that was asked for on the terminal itself.

rich is imported where it is used, for most verbs say nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vaectl import latents
from vaectl.autoencoder import Autoencoder
from vaectl.checkpoint import Card
from vaectl.io import pictures

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from vaectl.training import Progress

Array = NDArray[np.float32]

SHADES = " .:-=+*#%@"  # from black to white, for terminals without colour


def stderr_console() -> "Console":
    """A rich console on stderr that prints names as they are."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def training(quiet: bool) -> Iterator[Callable[["Progress"], None]]:
    """What shows a training as it goes on: a bar on a terminal, a line an epoch elsewhere, nothing when `quiet`."""
    console = stderr_console()
    if quiet:
        yield lambda progress: None
    elif console.is_terminal:
        with training_bar(console) as report:
            yield report
    else:
        start = perf_counter()
        yield lambda progress: say_epoch(console, progress, perf_counter() - start)


@contextmanager
def training_bar(console: "Console") -> Iterator[Callable[["Progress"], None]]:
    """A bar with the loss and its parts, pictures a second and the time left."""
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("epoch {task.fields[epoch]}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[loss]}", markup=False),
    )
    with Bar(*columns, TimeRemainingColumn(), TextColumn("left"), console=console, transient=True) as bar:
        task = bar.add_task("", total=None, epoch="", loss="")
        start = perf_counter()

        def report(progress: "Progress") -> None:
            loss = f"{described(progress)}  {speed(progress, perf_counter() - start)}"
            epoch = f"{progress.epoch}/{progress.settings.epochs}"
            bar.update(task, total=progress.steps, completed=progress.step, epoch=epoch, loss=loss)

        yield report


def say_epoch(console: "Console", progress: "Progress", seconds: float) -> None:
    """One line at the end of an epoch."""
    if progress.ends_epoch:
        left = seconds / progress.step * (progress.steps - progress.step)
        epoch = f"epoch {progress.epoch}/{progress.settings.epochs}"
        console.print(f"{epoch}: {described(progress)}, {speed(progress, seconds)}, {left:.0f} s left")


def described(progress: "Progress") -> str:
    """The loss and its parts, in nats an image."""
    parts = f" = {progress.reconstruction:.2f} + {progress.kl:.2f} KL" if progress.kl else ""
    return f"loss {progress.loss:.2f}{parts} nats"


def speed(progress: "Progress", seconds: float) -> str:
    """Pictures a second since the beginning."""
    return f"{progress.step * progress.settings.batch_size / seconds:,.0f} pictures/s"


def say_figures(card: Card) -> None:
    """How good the trained model is, a figure a line."""
    found = card.figures
    rows = [("-ELBO" if found["kl"] else "-log p(x|z)", found["neg_elbo"], "nats an image, grey values as probabilities")]
    if found["kl"]:
        rows += [("  reconstruction", found["reconstruction"], "nats"), ("  KL", found["kl"], "nats")]
    rows += [("PSNR", found["psnr"], f"dB (before: {found['psnr_before']:.2f})" if "psnr_before" in found else "dB")]
    console = stderr_console()
    console.print(f"on {found['pictures']:,} {found['split']} pictures:")
    for name, value, unit in rows:
        console.print(f"  {name:<18}{value:>8.2f} {unit}")


def preview(model: Autoencoder, held_out: NDArray[np.uint8]) -> None:
    """On a terminal, a look at what was learned: the plane of two dimensions, else pictures and what is made of them below."""
    console = stderr_console()
    if not console.is_terminal:
        return
    if model.latent == 2 and model.card.network.variational:
        points = latents.grid(
            np.zeros(2, np.float32), (0, 1), latents.spaced(-3, 3, 8, "linear"), latents.spaced(-3, 3, 4, "linear")
        )
        learned = model.decode(points)
    else:
        clean = held_out[:8].astype(np.float32) / 255
        learned = np.concatenate([clean, model.decode(model.encode(clean))])
    draw(console, pictures.sheet(learned, 8))


def show(picture: Array) -> None:
    """Draw a picture, (H, W, C), on the terminal that stdout is."""
    from rich.console import Console

    draw(Console(highlight=False), picture)


def draw(console: "Console", picture: Array) -> None:
    """Draw a picture, (H, W, C), in half blocks, shrunk to fit: each character is two pixels, one above the other."""
    height, width, _ = picture.shape
    shrink = min(1.0, console.width / width, 2 * max(8, console.height - 4) / height)
    size = (max(1, int(width * shrink)), max(2, int(height * shrink) // 2 * 2))
    image = pictures.to_image(picture).convert("RGB").resize(size, pictures.SMOOTH)
    pixels = np.asarray(image)
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        console.print(half_blocks(upper, lower) if console.color_system else shades(upper, lower))


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
