"""vaectl explore."""

from typing import Annotated

import typer

from vaectl.commands import options
from vaectl.commands.options import option

COUNT = typer.Option("-n", "--count", min=0, max=10_000, metavar="N", help="Show at most N images, evenly spaced.")
OUTPUT = option("-o", "--output", metavar="FILE", help="The .html to write; - is stdout.")


def explore(
    *,
    inputs: options.Images = None,
    count: Annotated[int, COUNT] = 2000,
    reading: options.ReadOptions,
    model_options: options.ModelOptions,
    output: Annotated[str | None, OUTPUT] = None,
    quiet: options.Quiet = False,
) -> None:
    """Writes one HTML file that works offline: a map of the images, and the image decoded under the pointer.
    By default it shows the test images of the model. A model without a latent, such as photo, gets a page that
    denoises the photographs that are dropped on it.

    \b
      vaectl explore -o latent.html
      vaectl explore -c faces.safetensors faces/ -o faces.html
      vaectl explore -c photo -o denoise.html
    """
    from vaectl.commands import console
    from vaectl.io import files
    from vaectl.io.outputs import PAGE_FORMATS, parse_destination
    from vaectl.web import explorer

    destination = parse_destination(output, None, PAGE_FORMATS)
    path = options.find_checkpoint(model_options.checkpoint)
    with console.counter(quiet) as count_read:
        page = explorer.explore(
            path,
            inputs or None,
            count=count,
            invert=reading.invert,
            skip_bad=reading.skip_bad,
            device=model_options.device,
            on_read=lambda more, total: count_read(more, lambda: total),
        )
    with files.open_output(destination.path) as stream:
        stream.write(page)
