"""vaectl evaluate."""

import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vaectl.commands import options
from vaectl.errors import UsageError, VaectlError
from vaectl.io import files

if TYPE_CHECKING:
    from vaectl.checkpoint import Card
    from vaectl.datasets import Bytes

    # Pictures, (N, H, W, C), and the name of each.
    Named = tuple[Sequence[str], Bytes]

AT_ONCE = 500  # pictures


def evaluate(
    data: Annotated[str | None, options.DATA] = None,
    split: Annotated[Literal["test", "train"], typer.Option("--split", help="Of the data.")] = "test",
    samples: Annotated[
        int, typer.Option("--samples", min=0, max=1_000_000, metavar="K", help="Of importance sampling; 0: no NLL.")
    ] = 1000,
    binarize: Annotated[
        bool | None,
        typer.Option("--binarize/--grey", show_default=False, help="Draw each pixel once as white or black; as in training."),
    ] = None,
    corrupt: options.Corrupt = None,
    skip_bad: options.SkipBad = False,
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
    from vaectl import corruption
    from vaectl import device as devices
    from vaectl.commands import console
    from vaectl.io import sinks
    from vaectl.io.ranking import Ranking

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
    # A folder that is named is judged as a whole; one that was learned from has pictures that were held out.
    is_folder = data is not None and os.path.isdir(data)
    specs = list(card.corrupt) if corrupt is None else corrupt
    corruptions = corruption.parse(specs, photographs=not card.network.latent)
    binarized = bool(card.training.get("binarize")) if binarize is None else binarize
    batches, expected = pictures_of(name, None if is_folder else split, card, skip_bad=skip_bad)

    from vaectl import evaluation, objective

    likelihood = objective.likelihood(card.likelihood, card.sigma, card.network.linear)
    judge = evaluation.Judge(card.network, found.tensors, likelihood, devices.resolve(device))
    measure = evaluation.Measure(corruptions, samples, binarized, True, seed)
    tally, ranking, spread = evaluation.Tally(), Ranking(), evaluation.Spread()
    names: deque[str] = deque()

    def stacks() -> Iterator["Bytes"]:
        for own, pictures in batches:
            names.extend(own if per_image else ())
            spread.add(judge.latents(pictures))
            yield pictures

    measured = judge.measured(stacks(), measure)
    for figures in console.watched(measured, lambda part: len(part["mse"]), lambda: expected, quiet):
        tally.add(figures)
        for index, badness in enumerate(figures.get("nll", figures["neg_elbo"]) if per_image else ()):
            ranking.add(badness, sinks.csv_line(names.popleft(), *(f"{values[index]:.6g}" for values in figures.values())))
    summary = {
        "checkpoint": path,
        "model": card.model,
        "data": name,
        "split": "whole folder" if is_folder else split,
        "pictures": tally.count,
        "binarization": "each pixel drawn once" if binarized else "none, grey values are probabilities",
        "likelihood": card.likelihood,
        "samples": samples if "nll" in tally.sums else None,
        "corrupt": specs,
        "reduction": "nats: sums over pixels and latent dimensions, means over pictures",
        "figures": tally.means(),
        "active_units": spread.active_units(),
        "latent": card.network.latent,
    }
    if not quiet:
        console.say_evaluation(summary)
    if per_image:
        with files.written(output or files.STDOUT) as stream:
            stream.write(sinks.csv_line("name", *tally.sums))
            stream.writelines(ranking.largest_first())
    elif as_json or output or not files.stdout_is_terminal():
        with files.written(output or files.STDOUT) as stream:
            stream.write(os.fsencode(json.dumps(summary, indent=2) + "\n"))


def pictures_of(name: str, split: str | None, card: "Card", *, skip_bad: bool) -> tuple[Iterator["Named"], int]:
    """The pictures of a data set's split, or without one of a folder, as the model takes them, with their names; and how many.

    Raises:
        VaectlError: data that are not there, or without pictures in that split.
    """
    from vaectl import datasets
    from vaectl.io import parts, sources

    height, width, channels = card.network.picture
    if split is None:
        if card.network.latent:
            found = sources.read_pictures([name], card.frame, skip_bad=skip_bad)
        else:
            found = sources.read_photographs([name], channels, skip_bad=skip_bad)
        expected = parts.expected([name]) or 0
        return ((batch.names, (batch.arrays[..., :channels] * 255).round().astype("uint8")) for batch in found), expected
    whole = not card.network.latent
    dataset = datasets.load(name, datasets.Wish(None if whole else (height, width), channels, card.fit, whole, skip_bad))
    pictures = dataset.test if split == "test" else dataset.train
    if not len(pictures):
        raise VaectlError(f"{name!r} has no {split} pictures: try --split train")
    names = [f"{split}-{index:05d}" for index in range(len(pictures))]
    if isinstance(pictures, Sequence):
        return (([own], picture[None]) for own, picture in zip(names, pictures, strict=True)), len(pictures)
    starts = range(0, len(pictures), AT_ONCE)
    return ((names[start : start + AT_ONCE], pictures[start : start + AT_ONCE]) for start in starts), len(pictures)
