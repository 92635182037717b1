"""vaectl encode."""

from typing import Annotated

import typer

from vaectl.commands import options


def encode(
    inputs: options.Images = None,
    checkpoint: options.CheckpointFile = None,
    output: options.LatentOutput = None,
    format: options.LatentFormat = None,
    sample: Annotated[bool, typer.Option("--sample", help="Sample from q(z|x) instead of taking its mean (VAE only).")] = False,
    shard: options.Shard = None,
    invert: options.Invert = False,
    skip_bad: options.SkipBad = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Writes one latent per image. Images are turned upright, transparency becomes black, and size and channels become those of
    the model.

    \b
      vaectl encode img.png > z.npy
      vaectl encode mnist:test -o z.npy
      vaectl encode faces/ -o faces.csv
      vaectl encode faces/ --shard 2/8 -o faces-2.npy
    """
    import numpy as np

    from vaectl import autoencoder
    from vaectl.commands import console
    from vaectl.datasets.named import open_sources
    from vaectl.io.outputs import LATENT_FORMATS, parse_destination, write_latents
    from vaectl.io.sources import parse_shard

    part = parse_shard(shard) if shard else None
    destination = parse_destination(output, format, LATENT_FORMATS)
    model = autoencoder.load(options.find_checkpoint(checkpoint), device)
    model.require_latent()
    rng = np.random.default_rng((seed, part.index) if part else seed) if sample else None
    sources = open_sources(inputs or [], "an IMAGE, a folder or an NPY", part)
    tracked = console.track(model.read(sources, invert=invert, skip_bad=skip_bad), sources, quiet)
    write_latents((batch.map(lambda stack: model.encode(stack, rng=rng)) for batch in tracked), destination)
