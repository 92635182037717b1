"""vaectl denoise."""

from typing import TYPE_CHECKING, Annotated

import typer

from vaectl.commands import options
from vaectl.errors import VaectlError

if TYPE_CHECKING:
    from vaectl.types import Array


def denoise(
    inputs: options.Images = None,
    corrupt: options.Corrupt = None,
    compare: Annotated[bool, typer.Option("--compare", help="Stack the clean, the corrupted and the denoised image.")] = False,
    invert: options.Invert = False,
    skip_bad: options.SkipBad = False,
    checkpoint: options.CheckpointFile = None,
    output: options.Output = None,
    format: options.ImageFormat = None,
    columns: options.Columns = None,
    scale: options.Scale = None,
    animate: options.Animate = False,
    fps: options.FramesPerSecond = 10,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """The model must be a dae, or another one trained with --corrupt. A unet takes images of any size, and keeps their alpha and,
    in PNG, their 16 bits; other networks resize images to the size they were trained on.

    \b
      vaectl denoise noisy/ -o clean/
      vaectl denoise mnist:17 --corrupt gaussian:0.25 --compare -o compared.png
    """
    import numpy as np

    from vaectl import autoencoder
    from vaectl.commands import console
    from vaectl.corruption import NumpyRandom, apply_corruptions, parse_corruptions
    from vaectl.datasets.named import open_sources
    from vaectl.io.outputs import IMAGE_FORMATS, Layout, parse_destination, write_images

    destination = parse_destination(output, format, IMAGE_FORMATS, animate=animate)
    path = options.find_checkpoint(checkpoint, preferred="dae")
    model = autoencoder.load(path, device)
    if not model.card.corrupt:
        what = f"{path!r}, a {model.card.model}, was trained on clean images"
        raise VaectlError(what, "name a dae with -c FILE, or train one (vaectl train dae)")
    corruptions = parse_corruptions(corrupt or [], on_crops=not model.network.has_latent)
    random = NumpyRandom(seed)

    def denoised(images: "Array") -> "Array":
        channels = model.image_shape[2]
        clean, alpha = images[..., :channels], images[..., channels:]
        corrupted = apply_corruptions(corruptions, clean, random).astype(np.float32)
        result = model.denoise(corrupted)
        shown = ([clean, corrupted, result] if corruptions else [clean, result]) if compare else [result]
        return np.concatenate([np.concatenate([stack, alpha], axis=3) for stack in shown], axis=1)

    sources = open_sources(inputs or [], "an IMAGE, a folder or an NPY")
    tracked = console.track(model.read(sources, invert=invert, skip_bad=skip_bad), sources, quiet)
    write_images((batch.map(denoised) for batch in tracked), destination, Layout(columns, scale, fps))
