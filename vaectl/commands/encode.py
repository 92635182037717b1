"""vaectl encode."""

import os
from typing import Annotated

import typer

from vaectl.base.errors import UsageError
from vaectl.commands import options
from vaectl.commands.options import option
from vaectl.io import files

RAY_HELP = "Encode on a Ray cluster, into a folder of Parquet tables: local starts one here, auto joins the running one."
RAY = option("--ray", metavar="ADDRESS", help=RAY_HELP)


def encode(
    *,
    inputs: options.Images = None,
    model_options: options.ModelOptions,
    output: options.LatentOutput = None,
    format: options.LatentFormat = None,
    sample: Annotated[bool, typer.Option("--sample", help="Sample from q(z|x) instead of taking its mean (VAE only).")] = False,
    shard: options.Shard = None,
    ray: Annotated[str | None, RAY] = None,
    reading: options.ReadOptions,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Writes one latent per image. Images are turned upright, put on black if transparent, and converted to the size and channels
    of the model.

    \b
      vaectl encode img.png > z.npy
      vaectl encode mnist:test -o z.npy
      vaectl encode faces/ -o faces.csv
      vaectl encode faces/ --shard 2/8 -o faces-2.npy
      vaectl encode faces/ --ray local -o latents/
    """
    import numpy as np

    from vaectl.commands import console
    from vaectl.datasets.named import open_sources
    from vaectl.io.outputs import LATENT_FORMATS, parse_destination, write_latents
    from vaectl.io.sources import parse_shard

    if ray:
        if shard or sample or format:
            raise UsageError("--ray does not work with --shard, --sample or --format: use it as in --ray local -o latents/")
        if not output or output == files.STDOUT or os.path.splitext(output)[1]:
            raise UsageError("--ray writes a folder of tables: name one, as in --ray local -o latents/")
        files.check_folder_writable(output)
        encode_on_ray(ray, inputs or [], output, reading, model_options, quiet)
        return
    part = parse_shard(shard) if shard else None
    destination = parse_destination(output, format, LATENT_FORMATS)
    model = model_options.load()
    model.require_latent()
    rng = np.random.default_rng((seed, part.index) if part else seed) if sample else None
    sources = open_sources(inputs or [], "an IMAGE, a folder or an NPY", part)
    tracked = console.track(model.read(sources, invert=reading.invert, skip_bad=reading.skip_bad), sources, quiet)
    write_latents((batch.map(lambda stack: model.encode_batch(stack, rng)) for batch in tracked), destination)


def encode_on_ray(
    address: str,
    inputs: list[str],
    folder: str,
    reading: options.ReadOptions,
    model_options: options.ModelOptions,
    quiet: bool,
) -> None:
    """Encode on a Ray cluster, with a bar on a terminal."""
    from vaectl.commands import console
    from vaectl.evaluation import on_ray

    with console.counter(quiet) as count:
        on_ray.encode(
            address,
            options.find_checkpoint(model_options.checkpoint),
            inputs,
            folder,
            invert=reading.invert,
            skip_bad=reading.skip_bad,
            device=model_options.device,
            on_part=lambda images, total: count(images, lambda: total),
        )
