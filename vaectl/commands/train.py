"""vaectl train."""

import json
import shlex
import sys
import warnings
from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vaectl import models
from vaectl.commands import options
from vaectl.errors import Remark, UsageError
from vaectl.io import files
from vaectl.models import MODELS, Settings

if TYPE_CHECKING:
    from vaectl.batches import Bytes, Stock
    from vaectl.checkpoint import Checkpoint
    from vaectl.corruption import Corruption
    from vaectl.datasets import Dataset
    from vaectl.networks import Network
    from vaectl.states import Keeper

LONGEST_SIDE = 4096  # pixels, far above what any of the networks learns from


def train(
    model: Annotated[Literal["ae", "dae", "vae"], typer.Argument(help="Plain, denoising or variational autoencoder.")],
    data: Annotated[str, options.DATA] = "mnist",
    latent: Annotated[
        int | None,
        typer.Option(
            "--latent",
            min=1,
            metavar="N",
            show_default=False,
            help="Latent dimensions; ae 64, dae 128, vae 10; 128 where conv is usual.",
        ),
    ] = None,
    net: Annotated[
        Literal["mlp", "conv", "unet"] | None,
        typer.Option(
            "--net", show_default=False, help="mlp, or conv if larger than 32 x 32 or in colour; unet: a dae for any size."
        ),
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option("--hidden", metavar="N,N", show_default=False, help="Widths of the hidden layers, halvings or scales."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", metavar="N|HxW", show_default=False, help="Pixels of a picture, or of a unet's crops; else as the data."
        ),
    ] = None,
    gray: Annotated[
        bool | None, typer.Option("--gray/--color", show_default=False, help="Channels of a picture; from the data.")
    ] = None,
    fit: Annotated[
        Literal["crop", "pad", "stretch"], typer.Option("--fit", help="How pictures of other proportions fill the size.")
    ] = "crop",
    skip_bad: options.SkipBad = False,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs", min=1, metavar="N", show_default=False, help="Times each picture is seen; mlp 15, conv 12, more of few."
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, metavar="N", show_default=False, help="Pictures a step; mlp 256, conv 32, unet 4."),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr", min=1e-12, metavar="X", show_default=False, help="Peak learning rate; chosen by the number of steps."
        ),
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option("--beta", min=0, metavar="X", show_default=False, help="Weight of the KL; vae 1, the others 0."),
    ] = None,
    corrupt: options.Corrupt = None,
    samples: Annotated[
        int, typer.Option("--samples", min=1, max=1_000_000, metavar="L", help="Draws of z for each picture, the paper's L.")
    ] = 1,
    likelihood: Annotated[
        Literal["bernoulli", "gaussian"] | None,
        typer.Option("--likelihood", show_default=False, help="Of a pixel; bernoulli where mlp is usual, else gaussian."),
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option("--sigma", min=1e-3, metavar="X", show_default=False, help="Of a gaussian likelihood; learned otherwise."),
    ] = None,
    binarize: Annotated[bool, typer.Option("--binarize", help="Draw each pixel anew as white or black at every visit.")] = False,
    precision: Annotated[Literal["auto", "fp32", "bf16"], typer.Option("--precision", help="Arithmetic of the layers.")] = "auto",
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE", show_default=False, help="The checkpoint; MODEL.safetensors otherwise."),
    ] = None,
    force: Annotated[bool, typer.Option("-f", "--force", help="Replace an existing checkpoint.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line an epoch on stdout.")] = False,
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
      m=$(vaectl train vae --seed 3 -o run3.safetensors) && vaectl info "$m"
    """
    from vaectl import autoencoder, checkpoint, corruption, datasets, states
    from vaectl import device as devices
    from vaectl.commands import console

    dials = MODELS[model]
    beta = dials.beta if beta is None else beta
    whole = net == "unet"
    corruptions = corruption.parse(corrupt or dials.corrupt, photographs=whole)
    if whole and (latent or beta or likelihood == "bernoulli" or not corruptions):
        raise UsageError("--net unet has no latent and mends gaussian pixels: use it for a dae, as in train dae --net unet")
    path = output or f"{model}.safetensors"
    files.check_writable(path)
    if as_json and path in files.STDOUT_NAMES:
        raise UsageError("--json and the checkpoint both go to stdout: name a file with -o")
    with states.keeping(path, again(), resume=resume, force=force) as keeper:
        side = sides(size) if size else None
        channels = None if gray is None else 1 if gray else 3
        wish = datasets.Wish(None if whole else side, channels, fit, whole=whole, skip_bad=skip_bad)
        dataset = datasets.load(data, wish)
        picture = (*(side or models.CROP), dataset.picture[2]) if whole else dataset.picture
        kind = net or models.kind_of_network(picture)
        likely = likelihood or models.usual_likelihood(kind, picture)
        if sigma and likely != "gaussian":
            raise UsageError("--sigma belongs to a gaussian likelihood: add --likelihood gaussian")
        try:
            shape = widths(hidden) if hidden else None
            network = models.network(kind, picture, latent or models.usual_latent(model, picture), shape, variational=beta > 0)
        except ValueError as error:
            raise UsageError(f"these sizes make no network: {error}: change --size, --latent or --hidden") from error
        remark(network, dataset, bool(corruptions) and net is None and kind == "conv")

        # torch takes longer to import than most verbs to run: only now, when nothing is wrong with the call.
        from vaectl import batches

        place = devices.resolve(device)
        stock = batches.stock(dataset.train, picture, place)
        judged = batches.stock(dataset.held_out, picture, "cpu").judged()
        settings = models.settings(
            kind,
            len(stock),
            widest=network.widest,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            beta=beta,
            corrupt=tuple(corrupt or dials.corrupt),
            likelihood=likely,
            sigma=sigma,
            samples=samples,
            binarize=binarize,
            precision=precision,
            seed=seed,
        )
        lesson = Lesson(model, network, fit, dataset, stock, judged, settings, corruptions)
        made = learned(lesson, place, keeper, quiet, as_json)
        checkpoint.save(path, made)
    if not quiet:
        console.preview(autoencoder.ready(made), judged)
        console.say_trained(made.card)
    if path not in files.STDOUT_NAMES:
        files.write_line(json.dumps({"checkpoint": path, "figures": made.card.figures}) if as_json else path)


def remark(network: "Network", dataset: "Dataset", shrunk: bool) -> None:
    """Say what the user may not have meant; `shrunk` are pictures that are mended at another size than theirs."""
    height, width, _ = network.picture
    told = {
        f"{network.latent} latent dimensions are more than the {prod(network.picture)} values of a picture": (
            network.latent > prod(network.picture)
        ),
        "too few pictures to hold any of them out: the figures will be of those that were learned from": not len(dataset.test),
        f"pictures are brought to {height} x {width}: --net unet mends photographs at their own size": shrunk,
    }
    for words, true in told.items():
        if true:
            warnings.warn(words, Remark, stacklevel=2)


@dataclass(frozen=True)
class Lesson:
    """What is learned, from what, and how."""

    model: str
    network: "Network"
    fit: str
    dataset: "Dataset"
    stock: "Stock"
    judged: "Bytes"
    settings: Settings
    corruptions: "tuple[Corruption, ...]"


def learned(lesson: Lesson, device: str, keeper: "Keeper", quiet: bool, as_json: bool) -> "Checkpoint":
    """What is learned, and how good it is."""
    from vaectl import evaluation, networks, objective, signals, training
    from vaectl.checkpoint import Card, Checkpoint
    from vaectl.commands import console

    network, settings, dataset = lesson.network, lesson.settings, lesson.dataset
    story = {"data": dataset.origin(), "model": lesson.model, "network": networks.to_json(network), "fit": lesson.fit}
    story |= asdict(settings) | training.arithmetic(settings.precision, device)
    start = keeper.start(story, versions() | training.machine())
    with console.training(quiet, as_json) as report, signals.deferred() as waiting:
        trained = training.fit(network, lesson.stock, settings, device, report, keeper.keep(waiting), start)
    likelihood = objective.likelihood(settings.likelihood, trained.sigma, network.linear)
    judge = evaluation.Judge(network, trained.tensors, likelihood, device)
    measure = evaluation.Measure(lesson.corruptions, binarize=settings.binarize, seed=settings.seed)
    figures = evaluation.means(judge.figures(lesson.judged, measure))
    card = Card(
        model=lesson.model,
        network=network,
        fit=lesson.fit,
        likelihood=settings.likelihood,
        sigma=trained.sigma,
        beta=settings.beta,
        corrupt=settings.corrupt,
        latent=judge.latent_statistics(lesson.stock.sample()),
        training=asdict(settings),
        data=dataset.origin(),
        figures={"split": dataset.held_out_split, "pictures": len(lesson.judged), **figures},
        epochs=trained.epochs,
        versions=versions(),
    )
    return Checkpoint(card, trained.tensors)


def again() -> str:
    """What the user calls to go on with this training."""
    words = [word for word in sys.argv[1:] if word != "--resume"]
    return shlex.join(["vaectl", *words, "--resume"])


def sides(size: str) -> tuple[int, int]:
    """Height and width in "64" or "48x64".

    Raises:
        UsageError: anything but whole numbers above zero that are sizes of pictures.
    """
    parts = size.split("x")
    if len(parts) > 2 or not all(part.isdecimal() and 0 < int(part) <= LONGEST_SIDE for part in parts):
        raise UsageError(f"--size {size!r}: give pixels, 1 to {LONGEST_SIDE}, as in --size 64 or --size 48x64 (height x width)")
    return int(parts[0]), int(parts[-1])


def versions() -> dict[str, Any]:
    """Of everything that bears on the weights' bits."""
    import platform
    from importlib.metadata import version

    from vaectl import __version__

    return {"vaectl": __version__, "python": platform.python_version(), "numpy": version("numpy"), "torch": version("torch")}


def widths(hidden: str) -> list[int]:
    """The widths in "500,500".

    Raises:
        UsageError: anything but whole numbers above zero.
    """
    parts = hidden.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--hidden {hidden!r}: give widths above zero, as in --hidden 500,500")
    return [int(part) for part in parts]
