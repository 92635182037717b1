"""Training curves: the metrics of each epoch, of several runs, as a table, as text and as a figure."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from itertools import cycle
from math import ceil
from typing import Any

from vaectl.base.errors import VaectlError
from vaectl.base.extras import importing
from vaectl.base.text import escape
from vaectl.io.tables import format_record
from vaectl.io.tensor_files import floats
from vaectl.models import checkpoint
from vaectl.models.metric_labels import BEFORE, format_epoch, label_metric, sort_metrics

# By the name of the run, the metrics of each epoch.
Runs = Mapping[str, Sequence[Mapping[str, float]]]

MAX_METRICS = 50  # more are not from a training

BARS = "▁▂▃▄▅▆▇█"
MAX_BARS = 40

N_COLUMNS = 3
PANEL_SIZE = (3.6, 2.5)  # inches
LEGEND_SIZE = (0.1, 0.2)  # inches, of a letter with its share of the line beside the name
MAX_NAME = 40  # letters
MAX_MARKED = 25  # epochs, beyond which points would only thicken the line
# Okabe & Ito's colors, which the color-blind can tell apart, without the yellow; then the same ones dashed.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ("-", "--", "-.")
STYLE: dict[Any, Any] = {
    "axes.edgecolor": "#999999",
    "axes.grid": True,
    "axes.labelcolor": "#444444",
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.size": 9,
    "grid.color": "#e8e8e8",
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "savefig.dpi": 150,
    "text.parse_math": False,
    "text.usetex": False,
    "xtick.color": "#666666",
    "ytick.color": "#666666",
}


def read_runs(paths: Sequence[str]) -> Runs:
    """The epochs of the runs that wrote these checkpoints; the name of a run is its path without the suffix.

    Raises:
        VaectlError: a checkpoint that cannot be read, or without epochs.
    """
    return {path.removesuffix(".safetensors"): read_epochs(path) for path in paths}


def read_epochs(path: str) -> Sequence[Mapping[str, float]]:
    """The metrics of each epoch on the card of a checkpoint.

    Raises:
        VaectlError: it cannot be read, has none, or has something else there.
    """
    epochs = checkpoint.load(path).card.epochs
    if not any(epochs):
        raise VaectlError(f"{path!r} has no training epochs: give a checkpoint that vaectl train wrote")
    try:
        if len({name for epoch in epochs for name in epoch}) > MAX_METRICS:
            raise ValueError(f"more than {MAX_METRICS} metrics")
        return [dict(zip(epoch, floats([*epoch.values()]), strict=True)) for epoch in epochs]
    except ValueError as error:
        raise VaectlError(f"the epochs of {path!r} are damaged: {error}: give a checkpoint that vaectl train wrote") from error


def list_metrics(runs: Runs) -> list[str]:
    """The names of all metrics, in order."""
    return sort_metrics(name for epochs in runs.values() for epoch in epochs for name in epoch)


def panels_of(runs: Runs) -> list[str]:
    """The metrics that have a panel: not the parts of a loss without KL, nor those of corrupted images beside denoised ones."""
    metrics = list_metrics(runs)
    has_parts = "loss" not in metrics or any(epoch.get("kl") for epochs in runs.values() for epoch in epochs)
    left_out = {*(name + BEFORE for name in metrics), *(() if has_parts else ("reconstruction", "kl"))}
    return [name for name in metrics if name not in left_out]


def series(epochs: Sequence[Mapping[str, float]], metric: str) -> tuple[list[int], list[float]]:
    """The epochs that have a metric, counted from 1, and its values."""
    found = {number: epoch[metric] for number, epoch in enumerate(epochs, 1) if metric in epoch}
    return [*found], [*found.values()]


def make_table(runs: Runs) -> bytes:
    """A CSV table: a line for each run and epoch, a column for each metric."""
    metrics = list_metrics(runs)
    lines = [format_record("run", "epoch", *metrics)]
    for run, epochs in runs.items():
        for number, epoch in enumerate(epochs, 1):
            lines.append(format_record(run, *format_epoch(number, epoch, metrics)))
    return b"".join(lines)


def describe(runs: Runs) -> Iterator[str]:
    """Lines of text: for each metric and run the first value, a bar for each epoch, all at one scale, and the last value."""
    width = max(len(escape(run)) for run in runs)
    for metric in panels_of(runs):
        yield escape(label_metric(metric))
        found = {run: values for run, epochs in runs.items() if (values := series(epochs, metric)[1])}
        low, high = min(map(min, found.values())), max(map(max, found.values()))
        for run, values in found.items():
            yield f"  {escape(run):<{width}}  {values[0]:>10.2f}  {bars(values, low, high)}  {values[-1]:.2f}"


def bars(values: Sequence[float], low: float, high: float) -> str:
    """The values as bars; of very many, evenly spaced ones."""
    count = min(len(values), MAX_BARS)
    shown = [values[index * (len(values) - 1) // max(1, count - 1)] for index in range(count)]
    return "".join(BARS[round((value - low) / (high - low or 1) * (len(BARS) - 1))] for value in shown)


def draw(runs: Runs, format: str) -> bytes:
    """A figure with a panel for each metric and a line for each run, as "png", "svg" or "pdf".

    The metrics of corrupted images are dotted lines beside those of the denoised ones.

    Raises:
        VaectlError: matplotlib is not installed.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it logs about its cache
    with importing("curves"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

    metrics, names = panels_of(runs), [shorten(run) for run in runs]
    n_columns = min(N_COLUMNS, len(metrics))
    n_rows = ceil(len(metrics) / n_columns)
    width = PANEL_SIZE[0] * n_columns
    legend_columns = max(1, int(width / LEGEND_SIZE[0] / max(map(len, names))))
    height = PANEL_SIZE[1] * n_rows + LEGEND_SIZE[1] * ceil(len(runs) / legend_columns)
    looks: list[dict[str, Any]] = [{"linestyle": dash, "color": color} for dash in DASHES for color in COLORS]
    with rc_context(STYLE), warnings.catch_warnings(action="ignore"):  # of letters that the font lacks
        figure = Figure((width, height), layout="constrained")
        for index, metric in enumerate(metrics):
            axes = figure.add_subplot(n_rows, n_columns, index + 1, sharex=figure.axes[0] if index else None)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if index >= len(metrics) - n_columns:
                axes.set_xlabel("epoch")
            for epochs, look in zip(runs.values(), cycle(looks)):
                axes.plot(*series(epochs, metric), marker="." if len(epochs) <= MAX_MARKED else "", **look)
                axes.plot(*series(epochs, metric + BEFORE), color=look["color"], linestyle=":")
            dotted = ", corrupted: dotted" if metric + BEFORE in list_metrics(runs) else ""
            axes.set_title(shorten(label_metric(metric)) + dotted)
        lines = [Line2D([], [], label=name, **look) for name, look in zip(names, cycle(looks))]
        figure.legend(handles=lines, loc="outside upper left", ncols=legend_columns)
        figure.savefig(stream := BytesIO(), format=format)
    return stream.getvalue()


def shorten(name: str) -> str:
    """The end of a name, in letters that can be drawn."""
    text = escape(name)
    return text if len(text) <= MAX_NAME else f"…{text[1 - MAX_NAME :]}"
