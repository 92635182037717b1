"""vaectl evaluate."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vaectl.base import processes
from vaectl.base.errors import UsageError
from vaectl.commands import options
from vaectl.commands.options import option
from vaectl.io import files

if TYPE_CHECKING:
    from vaectl.training.metrics import Metrics


SPLIT = typer.Option("--split", help="Split to evaluate.")
SAMPLES = typer.Option("--samples", min=0, max=1_000_000, metavar="K", help="Importance samples per image; 0 skips the NLL.")
BINARIZE = option(
    "--binarize/--grey", " /--gray", help="Sample each pixel once as 0 or 1, or keep gray values (default: as in training)."
)
PER_IMAGE = typer.Option("--per-image", help="Write one CSV line per image, worst first.")
JSON = typer.Option("--json", help="Print JSON, even on a terminal.")
OUTPUT = option("-o", "--output", metavar="FILE", help="Write the JSON or CSV to a file.")


@dataclass(frozen=True)
class DataOptions:
    """The images that are evaluated, and how they are prepared."""

    data: Annotated[str | None, options.DATA] = None
    noisy: options.Noisy = None
    split: Annotated[Literal["test", "train"], SPLIT] = "test"
    binarize: Annotated[bool | None, BINARIZE] = None
    corrupt: options.Corrupt = None
    shard: options.Shard = None
    skip_bad: options.SkipBad = False


def evaluate(
    *,
    images: DataOptions,
    samples: Annotated[int, SAMPLES] = 1000,
    per_image: Annotated[bool, PER_IMAGE] = False,
    as_json: Annotated[bool, JSON] = False,
    model_options: options.ModelOptions,
    output: Annotated[str | None, OUTPUT] = None,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Computes -ELBO and its parts and NLL by importance sampling, under N(0, I) and under the learned prior; MSE, PSNR, SSIM and
    active units; for a denoiser, before and after. Prints a table on stderr, and JSON on stdout if that is a pipe. The data are
    those of training unless --data names others; a folder is evaluated whole. If the model was trained on that folder,
    --per-image says which images it learned from (train) and which were held out (test), and ranks each among its own.

    \b
      vaectl evaluate
      vaectl evaluate -c run3.safetensors --samples 5000 --json
      vaectl evaluate --data faces/ --per-image -o outliers.csv
    """
    kind = "csv" if per_image else "json"
    if per_image and as_json:
        raise UsageError("--per-image writes CSV: leave out --json")
    if output and os.path.splitext(output)[1] not in ("", f".{kind}"):
        raise UsageError(f"{output!r}: evaluate writes {kind} with these options: change the suffix of -o")
    if images.noisy and not images.data:
        raise UsageError("--noisy goes with --data, the folder of the clean images")
    if per_image and processes.world_size() > 1:
        raise UsageError("--per-image does not run under torchrun: start separate processes with --shard, as in --shard 2/8")
    if output:
        files.check_writable(output)
    path = options.find_checkpoint(model_options.checkpoint)

    from vaectl.base.memory import reuse_large_blocks
    from vaectl.commands import console
    from vaectl.evaluation import evaluate
    from vaectl.io.sources import parse_shard
    from vaectl.training.metrics import join_metrics

    reuse_large_blocks()
    names: list[str] = []
    splits: list[str] = []  # of the training folder
    parts: list[Metrics] = []

    speaks = processes.rank() == 0
    with console.counter(quiet or not speaks) as count:

        def on_batch(batch: Sequence[str], metrics: "Metrics", total: int | None, learned_split: str | None) -> None:
            count(len(batch), lambda: total)
            if per_image:
                names.extend(batch)
                splits.extend([learned_split] * len(batch) if learned_split else [])
                parts.append(metrics)

        result = evaluate.evaluate(
            path,
            **vars(images) | {"shard": parse_shard(images.shard) if images.shard else None},
            samples=samples,
            seed=seed,
            device=model_options.device,
            on_batch=on_batch,
        )
    if not speaks:
        return
    if not quiet:
        console.print_evaluation(result)

    def lines() -> Iterator[bytes]:
        if per_image:
            yield from rank_images(names, splits, join_metrics(parts))
        else:
            yield os.fsencode(console.to_json(asdict(result)) + "\n")

    if per_image or as_json or output or not files.stdout_is_terminal():
        with files.open_output(output or files.STDOUT) as stream:
            stream.writelines(lines())


def rank_images(names: Sequence[str], splits: Sequence[str], metrics: "Metrics") -> Iterator[bytes]:
    """A CSV table of images, the worst first; `splits` are those of images that the model was trained on, else empty.

    A model is better on images that it learned from than on held-out ones, so each is compared with its own split.
    """
    from vaectl.io.tables import format_record
    from vaectl.training.metrics import standardize

    scores = next(metrics[name] for name in ("nll_learned", "nll", "neg_elbo_learned", "neg_elbo") if name in metrics)
    columns = {name: [f"{value:.6g}" for value in values] for name, values in metrics.items()}
    if splits:
        scores = standardize(scores, splits)
        columns = {"split": [*splits], "z_score": [f"{score:.4g}" for score in scores]} | columns
    yield format_record("name", *columns)
    for index in sorted(range(len(names)), key=lambda index: -scores[index]):
        yield format_record(names[index], *(column[index] for column in columns.values()))
