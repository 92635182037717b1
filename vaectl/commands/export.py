"""vaectl export."""

from typing import Annotated, Literal

import typer

from vaectl.commands import options
from vaectl.commands.options import option

PART = typer.Option("--part", help="What to export: one half, or the whole autoencoder.")
SIGMA = option(
    "--sigma", min=0, max=1, metavar="X", help="Export the weights that a model such as photo has for noise of this strength."
)
OUTPUT = option("-o", "--output", metavar="FILE", help="The .onnx to write; - is stdout.")


def export(
    checkpoint: options.CheckpointFile = None,
    part: Annotated[Literal["autoencoder", "encoder", "decoder"], PART] = "autoencoder",
    sigma: Annotated[float | None, SIGMA] = None,
    output: Annotated[str | None, OUTPUT] = None,
    quiet: options.Quiet = False,
) -> None:
    """Writes the network and the card as one file, which ONNX Runtime and others run without vaectl. It needs the package onnx:
    pip install 'vaectl[onnx]'.

    The encoder takes image (N, H, W, C), with pixels in [0, 1], to z (N, D), or to mu and logvar of a VAE. The decoder takes z to
    image. The whole autoencoder takes image to what the encoder gives and to reconstruction.

    \b
      vaectl export -o vae.onnx
      vaectl export --part decoder -o decoder.onnx
      vaectl export -c photo --sigma 0.1 -o denoiser.onnx
    """
    from vaectl.io.outputs import MODEL_FORMATS, parse_destination
    from vaectl.models import autoencoder

    destination = parse_destination(output, None, MODEL_FORMATS)
    autoencoder.load(options.find_checkpoint(checkpoint)).export(destination.path, part, sigma=sigma)
