"""The vocabulary that the verbs share: one named type an option."""

import os
import warnings
from typing import Annotated, Literal

import typer

from vaectl.catalogue import NAMES
from vaectl.errors import Remark, VaectlError
from vaectl.models import MODELS


def checkpoints_here(incomplete: str) -> list[str]:
    """The checkpoints of this folder, for the shell to complete."""
    found = sorted(name for name in os.listdir() if name.startswith(incomplete) and name.endswith(".safetensors"))
    return [name for name in found if not name.endswith(".resume.safetensors")]


def devices(incomplete: str) -> list[str]:
    """Names of devices, for the shell to complete; to look which are there would take seconds."""
    return [name for name in ("auto", "cpu", "cuda", "mps", "xpu") if name.startswith(incomplete)]


def data_sets(incomplete: str) -> list[str]:
    """Names of data sets, for the shell to complete; where none fits it completes files."""
    return [name for name in NAMES if name.startswith(incomplete)]


DATA = typer.Option(
    "--data",
    metavar="DATA",
    autocompletion=data_sets,
    help="mnist (bundled), cifar10 and the like (downloaded once), a folder, FILE.npz (x_train, x_test) or FILE.npy.",
)
Pictures = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PICTURE|DIR|NPY]...", help="Pictures, folders of pictures, NPY arrays; - or a pipe is stdin."),
]
Latents = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NPY]...", help="Latents as encode writes them; - or a pipe is stdin."),
]
PicturesOrLatents = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PICTURE|NPY]...", help="Pictures, or latents as encode writes them; - or a pipe is stdin."),
]
CheckpointFile = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--checkpoint",
        envvar="VAECTL_CHECKPOINT",
        metavar="FILE",
        show_default=False,
        autocompletion=checkpoints_here,
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
StillFormat = Annotated[
    Literal["png", "jpg", "webp"] | None,
    typer.Option("--format", show_default=False, help="Format of the result, whatever its suffix."),
]
PictureFormat = Annotated[
    Literal["png", "jpg", "webp", "gif", "apng"] | None,
    typer.Option("--format", show_default=False, help="Format of the result, whatever its suffix."),
]
AnyFormat = Annotated[
    Literal["npy", "csv", "png", "jpg", "webp", "gif", "apng"] | None,
    typer.Option("--format", show_default=False, help="Format of the result, whatever its suffix."),
]
Animate = Annotated[bool, typer.Option("--animate", help="Make a .webp an animation, as .gif and .apng are.")]
FramesPerSecond = Annotated[float, typer.Option("--fps", min=0.1, max=100, metavar="X", help="Frames a second.")]
Invert = Annotated[bool, typer.Option("--invert", help="Dark ink on white paper: swap black and white first.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out pictures that cannot be read, and list them.")]
Corrupt = Annotated[
    list[str] | None,
    typer.Option(
        "--corrupt",
        metavar="SPEC",
        show_default=False,
        help="Spoil pictures: gaussian:0.25, mask:0.3, salt-pepper:0.1, watermark:logo.png; repeatable.",
    ),
]
Columns = Annotated[
    int | None,
    typer.Option("--columns", min=1, max=100_000, metavar="N", show_default=False, help="Pictures in a row of the sheet."),
]
Scale = Annotated[int, typer.Option("--scale", min=1, max=100, metavar="N", help="Each pixel becomes N x N.")]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="VAECTL_DEVICE",
        metavar="NAME",
        autocompletion=devices,
        help="auto, cpu, cuda, cuda:1, mps or xpu. auto and cpu are NumPy for a little work, and torch from ten billion "
        "multiplications on.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, metavar="N", help="What is drawn at random follows from it.")]


def hushed(quiet: bool) -> bool:
    """The option itself; it keeps remarks from being shown."""
    if quiet:
        warnings.simplefilter("ignore", Remark)
    return quiet


Quiet = Annotated[bool, typer.Option("-q", "--quiet", callback=hushed, help="Say nothing but errors.")]


def checkpoint_file(given: str | None, first: str | None = None) -> str:
    """The checkpoint to use: the one given, else the newest in this folder, `first`'s before all; a remark says which of several.

    Raises:
        VaectlError: none was given and none is here.
    """
    if given:
        return given
    here = [path for model in MODELS if os.path.isfile(path := f"{model}.safetensors")]
    if not here:
        raise VaectlError(
            f"there is no checkpoint in this folder: train one (vaectl train {first or 'vae'}), or name one (-c FILE)"
        )
    newest = max(here, key=lambda path: (path == f"{first}.safetensors", os.path.getmtime(path)))
    if len(here) > 1:
        why = "the denoiser" if newest == f"{first}.safetensors" else "the newest"
        warnings.warn(f"{newest!r} is taken, {why} of {', '.join(sorted(here))}: -c names another", Remark, stacklevel=2)
    return newest
