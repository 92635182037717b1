"""Messages for people, on stderr, and JSON results.

rich is imported where it is used, because most commands print nothing.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from itertools import takewhile
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from vaectl.base.arrays import UInt8Array
from vaectl.base.text import escape
from vaectl.io import files, terminal
from vaectl.io.records import Batch
from vaectl.io.sources import Source, count_inputs
from vaectl.models import latents
from vaectl.models.autoencoder import Autoencoder
from vaectl.models.checkpoint import Card
from vaectl.models.metric_labels import BEFORE, METRICS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from vaectl.evaluation.evaluate import Evaluation
    from vaectl.training.progress import Progress

BAR_DELAY = 1.0  # seconds of work before a bar appears
BAR_INTERVAL = 0.1
LINE_INTERVAL = 60.0
N_PREVIEW = 8


def print_line(line: str, console: "Console | None" = None) -> None:
    """Print a line on stderr. Nothing in it controls the terminal, whatever files contain."""
    (console or terminal.make_console(stderr=True)).print(escape(line))


class TrainingDisplay(AbstractContextManager["TrainingDisplay"]):
    """Shows a training run: on a terminal a bar below one line per epoch; elsewhere one line per epoch and at least one a minute.

    With `as_json`, each epoch is also a JSON line on stdout. Use it as a context manager.
    """

    def __init__(self, quiet: bool, as_json: bool) -> None:
        self.quiet = quiet
        self.as_json = as_json
        self.console = terminal.make_console(stderr=True)
        self.next_update = perf_counter() + (BAR_DELAY if self.console.is_terminal else LINE_INTERVAL)
        self.bar: Bar | None = None
        self.task: TaskID | None = None

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Remove the bar."""
        if self.bar:
            self.bar.stop()

    def on_read(self, done: int, total: int | None) -> None:
        """Show how many images have been read."""
        if self.is_due():
            self.update(f"reading: {done:,}{f' of {total:,}' if total else ''} images", done, total)

    def on_progress(self, progress: "Progress") -> None:
        """Show how far training is."""
        if progress.ends_epoch and self.as_json:
            write_json({"epoch": progress.epoch, **progress.means()}, indent=None)
        if self.is_due() or progress.ends_epoch:
            text = describe_progress(progress)
            if progress.ends_epoch:
                self.print(text)
            self.update(text, progress.step, progress.steps, printed=progress.ends_epoch)

    def on_end(self, model: Autoencoder, held_out: UInt8Array) -> None:
        """Show what was learned."""
        self.stop()
        if not self.quiet:
            print_preview(model, held_out)
            print_trained(model.card)

    def is_due(self) -> bool:
        """Whether enough time has passed since the last update."""
        return not self.quiet and perf_counter() >= self.next_update

    def print(self, line: str) -> None:
        """Print a line that stays."""
        if not self.quiet:
            print_line(line, self.console)

    def update(self, text: str, done: int, total: int | None, *, printed: bool = False) -> None:
        """Move the bar, or print a line where there is none."""
        self.next_update = perf_counter() + (BAR_INTERVAL if self.console.is_terminal else LINE_INTERVAL)
        if self.quiet:
            return
        if not self.console.is_terminal:
            if not printed:
                self.print(text)
            return
        if self.bar is None:
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=20)
            self.bar = Bar(*columns, console=self.console, transient=True)
            self.task = self.bar.add_task("", total=None)
            self.bar.start()
        assert self.task is not None
        self.bar.update(self.task, description=text, total=total, completed=done)


def describe_progress(progress: "Progress") -> str:
    """The epoch, the loss and its parts, the speed and the time left."""
    config, done = progress.config, progress.step - progress.first_step
    parts = ""
    if progress.kl and config.objective == "elbo":  # only the ELBO is the sum of these parts
        beta = "" if config.beta == 1 else f"{config.beta:g} x "
        parts = f" = {progress.reconstruction:.2f} + {beta}{progress.kl:.2f} KL"
    speed = f"{done * config.batch_size / max(progress.seconds, 1e-9):,.0f} images/s"
    left = progress.seconds / done * (progress.steps - progress.step)
    held_out = ""
    if "psnr_before" in progress.held_out:
        held_out = f", held out {progress.held_out['psnr']:.2f} dB (corrupted {progress.held_out['psnr_before']:.2f})"
    elif progress.held_out:
        held_out = f", held out {progress.held_out['loss']:.2f}"
    return f"epoch {progress.epoch}/{config.epochs}: loss {progress.loss:.2f}{parts} nats{held_out}, {speed}, {left:.0f} s left"


