"""vaectl curves."""

import os
from typing import Annotated, Literal, get_args

import typer

from vaectl.base.errors import UsageError
from vaectl.commands import options
from vaectl.commands.options import option
from vaectl.io import files

Format = Literal["png", "svg", "pdf", "csv"]
FORMATS = get_args(Format)

CHECKPOINTS_HELP = "The checkpoints of the runs (default: the one here)."
CHECKPOINTS = typer.Argument(
    metavar="[FILE]...", show_default=False, autocompletion=options.complete_checkpoints, help=CHECKPOINTS_HELP
)
OUTPUT = option("-o", "--output", metavar="FILE", help="The .png, .svg, .pdf or .csv to write; - is stdout.")


def curves(
    checkpoints: Annotated[list[str] | None, CHECKPOINTS] = None,
    checkpoint: options.CheckpointFile = None,
    output: Annotated[str | None, OUTPUT] = None,
    format: Annotated[Format | None, options.FORMAT] = None,
    quiet: options.Quiet = False,
) -> None:
    """Plots the metrics of each epoch of several runs, one panel per metric. A terminal gets text, a pipe a
    PNG; a CSV has a line for each run and epoch. Figures need matplotlib: pip install 'vaectl[curves]'.

    \b
      vaectl curves vae.safetensors
      vaectl curves run1.safetensors run2.safetensors -o curves.png
      vaectl curves *.safetensors --format csv > curves.csv
    """
    chosen = format or os.path.splitext(output or "")[1].lower().removeprefix(".") or "png"
    if chosen not in FORMATS:
        raise UsageError(f"{output!r}: this command writes {', '.join(FORMATS)}: change the suffix of -o, or add --format")
    to_terminal = output is None and files.stdout_is_terminal()
    if to_terminal and format not in (None, "csv"):
        raise UsageError(f"stdout is a terminal: name a file (-o curves.{format}), or leave out --format")
    if output:
        files.check_writable(output)

    from vaectl.evaluation import curves as training_curves

    finished = [path for path in checkpoints or [] if not path.endswith(options.STATE_SUFFIX)]
    runs = training_curves.read_runs(finished or [options.find_checkpoint(checkpoint)])
    if to_terminal and format is None:
        for line in training_curves.describe(runs):
            files.write_line(line)
        return
    data = training_curves.make_table(runs) if chosen == "csv" else training_curves.draw(runs, chosen)
    with files.open_output(output or files.STDOUT) as stream:
        stream.write(data)
