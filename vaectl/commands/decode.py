"""vaectl decode."""

from vaectl.commands import options


def decode(
    inputs: options.Latents = None,
    checkpoint: options.CheckpointFile = None,
    output: options.Output = None,
    format: options.ImageFormat = None,
    columns: options.Columns = None,
    scale: options.Scale = None,
    animate: options.Animate = False,
    fps: options.FramesPerSecond = 10,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Several images become one sheet, unless they go to a folder or to numbered files. A folder keeps the names in a CSV.

    \b
      vaectl encode a.png b.png | vaectl decode -o strip.png
      vaectl decode z.npy -o images/
      vaectl encode faces/ -o faces.csv && vaectl decode faces.csv -o decoded/
    """
    from vaectl.commands import console
    from vaectl.datasets.named import open_latents
    from vaectl.io.inputs import read_latents
    from vaectl.io.outputs import IMAGE_FORMATS, Layout, parse_destination, write_images
    from vaectl.models import autoencoder

    destination = parse_destination(output, format, IMAGE_FORMATS, animate=animate)
    model = autoencoder.load(options.find_checkpoint(checkpoint), device)
    model.require_latent()
    sources = open_latents(inputs or [], "an NPY, CSV or Parquet of latents")
    tracked = console.track(read_latents(sources, model.latent_dim), sources, quiet)
    write_images((batch.map(model.decode) for batch in tracked), destination, Layout(columns, scale, fps))