@contextmanager
def counter(quiet: bool) -> Iterator[Callable[[int, Callable[[], int | None]], None]]:
    """A function that counts images, called with how many more are done and a function that returns the total.

    On a terminal it shows a bar if the work takes more than a moment; only then is the total asked for.
    """
    if quiet or not os.isatty(2):
        yield lambda more, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("left"))
    bar = Bar(*columns, console=terminal.make_console(stderr=True), transient=True)
    task = bar.add_task("", total=None, rate="")
    start, done = perf_counter(), 0

    def count(more: int, total: Callable[[], int | None]) -> None:
        nonlocal done
        done += more
        seconds = perf_counter() - start
        if seconds < BAR_DELAY:
            return
        if not bar.live.is_started:
            bar.update(task, total=total())
            bar.start()
        bar.update(task, completed=done, rate=f"{done / seconds:,.0f} images/s")

    try:
        yield count
    finally:
        bar.stop()


def track(batches: Iterable[Batch], sources: Sequence[Source], quiet: bool) -> Iterator[Batch]:
    """The batches read from sources, with a bar on a terminal if they take more than a moment."""
    with counter(quiet) as count:
        for batch in batches:
            yield batch
            count(len(batch), lambda: count_inputs(sources))


def print_metrics(metrics: Mapping[str, float]) -> None:
    """Print the metrics, one per line, beside those of the corrupted images if there are any."""
    for name, (label, unit) in METRICS.items():
        # Without q(z|x) there is no ELBO, only the reconstruction.
        if name not in metrics or (not metrics["kl"] and name in ("neg_elbo", "kl")):
            continue
        digits = ".2f" if unit else ".4f"
        before = f"  (corrupted: {metrics[name + BEFORE]:{digits}})" if name + BEFORE in metrics else ""
        label = f"  {label}" if metrics["kl"] and name in ("reconstruction", "kl") else label  # the parts of -ELBO
        print_line(f"  {label:<20}{metrics[name]:>9{digits}} {unit}{before}".rstrip())


def print_trained(card: Card) -> None:
    """Print the metrics of a trained model, and its epoch unless that is the last one."""
    kept, last = card.metrics["epoch"], len(card.epochs)
    if kept < last:
        then, now = (describe_held_out(card.epochs[epoch - 1]) for epoch in (kept, last))
        print_line(f"kept epoch {kept} of {last}, the best on held-out images: {then}, {now} at the end")
    what = "images" if card.network.has_latent else "crops"
    print_line(f"on {card.metrics['images']:,} {card.metrics['split']} {what}:")
    print_metrics({name: value for name, value in card.metrics.items() if isinstance(value, float)})


def describe_held_out(epoch: Mapping[str, float]) -> str:
    """How good a network was on held-out images after an epoch: the PSNR of a denoiser, else the loss."""
    return f"{epoch['held_out_psnr']:.2f} dB" if "held_out_psnr_before" in epoch else f"{epoch['held_out_loss']:.2f} nats"


def print_evaluation(evaluation: "Evaluation") -> None:
    """Print the metrics of a model, and how they were computed."""
    for name, value in takewhile(lambda item: item[0] != "metrics", asdict(evaluation).items()):
        text = f"{value:,}" if isinstance(value, int) else value if isinstance(value, str) else ", ".join(value or [])
        if text:
            print_line(f"{name:<14}{text}")
    print_metrics(evaluation.metrics)
    if evaluation.latent_dim:
        print_line(f"  {'active units':<20}{evaluation.active_units:>9} of {evaluation.latent_dim}")
    if evaluation.label_accuracy is not None:
        print_line(f"  {'label accuracy':<20}{evaluation.label_accuracy:>9.1%}")


def print_preview(model: Autoencoder, held_out: UInt8Array) -> None:
    """On a terminal, show what was learned: the latent plane if it has two dimensions, else held-out images."""
    console = terminal.make_console(stderr=True)
    if not console.is_terminal:
        return
    if model.latent_dim == 2 and model.network.variational:
        across, up = (latents.spaced(-3, 3, steps, "linear") for steps in (N_PREVIEW, N_PREVIEW // 2))
        terminal.draw(console, model.decode(latents.grid(np.zeros(2, np.float32), (0, 1), across, up)), N_PREVIEW)
        print_line("the latent plane from -3 to 3")
        return
    clean = held_out[:N_PREVIEW].astype(np.float32) / 255
    terminal.draw(console, np.concatenate([clean, model.reconstruct(clean)]), len(clean))
    print_line(f"{model.card.metrics['split']} images above, their reconstructions below")


def to_json(values: Mapping[str, Any], indent: int | None = 2) -> str:
    """JSON with sorted keys, or on one line in the given order."""
    return json.dumps(values, sort_keys=indent is not None, indent=indent)


def write_json(values: Mapping[str, Any], indent: int | None = 2) -> None:
    """Write a JSON result to stdout."""
    files.write_line(to_json(values, indent))
