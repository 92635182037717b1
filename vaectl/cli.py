"""The table of contents, and the one place where errors, signals and broken pipes are met."""

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
from vaectl.errors import Remark, UsageError, VaectlError
from vaectl.signals import Terminated, die_of, terminate

VERBS = {
    "train": "Train an autoencoder and write its checkpoint.",
    "encode": "Turn pictures into latents.",
    "decode": "Turn latents into pictures.",
    "denoise": "Turn spoiled pictures into clean ones.",
    "interpolate": "Walk through the latent space from one picture to the next.",
    "sample": "Draw latents or pictures from the prior.",
    "grid": "Draw the latent plane as one picture.",
    "evaluate": "Measure how good a model is.",
    "info": "Say what a checkpoint holds.",
}

COMPLETION = "_VAECTL_COMPLETE"  # set by the shell that asks what a line may go on with

HELP = """Autoencoders in the shell: stdout is data, and verbs chain.

\b
  vaectl train vae --latent 2
  vaectl encode img.png > z.npy
  vaectl grid --range -3 3 -o latent.png
"""


class Verbs(TyperGroup):
    """Knows every verb by its line in the table, and imports a verb's module only when that verb is called."""

    def list_commands(self, ctx: object) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | None:
        return TyperCommand(cmd_name, help=VERBS[cmd_name]) if cmd_name in VERBS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, TyperCommand | None, list[str]]:
        if args[0] not in VERBS:
            from difflib import get_close_matches

            near = " or ".join(get_close_matches(args[0], VERBS, 1) or VERBS)
            raise UsageError(f"there is no verb {args[0]!r}: did you mean {near}? See vaectl --help")
        name, line, rest = super().resolve_command(ctx, args)
        return name, load(line.name) if line and line.name else None, rest


class Verb(TyperCommand):
    """One verb; typer's bounds let NaN and infinity pass, and no option means anything by them."""

    def invoke(self, ctx: Any) -> Any:
        for option in self.params:
            value = ctx.params.get(option.name or "")
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, float) and not isfinite(number) for number in numbers):
                raise UsageError(f"{option.opts[0]} {' '.join(map(str, numbers))}: give finite numbers")
        return super().invoke(ctx)


def load(verb: str) -> TyperCommand:
    """A verb with all its options."""
    function = getattr(import_module(f"vaectl.commands.{verb}"), verb)
    own = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=CONTEXT)
    own.command(verb, cls=Verb, help=f"{VERBS[verb]}\n\n{getdoc(function)}")(function)
    return cast(TyperCommand, typer.main.get_command(own))


CONTEXT = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(cls=Verbs, help=HELP, rich_markup_mode=None, context_settings=CONTEXT)


def print_version(wanted: bool) -> None:
    """Print the version and leave, when `wanted`."""
    if wanted:
        typer.echo(f"vaectl {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "-V", "--version", is_eager=True, callback=print_version, help="Print the version."),
) -> None:
    """Options that belong to no verb."""


def main() -> NoReturn:
    """Run a verb and leave with its exit code: 0 done, 1 failed, 2 called wrongly. Death by a signal is a real one."""
    guard_standard_streams()
    # A small call gains nothing from BLAS threads, and their start costs it tens of milliseconds.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Threads that wait for work spin for a moment only: a training alone is as fast, two at once are twice as fast.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    signal.signal(signal.SIGTERM, terminate)
    warnings.simplefilter("always", Remark)
    # Pillow's word on large and damaged pictures; ours is an error.
    warnings.filterwarnings("ignore", module="PIL")
    # NumPy's on arrays that Python 2 wrote; they are read all the same.
    warnings.filterwarnings("ignore", "Reading `.npy` or `.npz` file required additional header parsing")
    warnings.showwarning = show_warning
    if COMPLETION in os.environ:
        app(prog_name="vaectl")
    try:
        # Not app(): it would turn Ctrl-C and broken pipes into exit codes of its own.
        group = typer.main.get_command(app)
        with group.make_context("vaectl", sys.argv[1:] or ["--help"]) as context:
            group.invoke(context)
        code = 0
    except typer.Exit as leave:
        code = leave.exit_code
    except (VaectlError, TyperException) as error:
        if os.environ.get("VAECTL_DEBUG"):
            traceback.print_exc()
        say(usage(error) if isinstance(error, TyperException) else str(error))
        code = error.exit_code
    except MemoryError:
        say("there is not enough memory for this: use smaller pictures, or fewer at once")
        code = 1
    except KeyboardInterrupt:
        die_of(signal.SIGINT)
    except Terminated:
        die_of(signal.SIGTERM)
    except BrokenPipeError:
        die_of(signal.SIGPIPE)
    except OSError as error:  # on a file of the system's or of Python's own
        if os.environ.get("VAECTL_DEBUG"):
            traceback.print_exc()
        name = f"{error.filename!r}: " if error.filename else ""
        say(f"{name}{(error.strerror or str(error)).lower()}")
        silence_stdout()
        code = 1
    sys.exit(code)


def guard_standard_streams() -> None:
    """Put a dead end where a standard stream is closed, so that no file opened later takes its number and its bytes."""
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)


def silence_stdout() -> None:
    """Lead what was not written to stdout nowhere, or Python would try again on leaving."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def usage(error: TyperException) -> str:
    """What is wrong with the call, on one line, and where to read how it should be."""
    return f"{' '.join(error.format_message().split()).rstrip('.')}: see {called()} --help"


def called() -> str:
    """What the user called: `vaectl VERB`."""
    return " ".join(["vaectl", *(word for word in sys.argv[1:2] if word in VERBS)])


def say(message: str) -> None:
    """One line to a person, on stderr: `vaectl VERB: MESSAGE`."""
    with suppress(OSError):
        os.write(2, os.fsencode(f"{called()}: {' '.join(message.splitlines())}\n"))


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Our remarks as one line, other warnings as Python shows them."""
    say(str(message) if issubclass(category, Remark) else warnings.formatwarning(message, category, filename, lineno, line))
