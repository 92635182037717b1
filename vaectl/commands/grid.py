"""vaectl grid."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vaectl.base.errors import UsageError
from vaectl.commands import options
from vaectl.commands.options import option

if TYPE_CHECKING:
    from vaectl.base.arrays import Array
    from vaectl.models.autoencoder import Autoencoder

VAE_RANGE = (-3.0, 3.0)
DEFAULT_STEPS = 20


RANGE_HELP = "Range of both dimensions (default: -3 3 for a VAE, else the 1st to 99th percentile in training)."
RANGE = option("--range", metavar="LOW HIGH", help=RANGE_HELP)
STEPS_HELP = "Images per side (default: 20; on a terminal, as many as are readable)."
STEPS = option("--steps", min=1, max=200, metavar="N", help=STEPS_HELP)
DIMS_HELP = "The dimensions that vary, counted from 0 (default: the two in which latents vary most)."
DIMS = option("--dims", metavar="I J", help=DIMS_HELP)
SPACING = typer.Option("--spacing", help="Equal steps in z (linear), or in probability under the normal distribution (quantile).")
AT_HELP = "Values of the other dimensions (default: 0 for a VAE, else their mean in training)."
AT = option("--at", metavar="IMAGE|NPY|CSV", autocompletion=options.complete_inputs, help=AT_HELP)


def grid(
    *,
    range_: Annotated[tuple[float, float] | None, RANGE] = None,
    steps: Annotated[int | None, STEPS] = None,
    dims: Annotated[tuple[int, int] | None, DIMS] = None,
    spacing: Annotated[Literal["linear", "quantile"], SPACING] = "linear",
    at: Annotated[str | None, AT] = None,
    model_options: options.ModelOptions,
    output: options.Output = None,
    format: options.StillFormat = None,
    scale: options.Scale = None,
    quiet: options.Quiet = False,
) -> None:
    """The first dimension increases to the right, the second upwards.

    \b
      vaectl grid --range -3 3 -o latent.png
      vaectl grid --spacing quantile --steps 12 --scale 2 -o plane.png
    """
    import numpy as np

    from vaectl.datasets.named import open_sources
    from vaectl.images.formats import STILL_FORMATS
    from vaectl.io import terminal
    from vaectl.io.inputs import read_points
    from vaectl.io.outputs import Layout, parse_destination, write_images
    from vaectl.io.records import Batch
    from vaectl.models import latents

    destination = parse_destination(output, format, STILL_FORMATS)
    if range_ and range_[0] >= range_[1]:
        raise UsageError(f"--range {range_[0]:g} {range_[1]:g}: give a lower and a higher number, as in --range -3 3")
    model = model_options.load()
    model.require_latent()
    stats = model.card.latent_stats
    dims = dims or most_varied_dims(stats.std)
    if len({*dims} & {*range(model.latent_dim)}) < 2:
        raise UsageError(f"--dims {dims[0]} {dims[1]}: give two of the {model.latent_dim} latent dimensions, counted from 0")
    center = np.zeros(model.latent_dim, np.float32) if model.network.variational else np.array(stats.mean, np.float32)
    if at:
        points = read_points(open_sources([at], ""), lambda image: model.encode(image)[0], model.latent_dim)
        center = next(points).arrays[0]
    if steps is None:
        width = model.image_shape[1]
        steps = min(DEFAULT_STEPS, terminal.stdout_columns(width)) if destination.is_terminal else DEFAULT_STEPS
    across, up = (axis_values(model, dim, range_, steps, spacing) for dim in dims)
    images = model.decode(latents.grid(center, dims, across, up))
    names = [f"{row:03d}-{column:03d}" for row in range(steps) for column in range(steps)]
    write_images([Batch(names, images)], destination, Layout(steps, scale))


def most_varied_dims(std: Sequence[float]) -> tuple[int, int]:
    """The two dimensions in which latents vary most, the lower one first; (0, 1) if there are no others."""
    if len(std) <= 2:
        return 0, 1
    first, second = sorted(sorted(range(len(std)), key=lambda dim: -std[dim])[:2])
    return first, second


def axis_values(model: "Autoencoder", dim: int, given: tuple[float, float] | None, steps: int, spacing: str) -> "Array":
    """The values of one dimension of the plane."""
    from vaectl.models import latents

    if model.network.variational:
        return latents.spaced(*(given or VAE_RANGE), steps, spacing)
    # A plain autoencoder has no prior: its latents lie where training put them.
    stats = model.card.latent_stats
    low, high = given or (stats.percentile_1[dim], stats.percentile_99[dim])
    return latents.spaced(low, high, steps, spacing, stats.mean[dim], stats.std[dim])
