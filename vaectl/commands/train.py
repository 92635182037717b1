"""vaectl train."""

import shlex
import sys
from typing import Annotated

import typer

from vaectl.base import processes
from vaectl.base.errors import UsageError
from vaectl.commands import options
from vaectl.io import files
from vaectl.training.settings import TrainSettings

JSON = typer.Option("--json", help="Print a JSON line per epoch, and one at the end, on stdout.")


def train(settings: TrainSettings, as_json: Annotated[bool, JSON] = False, quiet: options.Quiet = False) -> None:
    """Prints only the path of the checkpoint on stdout.

    \b
      vaectl train vae --latent 2
      vaectl train dae --corrupt gaussian:0.4 -o strong.safetensors
      vaectl train vae --data faces/ --size 64
      vaectl train dae --data photos/ --net unet --corrupt watermark:logo.png
      vaectl train vae --binarize --latent 50 --objective iwae --samples 5
      vaectl train dae --data clean/ --noisy scans/ --net unet
      vaectl train vae --log runs/a && tensorboard --logdir runs
      m=$(vaectl train vae --seed 3 -o run3.safetensors) && vaectl info "$m"
    """
    path = str(settings.output or f"{settings.model}.safetensors")
    if as_json and path in files.STDOUT_NAMES:
        raise UsageError("--json and the checkpoint both go to stdout: name a file with -o")

    from vaectl.base.memory import reuse_large_blocks
    from vaectl.commands import console
    from vaectl.training import run

    reuse_large_blocks()
    is_first = processes.rank() == 0
    with console.TrainingDisplay(quiet or not is_first, as_json and is_first) as display:
        given = vars(settings) | {"output": path, "resume_command": resume_command()}
        shown = {"on_read": display.on_read, "on_progress": display.on_progress, "on_end": display.on_end}
        trained = run.train(**given | shown)
    if is_first and path not in files.STDOUT_NAMES:
        if as_json:
            console.write_json({"checkpoint": path, "metrics": trained.card.metrics}, indent=None)
        else:
            files.write_line(path)


def resume_command() -> str:
    """The command that resumes this run."""
    words = shlex.join([*(word for word in sys.argv[1:] if word != "--resume"), "--resume"])
    return f"torchrun ... -m vaectl {words}" if processes.world_size() > 1 else f"vaectl {words}"
