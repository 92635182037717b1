"""vaectl sample."""

from typing import Annotated

import typer

from vaectl.commands import options
from vaectl.errors import VaectlError


def sample(
    count: Annotated[int, typer.Option("-n", "--count", min=1, metavar="N", help="How many.")] = 64,
    seed: options.Seed = 0,
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
    """Draws from the prior N(0, I): latents into a pipe or an array, decoded pictures into a picture.

    \b
      vaectl sample -n 64 --seed 1 | vaectl decode -o sheet.png
      vaectl sample -n 25 -o digits.png
    """
    from vaectl import autoencoder, latents
    from vaectl.commands import terminal
    from vaectl.io import sinks
    from vaectl.io.sources import Batch

    place = sinks.destination(output, format, sinks.ANY_FORMATS, animate=animate)
    path = options.checkpoint_file(checkpoint)
    model = autoencoder.load(path, device)
    if not model.card.network.variational:
        raise VaectlError(
            f"{path!r} is of kind {model.card.model!r} and has no prior to draw from: use a vae with a --beta above 0"
        )
    names = [f"sample-{index:05d}" for index in range(count)]
    drawn = Batch(names, latents.prior(count, model.latent, seed))
    sinks.write_either([drawn], place, model.decode, sinks.Layout(terminal.show, columns, scale, fps))
