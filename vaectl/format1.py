"""Reads what vaectl 0.1 wrote: checkpoints and training states of format 1, under the names of format 2.

Format 1 also ordered the channels of (un)shuffled pixels as (row, column, channel), where torch and format 2 have
(channel, row, column); the weights next to such a layer are permuted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaectl.io.safetensors import check_type
from vaectl.networks.layers import Conv2d, PixelShuffle, PixelUnshuffle
from vaectl.networks.network import Network

# The layers of format 1: their name in format 2, and that of each of their fields.
LAYERS = {
    "linear": ("linear", {"inputs": "in_features", "outputs": "out_features"}),
    "conv": ("conv2d", {"inputs": "in_channels", "outputs": "out_channels", "size": "kernel_size"}),
    "upsample": ("upsample", {"factor": "scale_factor"}),
    "fold": ("pixel_unshuffle", {"factor": "downscale_factor"}),
    "unfold": ("pixel_shuffle", {"factor": "upscale_factor"}),
    "reshape": ("unflatten", {}),
    "keep": ("push_skip", {}),
    "add": ("add_skip", {}),
}
CARD = {"latent": "latent_stats", "figures": "metrics"}
NETWORK = {"picture": "image_shape", "latent": "latent_dim"}
CONFIG = {"adam": "betas"}
NEW_CONFIG = {"objective": "elbo", "kl_warmup": 0, "from": None, "shift": 0}  # settings that came later
METRICS = {"pictures": "images"}
STATE = {"weights": "weights", "first": "exp_avg", "second": "exp_avg_sq", "seen": "logged", "likelihood": "likelihood"}
STATE |= {"random": "rng_state", "random_of_epoch": "epoch_rng_state"}
DUPLICATED = ("beta", "corrupt", "likelihood")  # they stood both in the card and in its training settings


def rename(values: Any, names: Mapping[str, str]) -> dict[str, Any]:
    """The same values under new names; ValueError if they have none."""
    return {names.get(name, name): value for name, value in check_type(values, dict).items()}


def upgrade_card(values: Mapping[str, Any]) -> dict[str, Any]:
    """A card of format 1 as one of format 2; KeyError, TypeError or ValueError if it is damaged."""
    training = {name: value for name, value in rename(values["training"], CONFIG).items() if name not in DUPLICATED}
    renamed = {"fit": "crop"} | rename(values, CARD)  # the first checkpoints had no other fit
    return renamed | {
        "network": upgrade_network(values["network"]),
        "training": training,
        "metrics": rename(values["figures"], METRICS),
    }


def upgrade_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a training state of format 1 as those of format 2."""
    return NEW_CONFIG | rename(values, CONFIG) | {"network": upgrade_network(values["network"])}


def upgrade_network(values: Mapping[str, Any]) -> dict[str, Any]:
    """A network's JSON."""
    halves = {half: [upgrade_layer(layer) for layer in check_type(values[half], list)] for half in ("encoder", "decoder")}
    return rename(values, NETWORK) | halves


def upgrade_layer(values: Mapping[str, Any]) -> dict[str, Any]:
    """A layer's JSON."""
    name, fields = LAYERS.get(values["layer"], (values["layer"], {}))
    return rename(values, fields) | {"layer": name}


def upgrade_weights(network: Network, weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The weights of `network`, or anything else of their shapes, with channels in torch's order."""
    upgraded = dict(weights)
    for half, layers in network.halves():
        convolutions = [index for index, layer in enumerate(layers) if isinstance(layer, Conv2d)]
        for index, layer in enumerate(layers):
            if isinstance(layer, PixelUnshuffle):
                name = f"{half}.{min((conv for conv in convolutions if conv > index), default=None)}.weight"
                upgraded[name] = upgraded[name][:, channel_order(upgraded[name].shape[1], layer.downscale_factor)]
            elif isinstance(layer, PixelShuffle):
                for kind in ("weight", "bias"):
                    name = f"{half}.{max((conv for conv in convolutions if conv < index), default=None)}.{kind}"
                    upgraded[name] = upgraded[name][channel_order(len(upgraded[name]), layer.upscale_factor)]
    return upgraded


def channel_order(channels: int, factor: int) -> NDArray[np.int64]:
    """The places in (row, column, channel) order of channels in (channel, row, column) order."""
    return np.arange(channels).reshape(factor**2, -1).T.ravel()


def upgrade_state(network: Network, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tensors of a training state; weights and Adam's moments are flat vectors of all weights in order."""
    upgraded = rename(tensors, STATE)
    shapes = network.weight_shapes()
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
    for vector in ("weights", "exp_avg", "exp_avg_sq"):
        parts = np.split(upgraded[vector], ends[:-1])
        named = {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        upgraded[vector] = np.concatenate([weight.ravel() for weight in upgrade_weights(network, named).values()])
    return upgraded | {f"best_{name}": upgraded[name] for name in ("weights", "likelihood")}  # none was kept
