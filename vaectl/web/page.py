"""A model as one self-contained HTML page that runs it in the browser, without a request to anywhere."""

import base64
import hashlib
import html
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

import numpy as np

from vaectl.base.arrays import Array
from vaectl.models.autoencoder import Autoencoder
from vaectl.models.checkpoint import Card
from vaectl.models.metric_labels import BEFORE, METRICS
from vaectl.models.network import network_to_json
from vaectl.models.presets import MODELS

ASSETS = resources.files("vaectl.web") / "assets"
COMPRESSION = 1  # weights hardly compress: higher levels take longer and gain 1 %
# A page may run only its own script, its worker and WebAssembly, and load nothing.
POLICY = "default-src 'none'; script-src {script} 'wasm-unsafe-eval'; style-src {style}; img-src data: blob:; worker-src blob:"


def facts(card: Card) -> Iterator[tuple[str, str]]:
    """The card, for a person: terms and values."""
    height, width, channels = card.network.image_shape
    colors = "gray" if channels == 1 else "color"
    yield "Model", MODELS[card.model].summary if card.model in MODELS else card.model
    if card.network.has_latent:
        yield "Images", f"{height} x {width} pixels, {colors}"
        yield "Latent", f"{card.network.latent_dim} dimensions"
    yield "Objective", f"{card.likelihood} likelihood, beta {card.beta:g}"
    if card.corrupt:
        yield "Learned to remove", ", ".join(card.corrupt)
    if isinstance(card.data.get("train"), int):
        folder = os.path.basename(str(card.data.get("name")).rstrip("/"))
        yield "Learned from", f"{card.data['train']:,} images of {folder}"
    for name, (label, unit) in METRICS.items():
        value, before = card.metrics.get(name), card.metrics.get(name + BEFORE)
        if isinstance(value, float):
            digits = ",.2f" if unit else ".4f"
            corrupted = f" (corrupted: {before:{digits}})" if isinstance(before, float) else ""
            yield label, f"{value:{digits}} {unit}".rstrip() + corrupted


def render(
    body: str,
    title: str,
    model: Autoencoder,
    content: Mapping[str, Any],
    tensors: Mapping[str, Array],
    scripts: Sequence[str],
) -> bytes:
    """The page of a model: its title, body and scripts, and a policy that allows these and no others.

    `content` and `tensors` are what the scripts find as `model`, beside the network and the facts, and through `readTensors`.
    """
    network = network_to_json(model.network) | {"variational": model.network.variational}
    shapes = [(name, tensor.shape) for name, tensor in tensors.items()]
    values = {**content, "network": network, "facts": [*facts(model.card)], "tensors": shapes}
    script, style = "\n".join(scripts), read_asset("style.css")
    policy = POLICY.format(script=hash_source(script), style=hash_source(style))
    page = Template(read_asset("page.html")).substitute(
        title=html.escape(title),
        policy=policy,
        body=body,
        style=style,
        script=script,
        engine=read_asset("engine.js"),
        wasm=base64.b64encode((ASSETS / "multiply.wasm").read_bytes()).decode(),
        model=to_inline_json(values),
        tensors=base64.b64encode(pack_floats(tensors.values())).decode(),
    )
    return page.encode("utf-8", "replace")  # the name of a file may not be text


def read_asset(name: str) -> str:
    """A file of the page."""
    return (ASSETS / name).read_text("utf-8")


def wrap_module(name: str) -> str:
    """A CommonJS module of vendor/, with its license, as a statement that defines a constant of its name."""
    source, license = (read_asset(f"vendor/{name}.{suffix}") for suffix in ("js", "LICENSE.md"))
    return f"/*\n{license}*/\nconst {name} = ((exports) => {{\n{source}\nreturn exports;\n}})({{}});"


def hash_source(text: str) -> str:
    """A script or style as a source of a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def to_inline_json(value: Any) -> str:
    """JSON that ends no script element, whatever names it contains; numbers that JSON lacks become null."""
    return json.dumps(without_nan(value), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def without_nan(value: Any) -> Any:
    """The value with None for NaN and infinite numbers."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def pack_floats(arrays: Iterable[Array]) -> bytes:
    """The values of arrays, rounded to 24 bits (16 of them significant), as three planes of bytes, compressed.

    Bytes of one plane are alike, so they compress to half of what floats of 32 bits do.
    """
    bits = np.concatenate([array.ravel() for array in arrays]).astype(np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7F) + ((bits >> np.uint32(8)) & np.uint32(1))) >> np.uint32(8)
    planes = [(rounded >> np.uint32(shift)).astype(np.uint8).tobytes() for shift in (16, 8, 0)]
    return zlib.compress(b"".join(planes), COMPRESSION)
