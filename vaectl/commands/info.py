"""vaectl info."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaectl.base.text import escape
from vaectl.commands import options
from vaectl.io import files
from vaectl.models.layers import layers_to_json
from vaectl.models.presets import MODELS
from vaectl.models.pretrained import PRETRAINED

if TYPE_CHECKING:
    from vaectl.models.checkpoint import Card
    from vaectl.models.layers import Layer
    from vaectl.models.mixture import Mixture
    from vaectl.models.network import Network


def info(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]", show_default=False, autocompletion=options.complete_checkpoints, help="A checkpoint, or photo."
        ),
    ] = None,
    checkpoint: options.CheckpointFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole card as JSON.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Prints what the model is, what it was trained on, and how good it is; without one, the ready-made models.

    \b
      vaectl info vae.safetensors
      vaectl info --json | jq .metrics
    """
    from vaectl.models import checkpoint as checkpoints

    if not (file or checkpoint or as_json or options.checkpoints_here()):
        for name, use in PRETRAINED.items():
            files.write_line(f"{name:<12} ready-made, {use}")
        return
    found = checkpoints.load(file or options.find_checkpoint(checkpoint))
    card = found.card
    if as_json:
        from vaectl.commands import console

        console.write_json(checkpoints.to_json(found))
        return
    lines = [*describe_card(card), ("prior", describe_prior(found.prior, card.network))]
    if found.experts:
        lines.append(("experts", found.describe_experts()))
    for name, value in lines:
        files.write_line(f"{name:<12} {escape(value)}")


def describe_prior(prior: "Mixture | None", network: "Network") -> str:
    """The prior in a line."""
    if not prior:
        return "N(0, I)" if network.variational else "none"
    labels = f", {len(prior.labels)} labels" if prior.labels else ""
    count = "1 Gaussian" if len(prior) == 1 else f"{len(prior)} Gaussians"
    return f"learned: {count} over {len(prior.dims)} of {network.latent_dim} dimensions{labels}"


def describe_card(card: "Card") -> Iterator[tuple[str, str]]:
    """The lines of a card: a name and a value."""
    network = card.network
    height, width, channels = network.image_shape
    yield "model", f"{card.model}, {MODELS[card.model].summary}" if card.model in MODELS else card.model
    colors = "gray" if channels == 1 else "color"
    if network.has_latent:
        yield "images", f"{height} x {width}, {colors}, resized by {card.fit}"
        yield "latent", f"{network.latent_dim} dimensions, {'a distribution' if network.variational else 'a point'}"
        yield "encoder", describe_layers(network.encoder)
    else:
        yield "images", f"any size, {colors}, trained on crops of {height} x {width}"
        yield "latent", "none, maps images to images"
    yield "decoder", describe_layers(network.decoder)
    yield "layout", "NHWC: flatten and unflatten run over height, width, channel"
    given = ", ".join(card.corrupt) or ("noisy" if card.denoises else "clean")
    yield "objective", f"{card.likelihood} likelihood, beta {card.beta:g}, input {given}"
    sections = {"data": card.data, "training": card.training, "metrics": card.metrics, "versions": card.versions}
    for title, values in sections.items():
        yield title, ", ".join(f"{name} {abbreviate(name, value)}" for name, value in values.items() if value is not None)


def describe_layers(layers: "Sequence[Layer]") -> str:
    """Layers in a line, and blocks that repeat once: `linear 784 500 > 2 x (linear 500 500 > silu)`."""
    words = [" ".join(str(value) for value in layer.values()) for layer in layers_to_json(layers)]
    parts = []
    while words:
        lengths = range(2, len(words) // 2 + 1)
        length = next((length for length in lengths if words[:length] == words[length : 2 * length]), 1)
        times = 1
        while length > 1 and words[:length] == words[times * length : (times + 1) * length]:
            times += 1
        block = " > ".join(words[:length])
        parts.append(f"{times} x ({block})" if times > 1 else block)
        words = words[times * length :]
    return " > ".join(parts)


def abbreviate(name: str, value: Any) -> str:
    """A value of the card in a few characters."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value)[:16] if name == "sha256" else str(value)
