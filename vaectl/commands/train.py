"""vaectl train."""

import shlex
import sys
from typing import Annotated, Literal

import typer

from vaectl.base import processes
from vaectl.base.errors import UsageError
from vaectl.commands import options
from vaectl.commands.options import option
from vaectl.io import files

MAX_SIDE = 4096  # pixels, far more than any of the networks can learn

MODEL = typer.Argument(help="Plain, denoising or variational autoencoder.")
LATENT_HELP = "Latent dimension (default: ae 64, dae 128, vae 10; 128 for larger or color images)."
LATENT = option("--latent", "--latent-dim", min=1, metavar="N", help=LATENT_HELP)
NET = option("--net", help="Architecture (default: mlp; conv if over 32 x 32 or in color); a unet denoises any size.")
HIDDEN = option("--hidden", metavar="N,N", help="Hidden units (mlp), or channels per stage (conv, unet).")
SIZE = option("--size", metavar="N|HxW", help="Resize images, or crop them for a unet (default: as the data).")
GRAY = option("--gray/--color", "--grey/--colour", help="Channels of an image (default: as the data).")
FIT = typer.Option("--fit", help="How images of another aspect ratio are resized.")
STREAM = typer.Option("--stream", help="Learn from tar files while they are read: for more than a disk holds.")
EPOCHS = option("--epochs", min=1, metavar="N", help="Epochs (default: mlp 15, conv 12, unet 6; more for small data).")
BATCH_SIZE = option(
    "--batch-size", min=1, metavar="N", help="Images per step (default: mlp 256, conv 32, or 256 of digits; unet 8)."
)
LR = option("--lr", min=1e-12, metavar="X", help="Peak learning rate (default: by the number of steps).")
BETA = option("--beta", min=0, metavar="X", help="Weight of the KL (default: vae 1, ae and dae 0).")
FROM = option("--from", metavar="FILE", help="Go on from the network and weights of a checkpoint, as on other data: fine-tuning.")
OBJECTIVE = typer.Option("--objective", help="The bound: elbo (Kingma & Welling 2014), or iwae of --samples (Burda et al. 2016).")
KL_WARMUP = typer.Option(
    "--kl-warmup", min=0, metavar="N", help="Epochs in which the weight of the KL rises from 0 (Sønderby et al. 2016)."
)
SAMPLES = typer.Option(
    "--samples", min=1, max=1_000_000, metavar="L", help="Samples of z per image: L in Kingma & Welling, k of iwae."
)
LIKELIHOOD = option("--likelihood", help="Likelihood of a pixel (default: bernoulli for small gray images, else gaussian).")
SIGMA = option("--sigma", min=1e-3, metavar="X", help="Sigma of a gaussian likelihood (default: learned).")
BINARIZE = typer.Option("--binarize", help="Dynamic binarization: sample each pixel as 0 or 1 at every visit.")
SHIFT = option("--shift", min=0, metavar="N", help="Move images at random by up to N pixels (default: a few if data are small).")
PRECISION = typer.Option("--precision", help="Floating-point type of the layers.")
OUTPUT = option("-o", "--output", metavar="FILE", help="The checkpoint to write (default: MODEL.safetensors).")
FORCE = typer.Option("-f", "--force", help="Replace an existing checkpoint.")
RESUME = typer.Option("--resume", help="Continue an interrupted run, bit-identically.")
LOG_HELP = "Log each epoch to a folder, for TensorBoard and as epochs.csv; needs the package tensorboard."
LOG = option("--log", metavar="DIR", help=LOG_HELP)
JSON = typer.Option("--json", help="Print a JSON line per epoch, and one at the end, on stdout.")


