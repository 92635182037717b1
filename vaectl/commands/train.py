"""vaectl train."""

import json
import os
from dataclasses import asdict
from typing import Annotated, Literal

import typer

from vaectl import models, networks
from vaectl.commands import options
from vaectl.errors import UsageError, VaectlError
from vaectl.io import files
from vaectl.models import MODELS


def train(
    model: Annotated[Literal["ae", "dae", "vae"], typer.Argument(help="Plain, denoising or variational autoencoder.")],
    data: Annotated[str, options.DATA] = "mnist",
    latent: Annotated[
        int | None,
        typer.Option("--latent", min=1, metavar="N", show_default=False, help="Latent dimensions; ae 64, dae 128, vae 10."),
    ] = None,
    hidden: Annotated[str, typer.Option("--hidden", metavar="N,N", help="Widths of the hidden layers.")] = "500,500",
    net: Annotated[Literal["mlp"], typer.Option("--net", help="Kind of network.")] = "mlp",
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, metavar="N", show_default=False, help="Times each picture is seen; 15, or more of few."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, metavar="N", show_default=False, help="Pictures a step; 256.")
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
        int, typer.Option("--samples", min=1, metavar="L", help="Draws of z for each picture, the paper's L.")
    ] = 1,
    likelihood: Annotated[
        Literal["bernoulli", "gaussian"], typer.Option("--likelihood", help="Of a pixel around its mean.")
    ] = "bernoulli",
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
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line an epoch on stdout.")] = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Prints the path of the checkpoint on stdout when it is done, and nothing else.

    \b
      vaectl train vae --latent 2
      vaectl train dae --corrupt gaussian:0.4 -o strong.safetensors
      m=$(vaectl train vae --seed 3 -o run3.safetensors) && vaectl info "$m"
    """
    from vaectl import autoencoder, checkpoint, corruption, datasets
    from vaectl import device as devices
    from vaectl.checkpoint import Card, Checkpoint
    from vaectl.commands import console

    dials = MODELS[model]
    corruptions = corruption.parse(corrupt or dials.corrupt)
    if sigma and likelihood != "gaussian":
        raise UsageError("--sigma belongs to a gaussian likelihood: add --likelihood gaussian")
    path = output or f"{model}.safetensors"
    files.check_writable(path)
    if os.path.exists(path) and not force:
        raise VaectlError(f"{path!r} is there already: replace it with --force, or name another file with -o")
    dataset = datasets.load(data)
    settings = models.settings(
        len(dataset.train),
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        beta=dials.beta if beta is None else beta,
        corrupt=tuple(corrupt or dials.corrupt),
        likelihood=likelihood,
        sigma=sigma,
        samples=samples,
        binarize=binarize,
        precision=precision,
        seed=seed,
    )
    network = networks.NETS[net](dataset.picture, latent or dials.latent, widths(hidden), variational=settings.beta > 0)

    # torch takes longer to import than most verbs to run: only now, when nothing is wrong with the call.
    from vaectl import evaluation, objective, training

    place = devices.resolve(device)
    with console.training(quiet, as_json) as report:
        trained = training.fit(network, dataset.train, settings, place, report)
    judge = evaluation.Judge(network, trained.tensors, objective.likelihood(likelihood, trained.sigma), place)
    measure = evaluation.Measure(corruptions, binarize=binarize, seed=seed)
    card = Card(
        model=model,
        network=network,
        likelihood=likelihood,
        sigma=trained.sigma,
        beta=settings.beta,
        corrupt=settings.corrupt,
        latent=judge.latent_statistics(dataset.train),
        training=asdict(settings),
        data=dataset.origin(),
        figures={
            "split": dataset.held_out_split,
            "pictures": len(dataset.held_out),
            **evaluation.means(judge.figures(dataset.held_out, measure)),
        },
        epochs=trained.epochs,
        versions=versions(),
    )
    checkpoint.save(path, Checkpoint(card, trained.tensors))
    if not quiet:
        console.preview(autoencoder.load(path), dataset.held_out)
        console.say_trained(card)
    files.write_line(json.dumps({"checkpoint": path, "figures": card.figures}) if as_json else path)


def versions() -> dict[str, str]:
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
