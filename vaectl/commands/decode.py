"""vaectl decode."""

from vaectl.commands import options


def decode(
    *,
    inputs: options.Latents = None,
    model_options: options.ModelOptions,
    output: options.Output = None,
    format: options.ImageFormat = None,
    layout: options.LayoutOptions,
    quiet: options.Quiet = False,
) -> None:
    """Several images become one sheet, unless they go to numbered files or to a folder, where they are named as in the CSV.

    \b
      vaectl encode a.png b.png | vaectl decode -o strip.png
      vaectl decode z.npy -o images/
      vaectl encode faces/ -o faces.csv && vaectl decode faces.csv -o decoded/
    """
    from vaectl.commands import console
    from vaectl.datasets.named import open_latents
    from vaectl.images.formats import IMAGE_FORMATS
    from vaectl.io.inputs import read_latents
    from vaectl.io.outputs import parse_destination, write_images

    destination = parse_destination(output, format, IMAGE_FORMATS, animate=layout.animate)
    model = model_options.load()
    model.require_latent()
    sources = open_latents(inputs or [], "an NPY, CSV or Parquet of latents")
    tracked = console.track(read_latents(sources, model.latent_dim), sources, quiet)
    write_images((batch.map(model.decode_batch) for batch in tracked), destination, layout.make_layout())
