"""vaectl grid."""

from math import isfinite
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vaectl.commands import options
from vaectl.errors import UsageError

if TYPE_CHECKING:
    from vaectl.autoencoder import Array, Autoencoder

PRIOR_RANGE = (-3.0, 3.0)


def grid(
    range_: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--range", metavar="LOW HIGH", show_default=False, help="Of both dimensions; -3 3 for a VAE, else what training saw."
        ),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, max=200, metavar="N", help="Pictures along each side.")] = 20,
    dims: Annotated[tuple[int, int], typer.Option("--dims", metavar="I J", help="The dimensions that vary, counted from 0.")] = (
        0,
        1,
    ),
    spacing: Annotated[
        Literal["linear", "quantile"],
        typer.Option("--spacing", help="Equal steps in z, or in the normal's probability."),
    ] = "linear",
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="PICTURE|NPY", show_default=False, help="Where the other dimensions stay; 0 otherwise."),
    ] = None,
    checkpoint: options.CheckpointFile = None,
    output: options.Output = None,
    format: options.StillFormat = None,
    scale: options.Scale = 1,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """The first dimension runs rightwards, the second upwards.

    \b
      vaectl grid --range -3 3 -o latent.png
      vaectl grid --spacing quantile --steps 12 --scale 2 -o plane.png
    """
    import numpy as np

    from vaectl import autoencoder, latents
    from vaectl.commands import terminal
    from vaectl.io import sinks, sources
    from vaectl.io.sources import Batch

    place = sinks.destination(output, format, sinks.STILL_FORMATS)
    if range_ and not (all(map(isfinite, range_)) and range_[0] < range_[1]):
        raise UsageError(f"--range {range_[0]:g} {range_[1]:g} is no range: give a lower and a higher number, as in --range -3 3")
    model = autoencoder.load(options.checkpoint_file(checkpoint), device)
    if len({*dims} & {*range(model.latent)}) < 2:
        raise UsageError(f"--dims {dims[0]} {dims[1]}: give two of this model's {model.latent} latent dimensions, counted from 0")
    centre = np.zeros(model.latent, np.float32)
    if at:
        centre = next(sources.read_points([at], model.encode_one, model.latent)).arrays[0]
    across, up = (spaced(model, dimension, range_, steps, spacing) for dimension in dims)
    points = latents.grid(centre, dims, across, up)
    names = [f"{row:03d}-{column:03d}" for row in range(steps) for column in range(steps)]
    sinks.write_pictures([Batch(names, model.decode(points))], place, sinks.Layout(terminal.show, steps, scale))


def spaced(model: "Autoencoder", dimension: int, given: tuple[float, float] | None, steps: int, spacing: str) -> "Array":
    """Where the pictures of the plane lie along one dimension."""
    from vaectl import latents

    seen = model.card.latent
    if model.card.network.variational:
        return latents.spaced(*(given or PRIOR_RANGE), steps, spacing)
    # A plain autoencoder has no prior: its latents lie where training left them.
    low, high = given or (seen.percentile_1[dimension], seen.percentile_99[dimension])
    return latents.spaced(low, high, steps, spacing, seen.mean[dimension], seen.std[dimension])
