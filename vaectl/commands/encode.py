"""vaectl encode."""

from typing import Annotated

import typer

from vaectl.commands import options


def encode(
    inputs: options.Pictures = None,
    checkpoint: options.CheckpointFile = None,
    output: options.Output = None,
    format: options.LatentFormat = None,
    sample: Annotated[bool, typer.Option("--sample", help="Draw from q(z|x) instead of taking its mean (VAE).")] = False,
    invert: options.Invert = False,
    skip_bad: options.SkipBad = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """The result is one row a picture. Pictures are turned upright, laid on black where transparent, and brought to the model's
    size and colours as in training.

    \b
      vaectl encode img.png > z.npy
      vaectl encode faces/ -o faces.csv
    """
    import numpy as np

    from vaectl import autoencoder
    from vaectl.commands import console
    from vaectl.io import parts, sinks, sources

    place = sinks.destination(output, format, sinks.LATENT_FORMATS)
    model = autoencoder.load(options.checkpoint_file(checkpoint), device)
    rng = np.random.default_rng(seed) if sample else None
    pictures = sources.read_pictures(inputs or [], model.frame, invert=invert, skip_bad=skip_bad)
    watched = console.watched(pictures, len, lambda: parts.expected(inputs or []), quiet)
    sinks.write_latents((batch.map(lambda stack: model.encode(stack, rng=rng)) for batch in watched), place)
