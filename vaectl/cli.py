"""The table of commands, and the one place where errors, signals and broken pipes are handled."""

import os
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from importlib import import_module
from inspect import getdoc
from math import isfinite
from typing import Any, NoReturn, TextIO, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from vaectl import __version__
from vaectl.base import processes
from vaectl.base.errors import DataLossWarning, UsageError, VaectlError, VaectlWarning
from vaectl.base.signals import Terminated, die_by_signal, raise_terminated
from vaectl.base.text import escape, shorten

COMMANDS = {
    "train": "Train an autoencoder and write its checkpoint.",
    "encode": "Encode images to latents.",
    "decode": "Decode latents to images.",
    "denoise": "Denoise images.",
    "interpolate": "Interpolate between images in the latent space.",
    "sample": "Sample latents or images from the prior.",
    "grid": "Draw the latent plane as one image.",
    "explore": "Write an interactive page of the latent space.",
    "evaluate": "Evaluate a model.",
    "curves": "Draw the training curves of checkpoints.",
    "export": "Export a model to ONNX.",
    "info": "Show the card of a checkpoint.",
}

PARALLEL = ("train", "evaluate")  # divide their work among the processes of torchrun
COMPLETION = "_VAECTL_COMPLETE"  # set by a shell that asks for completions

HELP = """Autoencoders in the shell: train one, then encode, decode, denoise and sample in pipelines.

\b
  vaectl train vae --latent 2
  vaectl encode img.png > z.npy
  vaectl grid --range -3 3 -o latent.png
"""


class CommandGroup(TyperGroup):
    """Lists every command from the table, and imports a command's module only when it is called."""

    def list_commands(self, ctx: object) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | None:
        # With a short help, because completion would cut the help.
        return TyperCommand(cmd_name, short_help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, TyperCommand | None, list[str]]:
        if args[0] not in COMMANDS:
            from difflib import get_close_matches

            guesses = get_close_matches(args[0], COMMANDS, 1)
            advice = f"did you mean {guesses[0]}?" if guesses else "see vaectl --help"
            raise UsageError(f"there is no command {args[0]!r}", advice)
        if processes.world_size() > 1 and args[0] not in PARALLEL:
            raise UsageError(
                f"{args[0]} does not run in several processes of torchrun",
                "run it in one process, or divide its work with --shard",
            )
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(command.name) if command and command.name else None, rest


class Command(TyperCommand):
    """One command. Its options take finite numbers only, which typer's bounds do not ensure."""

    def invoke(self, ctx: Any) -> Any:
        for option in self.params:
            value = ctx.params.get(option.name or "")
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, float) and not isfinite(number) for number in numbers):
                raise UsageError(f"{option.opts[0]} {' '.join(map(str, numbers))}: give finite numbers")
        return super().invoke(ctx)


def load_command(name: str) -> TyperCommand:
    """A command with all its options."""
    from vaectl.commands.options import flatten_groups

    function = getattr(import_module(f"vaectl.commands.{name}"), name)
    own = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=CONTEXT)
    own.command(name, cls=Command, help=f"{COMMANDS[name]}\n\n{getdoc(function) or ''}")(flatten_groups(function))
    return cast(TyperCommand, typer.main.get_command(own))


lost_data: list[str] = []  # messages of warnings

CONTEXT = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(cls=CommandGroup, help=HELP, rich_markup_mode=None, context_settings=CONTEXT)


def print_version(wanted: bool) -> None:
    """Print the version and exit, if `wanted`."""
    if wanted:
        typer.echo(f"vaectl {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "-V", "--version", is_eager=True, callback=print_version, help="Print the version."),
) -> None:
    """Options that belong to no command."""


def main() -> NoReturn:
    """Run a command and exit: 0 done, 1 failed, 2 wrong usage. A signal ends the process as it would have by default."""
    guard_standard_streams()
    # A small call gains nothing from BLAS threads, whose start costs tens of milliseconds.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Idle threads spin only briefly: one training run is as fast, and two at once are twice as fast.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    signal.signal(signal.SIGTERM, raise_terminated)
    warnings.simplefilter("ignore" if processes.rank() else "always", VaectlWarning)
    # Pillow warns of large and damaged images, which are errors here.
    warnings.filterwarnings("ignore", module="PIL")
    # NumPy warns of arrays that Python 2 wrote, but reads them.
    warnings.filterwarnings("ignore", "Reading `.npy` or `.npz` file required additional header parsing")
    warnings.showwarning = show_warning
    if COMPLETION in os.environ:
        app(prog_name="vaectl")
    try:
        # Not app(), which would turn Ctrl-C and broken pipes into exit codes of its own.
        group = typer.main.get_command(app)
        with group.make_context("vaectl", sys.argv[1:] or ["--help"]) as context:
            group.invoke(context)
        code = 1 if lost_data else 0
    except typer.Exit as leave:
        code = leave.exit_code
    except (VaectlError, TyperException) as error:
        if os.environ.get("VAECTL_DEBUG"):
            traceback.print_exc()
        # All of several processes have the same usage errors.
        if not processes.rank() or error.exit_code == 1:
            print_line(format_usage_error(error) if isinstance(error, TyperException) else str(error))
        code = error.exit_code
    except MemoryError:
        print_line("not enough memory: use smaller images, or fewer at once")
        code = 1
    except KeyboardInterrupt:
        die_by_signal(signal.SIGINT)
    except Terminated:
        die_by_signal(signal.SIGTERM)
    except BrokenPipeError:
        die_by_signal(signal.SIGPIPE)
    except OSError as error:  # from the system or Python itself
        if os.environ.get("VAECTL_DEBUG"):
            traceback.print_exc()
        name = f"{error.filename!r}: " if error.filename else ""
        print_line(f"{name}{(error.strerror or str(error)).lower()}")
        discard_stdout()
        code = 1
    sys.exit(code)


def guard_standard_streams() -> None:
    """Open the null device in place of a closed standard stream, so that no file opened later gets its number.

    Reading from it or writing to it then fails, as it did before.
    """
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)
    if sys.stdout is None:  # otherwise output would be lost silently
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - open as long as the process


def discard_stdout() -> None:
    """Redirect stdout to the null device, or Python would retry at exit what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def format_usage_error(error: TyperException) -> str:
    """What is wrong with the call, on one line, and where to read how it should be."""
    message = " ".join(error.format_message().split()).rstrip(".")
    for jargon, plain in (("int range", "integer"), ("float range", "number"), ("float", "number")):
        message = message.replace(f"is not a valid {jargon}", f"is not a valid {plain}")
    return f"{message}: see {called_as()} --help"


def called_as() -> str:
    """The command as called: `vaectl COMMAND`."""
    return " ".join(["vaectl", *(word for word in sys.argv[1:2] if word in COMMANDS)])


def print_line(message: str) -> None:
    """Print one line on stderr: `vaectl COMMAND: MESSAGE`. Nothing in it controls the terminal, whatever files contain."""
    process = f" (process {processes.rank()})" if processes.rank() else ""
    with suppress(OSError):
        if sys.stderr:  # through which a progress bar keeps its distance
            sys.stderr.write(f"{called_as()}{process}: {shorten(escape(' '.join(message.splitlines())))}\n")
            sys.stderr.flush()


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print vaectl's own warnings as one line, others as Python does."""
    own = issubclass(category, VaectlWarning)
    if issubclass(category, DataLossWarning):
        lost_data.append(str(message))
    print_line(str(message) if own else warnings.formatwarning(message, category, filename, lineno, line))
