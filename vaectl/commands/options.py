"""The options that commands share: one named type each, in groups that are used together."""

import inspect
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import partial, wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vaectl.base.errors import VaectlError, VaectlWarning, warn
from vaectl.base.text import list_names
from vaectl.datasets.catalogue import NAMES
from vaectl.images.corruption import SPECS_HELP, complete_corruption
from vaectl.images.formats import IMAGE_FORMATS, STILL_FORMATS
from vaectl.models.presets import MODELS
from vaectl.models.pretrained import PRETRAINED
from vaectl.training.settings import TrainSettings, find_settings

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")
SUFFIX = ".safetensors"
STATE_SUFFIX = f".resume{SUFFIX}"  # of unfinished trainings
DEFAULT_CHECKPOINTS = [f"{model}{SUFFIX}" for model in MODELS]


def checkpoints_here(incomplete: str = "") -> list[str]:
    """The checkpoints in this folder."""
    found = sorted(name for name in os.listdir() if name.startswith(incomplete) and name.endswith(SUFFIX))
    return [name for name in found if not name.endswith(STATE_SUFFIX)]


def complete_checkpoints(incomplete: str) -> list[str]:
    """The checkpoints in this folder and the ready-made models, for completion."""
    return checkpoints_here(incomplete) + [name for name in PRETRAINED if name.startswith(incomplete)]


def complete_devices(incomplete: str) -> list[str]:
    """Devices by name, for completion; finding out which are there would take seconds."""
    return [name for name in DEVICES if name.startswith(incomplete)]


def complete_data(incomplete: str) -> list[str]:
    """Data sets by name, for completion; where none fits, the shell completes files."""
    return [name for name in NAMES if name.startswith(incomplete)]


def complete_inputs(incomplete: str) -> list[str]:
    """Data sets by name, for completion, unless files here fit: the shell completes those."""
    return [] if any(name.startswith(incomplete) for name in os.listdir()) else complete_data(incomplete)


COMPLETIONS: dict[str, Callable[[str], list[str]]] = {
    "data": complete_data,
    "init_from": complete_checkpoints,
    "corrupt": complete_corruption,
    "device": complete_devices,
}

if TYPE_CHECKING:
    from vaectl.io.outputs import Layout
    from vaectl.models.autoencoder import Autoencoder

option = partial(typer.Option, show_default=False)
SETTING_HELP = {found.name: setting.help for found, setting in find_settings(TrainSettings)}

DATA = option("--data", metavar="DATA", autocompletion=complete_data, help=SETTING_HELP["data"])
NOISY = option("--noisy", metavar="DIR", help=SETTING_HELP["noisy"])
IMAGES_HELP = "Images, folders, NPY arrays, tar files, URLs, or a data set such as mnist:test or mnist:17; - or a pipe is stdin."
IMAGES = typer.Argument(metavar="[IMAGE|DIR|NPY|TAR]...", autocompletion=complete_inputs, help=IMAGES_HELP)
LATENTS = typer.Argument(metavar="[NPY|CSV|PARQUET|DIR]...", help="Latents written by encode; - or a pipe is stdin.")
POINTS_HELP = "Images, latents as encode writes them, or a data set such as mnist:17; - or a pipe is stdin."
POINTS = typer.Argument(metavar="[IMAGE|NPY|CSV|PARQUET]...", autocompletion=complete_inputs, help=POINTS_HELP)
CHECKPOINT = option(
    "-c",
    "--checkpoint",
    envvar="VAECTL_CHECKPOINT",
    metavar="FILE",
    autocompletion=complete_checkpoints,
    help="A trained model (default: vae, ae or dae.safetensors here; denoise prefers dae), or photo, a ready-made denoiser.",
)
OUTPUT = option("-o", "--output", metavar="PATH", help="Where to write: a file, DIR/ or numbered%03d.png; - is stdout.")
LATENT_OUTPUT = option("-o", "--output", metavar="FILE", help="The .npy, .csv or .parquet to write; - is stdout.")
FORMAT = option("--format", help="Output format; overrides the suffix of -o.")
ANIMATE = typer.Option("--animate", help="Animate a .webp; .gif and .apng are always animated.")
FPS = typer.Option("--fps", min=0.1, max=100, metavar="X", help="Frames per second.")
KEEP_FORMAT = typer.Option("--keep-format", help="Keep the format of each photo in the output folder.")
SHARD = option("--shard", metavar="I/N", help="Read part I of N only, for job arrays; the parts in order are the whole.")
INVERT = typer.Option("--invert", help="Swap black and white first, for dark ink on white paper.")
SKIP_BAD = typer.Option("--skip-bad", help=SETTING_HELP["skip_bad"])
CORRUPT = option("--corrupt", metavar="SPEC", autocompletion=complete_corruption, help=f"Corrupt images: {SPECS_HELP}.")
COLUMNS = option("--columns", min=1, max=100_000, metavar="N", help="Images per row of a sheet.")
SCALE = option(
    "--scale", min=1, max=100, metavar="N", help="Enlarge each pixel to N x N (default: 1; more for small animations)."
)
DEVICE = typer.Option(
    "--device", envvar="VAECTL_DEVICE", metavar="NAME", autocompletion=complete_devices, help=SETTING_HELP["device"]
)
SEED = typer.Option("--seed", min=0, max=2**63 - 1, metavar="N", help=SETTING_HELP["seed"])

Noisy = Annotated[str | None, NOISY]
Images = Annotated[list[str] | None, IMAGES]
Latents = Annotated[list[str] | None, LATENTS]
ImagesOrLatents = Annotated[list[str] | None, POINTS]
CheckpointFile = Annotated[str | None, CHECKPOINT]
Output = Annotated[str | None, OUTPUT]
LatentOutput = Annotated[str | None, LATENT_OUTPUT]
LatentFormat = Annotated[Literal["npy", "csv", "parquet"] | None, FORMAT]
if TYPE_CHECKING:
    StillFormat = str | None
    ImageFormat = str | None
    AnyFormat = str | None
