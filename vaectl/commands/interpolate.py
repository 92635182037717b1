"""vaectl interpolate."""

from functools import cache
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vaectl.commands import options
from vaectl.errors import UsageError

if TYPE_CHECKING:
    from vaectl.autoencoder import Autoencoder


def interpolate(
    inputs: options.PicturesOrLatents = None,
    steps: Annotated[int, typer.Option("--steps", min=2, metavar="N", help="From each item to the next, ends included.")] = 10,
    method: Annotated[
        Literal["linear", "slerp"], typer.Option("--method", help="Along a straight line, or along a great circle.")
    ] = "linear",
    loop: Annotated[bool, typer.Option("--loop", help="Go on from the last to the first.")] = False,
    checkpoint: options.CheckpointFile = None,
    output: options.Output = None,
    format: options.AnyFormat = None,
    columns: options.Columns = None,
    scale: options.Scale = 1,
    animate: options.Animate = False,
    fps: options.FramesPerSecond = 10,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Walks through the latent space from each picture or latent to the next: latents into a pipe or an array, decoded pictures
    into a picture or an animation. From latents to latents it needs no checkpoint.

    \b
      vaectl interpolate a.png b.png --steps 30 -o walk.gif
      vaectl encode a.png b.png | vaectl interpolate --steps 10 | vaectl decode -o strip.png
    """
    import numpy as np

    from vaectl import autoencoder, latents
    from vaectl.commands import terminal
    from vaectl.io import sinks, sources

    place = sinks.destination(output, format, sinks.ANY_FORMATS, animate=animate)

    @cache
    def model() -> "Autoencoder":
        return autoencoder.load(options.checkpoint_file(checkpoint), device)

    # A function, for the model is loaded when the first picture or the first decoding asks for it.
    points = sources.read_points(inputs or [], lambda picture: model().encode_one(picture))
    knots = np.concatenate([batch.arrays for batch in points])
    if len(knots) < 2:
        raise UsageError("a walk needs two points: give two pictures or latents, or more")
    steps_taken = enumerate(latents.path(knots, steps, method, loop=loop))
    walk = sources.batched(((f"step-{index:05d}", z) for index, z in steps_taken), "latents")
    sinks.write_either(walk, place, lambda z: model().decode(z), sinks.Layout(terminal.show, columns, scale, fps))
