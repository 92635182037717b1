"""vaectl info."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaectl.commands import options
from vaectl.io import files
from vaectl.layers import to_json
from vaectl.models import MODELS

if TYPE_CHECKING:
    from vaectl.checkpoint import Card


def info(
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", show_default=False, autocompletion=options.checkpoints_here, help="A checkpoint."),
    ] = None,
    checkpoint: options.CheckpointFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole card as JSON.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """The card says what the model is, what it learned from and how well.

    \b
      vaectl info vae.safetensors
      vaectl info --json | jq .figures
    """
    from vaectl import checkpoint as checkpoints

    path = file or options.checkpoint_file(checkpoint)
    card = checkpoints.load(path).card
    if as_json:
        files.write_line(json.dumps(checkpoints.to_json(card), sort_keys=True, indent=2))
        return
    for name, value in lines(card):
        files.write_line(f"{name:<12} {printable(value)}")


def printable(text: str) -> str:
    """The text without what could wreck a terminal: a card may say anything."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def lines(card: "Card") -> Iterator[tuple[str, str]]:
    """The card, a name and a value a line."""
    network = card.network
    height, width, channels = network.picture
    yield "model", f"{card.model}, {MODELS[card.model].summary}" if card.model in MODELS else card.model
    colours = "grey" if channels == 1 else "colour"
    if network.latent:
        yield "pictures", f"{height} x {width}, {colours}, fitted by {card.fit}"
        yield "latent", f"{network.latent} dimensions, {'a distribution' if network.variational else 'a point'}"
        yield "encoder", " > ".join(described(row) for row in to_json(network.encoder))
    else:
        yield "pictures", f"any size, {colours}, learned from crops of {height} x {width}"
        yield "latent", "none, a picture becomes a picture"
    yield "decoder", " > ".join(described(row) for row in to_json(network.decoder))
    yield "objective", f"{card.likelihood} likelihood, beta {card.beta:g}, input {', '.join(card.corrupt) or 'clean'}"
    for title, values in (
        ("data", card.data),
        ("training", card.training),
        ("figures", card.figures),
        ("versions", card.versions),
    ):
        yield title, ", ".join(f"{name} {shortened(value)}" for name, value in values.items())


def described(row: Mapping[str, Any]) -> str:
    """A layer row in a few characters: `linear 784 500`."""
    return " ".join(str(value) for value in row.values())


def shortened(value: Any) -> str:
    """A value of the card in a few characters; hashes by their beginning."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value)[:16]
