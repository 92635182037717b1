"""vaectl evaluate."""

import csv
import json
import os
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vaectl.commands import options
from vaectl.errors import UsageError, VaectlError
from vaectl.io import files

if TYPE_CHECKING:
    from vaectl.datasets import Bytes
    from vaectl.evaluation import Figures


def evaluate(
    data: Annotated[str | None, options.DATA] = None,
    split: Annotated[Literal["test", "train"], typer.Option("--split", help="Of the data.")] = "test",
    samples: Annotated[int, typer.Option("--samples", min=0, metavar="K", help="Of importance sampling; 0: no NLL.")] = 1000,
    binarize: Annotated[
        bool | None,
        typer.Option("--binarize/--grey", show_default=False, help="Draw each pixel once as white or black; as in training."),
    ] = None,
    corrupt: options.Corrupt = None,
    per_image: Annotated[bool, typer.Option("--per-image", help="A CSV line a picture, the worst first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout, on a terminal too.")] = False,
    checkpoint: options.CheckpointFile = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE", show_default=False, help="The JSON or CSV goes to a file."),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Says -ELBO and its parts, NLL by importance sampling, MSE, PSNR, SSIM and the active units; of a model that learned from
    spoiled pictures, before and after. A table on stderr, JSON on stdout when it is piped. The data are those it learned from,
    unless others are named, which may be a folder too.

    \b
      vaectl evaluate
      vaectl evaluate -c run3.safetensors --samples 5000 --json
      vaectl evaluate --data faces/ --per-image -o outliers.csv
    """
    from vaectl import checkpoint as checkpoints
    from vaectl import corruption, datasets
    from vaectl import device as devices
    from vaectl.commands import console

    kind = "csv" if per_image else "json"
    if per_image and as_json:
        raise UsageError("--per-image writes CSV: leave out --json")
    if output and os.path.splitext(output)[1] not in ("", f".{kind}"):
        raise UsageError(f"{output!r}: evaluate writes {kind} here: change the suffix of -o")
    if output:
        files.check_writable(output)
    path = options.checkpoint_file(checkpoint)
    found = checkpoints.load(path)
    card = found.card
    name = data or str(card.data.get("name"))
    names, pictures = judged(name, split, card.network.picture)
    specs = list(card.corrupt) if corrupt is None else corrupt
    binarized = bool(card.training.get("binarize")) if binarize is None else binarize

    from vaectl import evaluation, objective

    likelihood = objective.likelihood(card.likelihood, card.sigma)
    judge = evaluation.Judge(card.network, found.tensors, likelihood, devices.resolve(device))
    measure = evaluation.Measure(corruption.parse(specs), samples, binarized, True, seed)
    with console.counting(quiet, len(pictures)) as report:
        figures = judge.figures(pictures, measure, report)
    summary = {
        "checkpoint": path,
        "model": card.model,
        "data": name,
        "split": split if os.path.isfile(name) or name == datasets.BUNDLED else "whole folder",
        "pictures": len(pictures),
        "binarization": "each pixel drawn once" if binarized else "none, grey values are probabilities",
        "likelihood": card.likelihood,
        "samples": samples if "nll" in figures else None,
        "corrupt": specs,
        "reduction": "nats: sums over pixels and latent dimensions, means over pictures",
        "figures": evaluation.means(figures),
        "active_units": judge.active_units(pictures),
        "latent": card.network.latent,
    }
    if not quiet:
        console.say_evaluation(summary)
    if per_image:
        write(table(names, figures), output)
    elif as_json or output or not files.stdout_is_terminal():
        write(json.dumps(summary, indent=2) + "\n", output)


def judged(name: str, split: str, shape: tuple[int, ...]) -> tuple[Sequence[str], "Bytes"]:
    """The names and the pictures of a data set's split, or of a folder, where they are brought to `shape`.

    Raises:
        VaectlError: data that are not there, of another size, or without pictures in that split.
    """
    import numpy as np

    from vaectl import datasets
    from vaectl.io import sources

    if os.path.isdir(name):
        batches = list(sources.read_pictures([name], shape))
        stack = np.concatenate([batch.arrays for batch in batches])
        return [own for batch in batches for own in batch.names], np.rint(stack * 255).astype(np.uint8)
    dataset = datasets.load(name)
    if dataset.picture != shape:
        raise VaectlError(f"{name!r} has pictures of {dataset.picture}, the model is of {shape}: name other --data")
    pictures = dataset.test if split == "test" else dataset.train
    if not len(pictures):
        raise VaectlError(f"{name!r} has no {split} pictures: try --split train")
    return [f"{split}-{index:05d}" for index in range(len(pictures))], pictures


def table(names: Sequence[str], figures: "Figures") -> str:
    """A CSV line a picture, the least likely first."""
    badness = figures.get("nll", figures["neg_elbo"])
    text = StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["name", *figures])
    for index in (-badness).argsort(kind="stable"):
        lines.writerow([names[index], *(f"{values[index]:.6g}" for values in figures.values())])
    return text.getvalue()


def write(text: str, output: str | None) -> None:
    """The text to a file or to stdout; names with undecodable bytes go out as they came in."""
    with files.written(output or files.STDOUT) as stream:
        stream.write(text.encode("utf-8", "surrogateescape"))
