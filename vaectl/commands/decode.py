"""vaectl decode."""

from vaectl.commands import options
from vaectl.errors import VaectlError


def decode(
    inputs: options.Latents = None,
    checkpoint: options.CheckpointFile = None,
    output: options.Output = None,
    format: options.PictureFormat = None,
    columns: options.Columns = None,
    scale: options.Scale = 1,
    animate: options.Animate = False,
    fps: options.FramesPerSecond = 10,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Several pictures become one sheet, unless they go into a folder or to numbered files.

    \b
      vaectl encode a.png b.png | vaectl decode -o strip.png
      vaectl decode z.npy -o pictures/
    """
    from vaectl import autoencoder
    from vaectl.commands import console, terminal
    from vaectl.io import parts, sinks, sources

    place = sinks.destination(output, format, sinks.PICTURE_FORMATS, animate=animate)
    model = autoencoder.load(options.checkpoint_file(checkpoint), device)
    if not model.latent:
        raise VaectlError("this model, a unet, has no latent to decode: use vaectl denoise with it")
    latents = sources.read_latents(inputs or [], model.latent)
    watched = console.watched(latents, len, lambda: parts.expected(inputs or []), quiet)
    pictures = (batch.map(model.decode) for batch in watched)
    sinks.write_pictures(pictures, place, sinks.Layout(terminal.show, columns, scale, fps))
