"""The vocabulary that the verbs share: one named type an option."""

import os
import warnings
from typing import Annotated, Literal

import typer

from vaectl.errors import Remark, VaectlError
from vaectl.models import MODELS

Pictures = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PICTURE|DIR|NPY]...", help="Pictures, folders of pictures, NPY arrays; - or a pipe is stdin."),
]
Latents = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NPY]...", help="Latents as encode writes them; - or a pipe is stdin."),
]
CheckpointFile = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--checkpoint",
        envvar="VAECTL_CHECKPOINT",
        metavar="FILE",
        show_default=False,
        help="The trained model; else the newest of vae, ae and dae.safetensors in this folder.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH",
        show_default=False,
        help="Where to write: a file, DIR/ or numbered%03d.png; - is stdout.",
    ),
]
LatentFormat = Annotated[
    Literal["npy", "csv"] | None,
    typer.Option("--format", show_default=False, help="Format of the result, whatever its suffix."),
]
PictureFormat = Annotated[
    Literal["png", "jpg", "webp"] | None,
    typer.Option("--format", show_default=False, help="Format of the result, whatever its suffix."),
]
Columns = Annotated[
    int | None,
    typer.Option("--columns", min=1, metavar="N", show_default=False, help="Pictures in a row of the sheet."),
]
Scale = Annotated[int, typer.Option("--scale", min=1, metavar="N", help="Each pixel becomes N x N.")]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="VAECTL_DEVICE",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:1, mps or xpu.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, metavar="N", help="What is drawn at random follows from it.")]


def hushed(quiet: bool) -> bool:
    """The option itself; it keeps remarks from being shown."""
    if quiet:
        warnings.simplefilter("ignore", Remark)
    return quiet


Quiet = Annotated[bool, typer.Option("-q", "--quiet", callback=hushed, help="Say nothing but errors.")]


def checkpoint_file(given: str | None) -> str:
    """The checkpoint to use: the one given, else the newest in this folder; a remark says which, if there was a choice.

    Raises:
        VaectlError: none was given and none is here.
    """
    if given:
        return given
    here = [path for model in MODELS if os.path.isfile(path := f"{model}.safetensors")]
    if not here:
        raise VaectlError("there is no checkpoint in this folder: train one (vaectl train vae), or name one (-c FILE)")
    newest = max(here, key=os.path.getmtime)
    if len(here) > 1:
        warnings.warn(f"{newest!r} is the newest of {', '.join(here)} and is taken (-c names another)", Remark, stacklevel=2)
    return newest
