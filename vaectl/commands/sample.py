"""vaectl sample."""

from typing import Annotated

import typer

from vaectl.commands import options


def sample(
    count: Annotated[int, typer.Option("-n", "--count", min=1, metavar="N", help="Number of samples.")] = 64,
    seed: options.Seed = 0,
    checkpoint: options.CheckpointFile = None,
    output: options.Output = None,
    format: options.AnyFormat = None,
    columns: options.Columns = None,
    scale: options.Scale = None,
    animate: options.Animate = False,
    fps: options.FramesPerSecond = 10,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Samples the prior N(0, I). A pipe or an .npy gets latents; an image gets decoded images.

    \b
      vaectl sample -n 64 --seed 1 | vaectl decode -o sheet.png
      vaectl sample -n 25 -o digits.png
    """
    from vaectl import autoencoder
    from vaectl.io.inputs import Batch
    from vaectl.io.outputs import ALL_FORMATS, Layout, parse_destination, write_either

    destination = parse_destination(output, format, ALL_FORMATS, animate=animate)
    model = autoencoder.load(options.find_checkpoint(checkpoint, preferred="vae"), device)
    latents = Batch([f"sample-{index:05d}" for index in range(count)], model.sample_latents(count, seed=seed))
    write_either([latents], destination, model.decode, Layout(columns, scale, fps))
