"""Everything that is said to a person, on stderr.

rich is imported where it is used, for most verbs say nothing.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vaectl import latents
from vaectl.autoencoder import Autoencoder
from vaectl.checkpoint import Card
from vaectl.commands import terminal
from vaectl.io import files, sheets

if TYPE_CHECKING:
    from rich.console import Console

    from vaectl.training import Progress

Array = NDArray[np.float32]
T = TypeVar("T")

MOMENT = 1.0  # seconds


def stderr_console() -> "Console":
    """A rich console on stderr that prints names as they are."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def training(quiet: bool, as_json: bool) -> Iterator[Callable[["Progress"], None]]:
    """What shows a training as it goes on: a bar on a terminal, a line an epoch elsewhere, nothing when `quiet`.

    With `as_json` each epoch is also a JSON line on stdout.
    """
    with shown(quiet) as show:

        def report(progress: "Progress") -> None:
            show(progress)
            if as_json and progress.ends_epoch:
                files.write_line(json.dumps({"epoch": progress.epoch, **progress.means()}))

        yield report


@contextmanager
def shown(quiet: bool) -> Iterator[Callable[["Progress"], None]]:
    """What shows the progress of a training to a person."""
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
        left = seconds / (progress.step - progress.begun_at) * (progress.steps - progress.step)
        epoch = f"epoch {progress.epoch}/{progress.settings.epochs}"
        console.print(f"{epoch}: {described(progress)}, {speed(progress, seconds)}, {left:.0f} s left")


def described(progress: "Progress") -> str:
    """The loss and its parts, in nats an image."""
    parts = f" = {progress.reconstruction:.2f} + {progress.kl:.2f} KL" if progress.kl else ""
    return f"loss {progress.loss:.2f}{parts} nats"


def speed(progress: "Progress", seconds: float) -> str:
    """Pictures a second since this run began."""
    return f"{(progress.step - progress.begun_at) * progress.settings.batch_size / seconds:,.0f} pictures/s"


@contextmanager
def counting(total: int | None) -> Iterator[Callable[[int], None]]:
    """What shows how many pictures of `total` are done: a bar with the rate and the time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("left"))
    with Bar(*columns, console=stderr_console(), transient=True) as bar:
        task = bar.add_task("", total=total, rate="")
        start = perf_counter()
        yield lambda done: bar.update(task, completed=done, rate=f"{done / (perf_counter() - start):,.0f} pictures/s")


def watched(batches: Iterable[T], size: Callable[[T], int], total: Callable[[], int | None], quiet: bool) -> Iterator[T]:
    """The batches as they come, `size` of each pictures; work that takes longer than a moment gets a bar, on a terminal.

    `total` is asked how many pictures there are only then.
    """
    if quiet or not os.isatty(2):
        yield from batches
        return
    start, done = perf_counter(), 0
    with ExitStack() as stack:
        report: Callable[[int], None] | None = None
        for batch in batches:
            yield batch
            done += size(batch)
            if report is None and perf_counter() - start > MOMENT:
                report = stack.enter_context(counting(total()))
            if report:
                report(done)


LABELS = {
    "neg_elbo": ("-ELBO", "nats"),
    "reconstruction": ("  -log p(x|z)", "nats"),
    "kl": ("  KL", "nats"),
    "nll": ("NLL", "nats"),
    "mse": ("MSE", ""),
    "psnr": ("PSNR", "dB"),
    "ssim": ("SSIM", ""),
}


def say_figures(figures: Mapping[str, float]) -> None:
    """The figures, one a line, each beside what it was before where pictures were spoiled."""
    console = stderr_console()
    for name, (label, unit) in LABELS.items():
        # Without a distribution there is no bound, only its first part.
        if name not in figures or (not figures["kl"] and name in ("neg_elbo", "kl")):
            continue
        digits = ".2f" if unit else ".4f"
        before = f"  (spoiled: {figures[f'{name}_before']:{digits}})" if f"{name}_before" in figures else ""
        console.print(f"  {label:<14}{figures[name]:>9{digits}} {unit}{before}".rstrip())


def say_trained(card: Card) -> None:
    """How good the trained model is."""
    parts = "pictures" if card.network.latent else "crops"
    stderr_console().print(f"on {card.figures['pictures']:,} {card.figures['split']} {parts}:")
    say_figures({name: value for name, value in card.figures.items() if isinstance(value, float)})


def say_evaluation(summary: Mapping[str, Any]) -> None:
    """How good a model is, and how that was measured."""
    console = stderr_console()
    names = ("checkpoint", "model", "data", "split", "pictures", "binarization", "likelihood", "samples", "corrupt", "reduction")
    for name in names:
        if summary[name]:
            value = ", ".join(summary[name]) if isinstance(summary[name], list) else summary[name]
            console.print(f"{name:<14}{value}")
    say_figures(summary["figures"])
    if summary["latent"]:
        console.print(f"  {'active units':<14}{summary['active_units']:>9} of {summary['latent']}")


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
        learned = np.concatenate([clean, model.denoise(clean)])
    terminal.draw(console, sheets.sheet(learned, 8))
