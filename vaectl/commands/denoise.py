"""vaectl denoise."""

from typing import TYPE_CHECKING, Annotated

import typer

from vaectl.commands import options
from vaectl.errors import VaectlError

if TYPE_CHECKING:
    from vaectl.autoencoder import Array


def denoise(
    inputs: options.Pictures = None,
    corrupt: options.Corrupt = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show the clean, the spoiled and the restored picture, one above the other.")
    ] = False,
    invert: options.Invert = False,
    skip_bad: options.SkipBad = False,
    checkpoint: options.CheckpointFile = None,
    output: options.Output = None,
    format: options.PictureFormat = None,
    columns: options.Columns = None,
    scale: options.Scale = 1,
    animate: options.Animate = False,
    fps: options.FramesPerSecond = 10,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """The model must have learned from spoiled pictures: a dae, or any other trained with --corrupt. One of --net unet takes
    pictures of any size, and keeps their alpha and their 16 bits; others bring them to the size of those they learned from.

    \b
      vaectl denoise noisy/ -o clean/
      vaectl denoise img.png --corrupt gaussian:0.25 --compare -o compared.png
    """
    import numpy as np

    from vaectl import autoencoder, corruption
    from vaectl.commands import console, terminal
    from vaectl.io import parts, sinks, sources

    place = sinks.destination(output, format, sinks.PICTURE_FORMATS, animate=animate)
    path = options.checkpoint_file(checkpoint, first="dae")
    model = autoencoder.load(path, device)
    corruptions = corruption.parse(corrupt or [], photographs=not model.latent)
    if not model.card.corrupt:
        raise VaectlError(f"{path!r} is of kind {model.card.model!r} and learned from clean pictures: use a dae")
    draw = corruption.NumpyDraw(seed)

    def restored(clean: "Array") -> "Array":
        channels = model.picture[2]
        colours, alpha = clean[..., :channels], clean[..., channels:]
        spoiled = corruption.applied(corruptions, colours, draw).astype(np.float32)
        result = model.denoise(spoiled)
        rows = ([colours, spoiled, result] if corruptions else [colours, result]) if compare else [result]
        return np.concatenate([np.concatenate([row, alpha], axis=3) for row in rows], axis=1)

    if model.latent:
        batches = sources.read_pictures(inputs or [], model.frame, invert=invert, skip_bad=skip_bad)
    else:
        batches = sources.read_photographs(inputs or [], model.picture[2], invert=invert, skip_bad=skip_bad)
    watched = console.watched(batches, len, lambda: parts.expected(inputs or []), quiet)
    sinks.write_pictures((batch.map(restored) for batch in watched), place, sinks.Layout(terminal.show, columns, scale, fps))