else:  # typer makes choices of literals
    StillFormat = Annotated[Literal[STILL_FORMATS] | None, FORMAT]
    ImageFormat = Annotated[Literal[IMAGE_FORMATS] | None, FORMAT]
    AnyFormat = Annotated[Literal["npy", "csv", "parquet", *IMAGE_FORMATS] | None, FORMAT]
Animate = Annotated[bool, ANIMATE]
KeepFormat = Annotated[bool, KEEP_FORMAT]
FramesPerSecond = Annotated[float, FPS]
Shard = Annotated[str | None, SHARD]
Invert = Annotated[bool, INVERT]
SkipBad = Annotated[bool, SKIP_BAD]
Corrupt = Annotated[list[str] | None, CORRUPT]
Columns = Annotated[int | None, COLUMNS]
Scale = Annotated[int | None, SCALE]
Device = Annotated[str, DEVICE]
Seed = Annotated[int, SEED]


def silence_warnings(quiet: bool) -> bool:
    """Ignore vaectl's warnings if `quiet`; returns `quiet`."""
    if quiet:
        warnings.simplefilter("ignore", VaectlWarning)
    return quiet


Quiet = Annotated[bool, typer.Option("-q", "--quiet", callback=silence_warnings, help="Print errors only.")]


@dataclass(frozen=True)
class ModelOptions:
    """The model that a command runs, and where."""

    checkpoint: CheckpointFile = None
    device: Device = "auto"

    def load(self) -> "Autoencoder":
        """The model."""
        from vaectl.models import autoencoder

        return autoencoder.load(find_checkpoint(self.checkpoint), self.device)


@dataclass(frozen=True)
class ReadOptions:
    """How images are read."""

    invert: Invert = False
    skip_bad: SkipBad = False


@dataclass(frozen=True)
class LayoutOptions:
    """How several images become one, or an animation."""

    columns: Columns = None
    scale: Scale = None
    animate: Animate = False
    fps: FramesPerSecond = 10

    def make_layout(self) -> "Layout":
        """What `write_images` takes."""
        from vaectl.io.outputs import Layout

        return Layout(self.columns, self.scale, self.fps)


def flatten_groups(function: Callable[..., None]) -> Callable[..., None]:
    """The function of a command, with the fields of its parameters that are dataclasses as parameters of their own.

    typer makes an option of each.
    """
    parameters = inspect.signature(function).parameters.values()
    groups = {parameter.name: parameter.annotation for parameter in parameters if is_dataclass(parameter.annotation)}
    flat: list[inspect.Parameter] = []
    for parameter in parameters:
        found = field_parameters(parameter.annotation) if parameter.name in groups else [parameter]
        flat += [part.replace(kind=inspect.Parameter.KEYWORD_ONLY) for part in found]

    @wraps(function)
    def call(**values: Any) -> None:
        made = {name: make_group(group, values) for name, group in groups.items()}
        function(**values, **made)

    call.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    call.__annotations__ = {}  # or typer would read those of `function`
    del call.__wrapped__
    return call


def field_parameters(group: Any) -> Iterator[inspect.Parameter]:
    """A parameter for each field of a dataclass that is an option: declared by typer, or by a `Setting` with flags."""
    for found in fields(group):
        setting = found.metadata.get("setting")
        if setting and not setting.flags:
            continue
        kind: Any = found.type
        if setting:
            is_argument = not setting.flags[0].startswith("-")
            info = (
                typer.Argument(help=setting.help)
                if is_argument
                else option(
                    *setting.flags,
                    help=setting.help,
                    metavar=setting.metavar,
                    min=setting.low,
                    max=setting.high,
                    show_default=found.default is not None,
                    autocompletion=COMPLETIONS.get(found.name),
                )
            )
            kind = Annotated[setting.shell_type or kind, info]
        default = inspect.Parameter.empty if found.default is MISSING else found.default
        yield inspect.Parameter(found.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def make_group(group: Any, values: dict[str, Any]) -> Any:
    """Make a dataclass of options from the values of its fields, which are removed."""
    given = {}
    for found in fields(group):
        if found.name in values:
            value, setting = values.pop(found.name), found.metadata.get("setting")
            given[found.name] = setting.parse(value) if setting and setting.parse and value is not None else value
    return group(**given)


def find_checkpoint(given: str | None, preferred: str | None = None, pretrained: str | None = None) -> str:
    """The checkpoint to use: the given one, else the preferred or newest one in this folder, else a ready-made model.

    A warning says which of several.

    Raises:
        VaectlError: none was given, none is here, and there is no ready-made one.
    """
    if given:
        return given
    here = [path for path in DEFAULT_CHECKPOINTS if os.path.isfile(path)]
    if not here and pretrained:
        return pretrained
    if not here:
        others = checkpoints_here()
        found = f"name one with -c, such as {list_names(others)}" if others else "name one with -c FILE"
        raise VaectlError(
            f"no checkpoint in this folder (looked for {', '.join(DEFAULT_CHECKPOINTS)}): "
            f"train one (vaectl train {preferred or 'vae'}), or {found}"
        )
    newest = max(here, key=lambda path: (path == f"{preferred}{SUFFIX}", os.path.getmtime(path)))
    if len(here) > 1:
        why = "the denoiser" if newest == f"{preferred}{SUFFIX}" else "the newest"
        warn(f"using {newest!r}, {why} of {', '.join(sorted(here))}: choose another with -c")
    return newest
