"""vaectl interpolate."""

from functools import cache
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vaectl.base.errors import UsageError
from vaectl.commands import options

if TYPE_CHECKING:
    from PIL.Image import Image

    from vaectl.base.arrays import Array
    from vaectl.models.autoencoder import Autoencoder


def interpolate(
    *,
    inputs: options.ImagesOrLatents = None,
    steps: Annotated[
        int, typer.Option("--steps", min=2, metavar="N", help="Steps from each image or latent to the next, ends included.")
    ] = 10,
    method: Annotated[
        Literal["linear", "slerp"], typer.Option("--method", help="Interpolate along a straight line or a great circle.")
    ] = "linear",
    loop: Annotated[bool, typer.Option("--loop", help="Return from the last item to the first.")] = False,
    reading: options.ReadOptions,
    model_options: options.ModelOptions,
    output: options.Output = None,
    format: options.AnyFormat = None,
    layout: options.LayoutOptions,
    quiet: options.Quiet = False,
) -> None:
    """Interpolates in the latent space from each image or latent to the next. A pipe or an .npy gets latents; an image or an
    animation gets decoded images. From latents to latents, no checkpoint is needed.

    \b
      vaectl interpolate a.png b.png --steps 30 -o walk.gif
      vaectl interpolate mnist:3 mnist:18 --loop -o walk.gif
      vaectl encode a.png b.png | vaectl interpolate --steps 10 | vaectl decode -o strip.png
    """
    import numpy as np

    from vaectl.datasets.named import open_sources
    from vaectl.images import resize
    from vaectl.io.inputs import read_points
    from vaectl.io.outputs import ALL_FORMATS, parse_destination, write_either
    from vaectl.io.records import Sample, batched
    from vaectl.models import latents

    destination = parse_destination(output, format, ALL_FORMATS, animate=layout.animate)

    @cache
    def model() -> "Autoencoder":
        return model_options.load()

    def encode(image: "Image") -> "Array":
        pixels = resize.to_pixels(resize.resize_image(image, model().card.resize_spec))
        z: Array = model().encode(resize.invert(pixels) if reading.invert else pixels)[0]
        return z

    # The model is loaded only when the first image or the output needs it.
    sources = open_sources(inputs or [], "IMAGES, or an NPY or CSV of latents")
    points = read_points(sources, encode, skip_bad=reading.skip_bad)
    knots = np.concatenate([batch.arrays for batch in points])
    if len(knots) < 2:
        raise UsageError("interpolation needs two points: give at least two images or latents")
    path = enumerate(latents.path(knots, steps, method, loop=loop))
    batches = batched(Sample(f"step-{index:05d}", z) for index, z in path)
    write_either(batches, destination, lambda z: model().decode(z), layout.make_layout())