def train(
    model: Annotated[Literal["ae", "dae", "vae"], MODEL],
    data: Annotated[str, options.DATA] = "mnist",
    noisy: options.Noisy = None,
    from_: Annotated[str | None, FROM] = None,
    latent: Annotated[int | None, LATENT] = None,
    net: Annotated[Literal["mlp", "conv", "unet"] | None, NET] = None,
    hidden: Annotated[str | None, HIDDEN] = None,
    size: Annotated[str | None, SIZE] = None,
    gray: Annotated[bool | None, GRAY] = None,
    fit: Annotated[Literal["crop", "pad", "stretch"], FIT] = "crop",
    skip_bad: options.SkipBad = False,
    stream: Annotated[bool, STREAM] = False,
    epochs: Annotated[int | None, EPOCHS] = None,
    batch_size: Annotated[int | None, BATCH_SIZE] = None,
    lr: Annotated[float | None, LR] = None,
    beta: Annotated[float | None, BETA] = None,
    corrupt: options.Corrupt = None,
    samples: Annotated[int, SAMPLES] = 1,
    objective: Annotated[Literal["elbo", "iwae"], OBJECTIVE] = "elbo",
    kl_warmup: Annotated[int, KL_WARMUP] = 0,
    likelihood: Annotated[Literal["bernoulli", "gaussian"] | None, LIKELIHOOD] = None,
    sigma: Annotated[float | None, SIGMA] = None,
    binarize: Annotated[bool, BINARIZE] = False,
    shift: Annotated[int | None, SHIFT] = None,
    precision: Annotated[Literal["auto", "fp32", "bf16"], PRECISION] = "auto",
    output: Annotated[str | None, OUTPUT] = None,
    force: Annotated[bool, FORCE] = False,
    resume: Annotated[bool, RESUME] = False,
    log: Annotated[str | None, LOG] = None,
    as_json: Annotated[bool, JSON] = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Prints the path of the checkpoint on stdout when it is done, and nothing else.

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
    path = output or f"{model}.safetensors"
    if as_json and path in files.STDOUT_NAMES:
        raise UsageError("--json and the checkpoint both go to stdout: name a file with -o")
    widths = parse_widths(hidden) if hidden else None
    sides = parse_size(size) if size else None

    from vaectl.base.memory import reuse_large_blocks
    from vaectl.commands import console
    from vaectl.training import run

    reuse_large_blocks()
    speaks = processes.rank() == 0
    with console.TrainingDisplay(quiet or not speaks, as_json and speaks) as display:
        trained = run.train(
            model,
            data,
            noisy=noisy,
            init_from=from_,
            latent_dim=latent,
            net=net,
            hidden=widths,
            size=sides,
            channels=None if gray is None else 1 if gray else 3,
            fit=fit,
            skip_bad=skip_bad,
            stream=stream,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            beta=beta,
            corrupt=corrupt,
            samples=samples,
            objective=objective,
            kl_warmup=kl_warmup,
            likelihood=likelihood,
            sigma=sigma,
            binarize=binarize,
            shift=shift,
            precision=precision,
            seed=seed,
            device=device,
            output=path,
            force=force,
            resume=resume,
            resume_command=resume_command(),
            log=log,
            on_read=display.on_read,
            on_progress=display.on_progress,
            on_end=display.on_end,
        )
    if speaks and path not in files.STDOUT_NAMES:
        if as_json:
            console.write_json({"checkpoint": path, "metrics": trained.card.metrics}, indent=None)
        else:
            files.write_line(path)


def resume_command() -> str:
    """The command that resumes this run."""
    words = shlex.join([*(word for word in sys.argv[1:] if word != "--resume"), "--resume"])
    return f"torchrun ... -m vaectl {words}" if processes.world_size() > 1 else f"vaectl {words}"


def parse_size(text: str) -> tuple[int, int]:
    """Height and width in "64" or "48x64".

    Raises:
        UsageError: anything else.
    """
    parts = text.split("x")
    if len(parts) > 2 or not all(part.isdecimal() and 0 < int(part) <= MAX_SIDE for part in parts):
        raise UsageError(f"--size {text!r}: give 1 to {MAX_SIDE} pixels, as in --size 64 or --size 48x64 (height x width)")
    return int(parts[0]), int(parts[-1])


def parse_widths(text: str) -> list[int]:
    """The widths in "500,500".

    Raises:
        UsageError: anything else.
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--hidden {text!r}: give positive widths, as in --hidden 500,500")
    return [int(part) for part in parts]
