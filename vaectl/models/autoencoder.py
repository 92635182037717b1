"""A trained model, as commands and Python use it."""

from __future__ import annotations  # so that help() shows the names of types

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL.Image import Image

from vaectl.base.arrays import Array, to_finite
from vaectl.base.errors import UsageError, VaectlError, warn
from vaectl.base.shapes import Shape
from vaectl.base.text import list_names
from vaectl.datasets.named import find_sources
from vaectl.images import resize
from vaectl.images.noise import Expert, Noise, choose_expert
from vaectl.io import files, inputs
from vaectl.io.decoders import Decoder, ImageDecoder, PhotoDecoder
from vaectl.io.records import Batch
from vaectl.io.sources import ImageList, SkipPolicy, Source
from vaectl.models import checkpoint, latents, numpy_engine
from vaectl.models.checkpoint import Card, Checkpoint
from vaectl.models.device import resolve_device
from vaectl.models.layers import Layer, count_macs
from vaectl.models.network import Network, half_weights
from vaectl.models.tiling import run_tiled

if TYPE_CHECKING:
    from vaectl.models.torch_engine import Modules

Forward = Callable[[Array], Array]
# A path, a folder, a data set's name, a Pillow image, several of these, or an array.
Images = str | PathLike[str] | Image | Iterable[str | PathLike[str] | Image] | ArrayLike
# A path of an NPY or CSV file, several of these, or an array.
Latents = str | PathLike[str] | Iterable[str | PathLike[str]] | ArrayLike

PRIORS = ("learned", "normal")
N_LABELS = 20  # that a message lists
MIN_PURITY = 0.6  # of samples of a label; below it, a warning says so
MAX_BATCH_VALUES = 1 << 20  # pixel values that pass through the network together
# The MACs (multiply-accumulates) that NumPy has done in about the time it takes to import torch.
NUMPY_MAC_LIMIT = 10_000_000_000


@dataclass(frozen=True, repr=False)
class Autoencoder:
    """A trained encoder and decoder, ready to run."""

    checkpoint: Checkpoint
    encoder: Forward
    decoder: Forward
    experts: Sequence[tuple[Expert, Forward]] = ()

    @property
    def card(self) -> Card:
        """What the checkpoint says about the model."""
        return self.checkpoint.card

    @property
    def network(self) -> Network:
        """The layers of the encoder and the decoder."""
        return self.card.network

    @property
    def image_shape(self) -> Shape:
        """The shape of one image, (H, W, C)."""
        return self.network.image_shape

    @property
    def latent_dim(self) -> int:
        """D, the number of latent dimensions."""
        return self.network.latent_dim

    def __repr__(self) -> str:
        if not self.network.has_latent:
            return f"<Autoencoder: {self.card.model}, images of any size, {self.image_shape[2]} channels>"
        size = " x ".join(map(str, self.image_shape))
        return f"<Autoencoder: {self.card.model}, images {size}, latent_dim {self.latent_dim}>"

    def encode(self, images: Images, *, rng: np.random.Generator | None = None) -> Array:
        """Encode images: z for an AE, mu of q(z|x) for a VAE.

        Args:
            images: paths, folders, Pillow images or a data set's name ("mnist:test"), which are resized; or an array (N, H, W, C)
                of the model's size, with pixels in [0, 1] or integers up to 255. One image, flat images and, if C is 1, a missing
                channel axis are accepted.
            rng: sample z = mu + sigma * epsilon with it instead (Kingma & Welling, section 2.4).

        Returns:
            (N, D) float32.

        Raises:
            VaectlError: images of another size or pixels out of range; sampling from a model without a distribution; or a model
                without a latent.
        """
        return np.concatenate([self.encode_batch(batch.arrays, rng) for batch in self.batches(images)])

    def encode_batch(self, images: Array, rng: np.random.Generator | None = None) -> Array:
        """Encode images that `read` gave, as `encode`, without checking them again."""
        if rng is None:
            return self._encoded(images)[:, : self.latent_dim]
        mu, logvar = self._split(self._encoded(images))
        epsilon = rng.standard_normal(mu.shape, np.float32)
        sigma: Array = np.exp(np.float32(0.5) * logvar)
        return mu + sigma * epsilon

    def posterior(self, images: Images) -> tuple[Array, Array]:
        """mu and logvar of q(z|x) = N(mu, exp(logvar)) (Kingma & Welling, equation 9), each (N, D) float32.

        Raises:
            VaectlError: as `encode`, or the model has no distribution.
        """
        return self._split(np.concatenate([self._encoded(batch.arrays) for batch in self.batches(images)]))

    def decode(self, latents: Latents) -> Array:
        """Decode latents to images: the mean of p(x|z).

        Args:
            latents: (N, D), or one of (D,); or paths of NPY or CSV files of them.

        Returns:
            (N, H, W, C) float32 in [0, 1].

        Raises:
            VaectlError: latents of another width, NaN or infinite; files that cannot be read; or a model without a latent.
        """
        self.require_latent()
        if sources := as_sources(latents):
            batches = inputs.read_latents(sources, self.latent_dim)
            return np.concatenate([self.decode_batch(batch.arrays) for batch in batches])
        z = np.atleast_2d(as_numbers(latents, "latents"))
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            expected = f"(N, {self.latent_dim})"
            raise VaectlError(
                f"an array of shape {z.shape}: latents of shape {expected} are expected: encode with this model first"
            )
        return self.decode_batch(to_finite(z, "latents"))

    def decode_batch(self, latents: Array) -> Array:
        """Decode latents that were read or sampled, as `decode`, without checking them again."""
        return self._run(self.decoder, latents)

    def denoise(self, images: Images) -> Array:
        """Denoise images with a model that was trained on corrupted ones: a dae, or the ready-made "photo".

        Args:
            images: paths, Pillow images or an array, as for `reconstruct`.

        Returns:
            (N, H, W, C) float32 in [0, 1], without alpha.

        Raises:
            VaectlError: as `encode`, or the model was trained on clean images.
        """
        if not self.card.denoises:
            raise VaectlError(f"this {self.card.model} was trained on clean images: use a dae")
        return self.reconstruct(images)

    def reconstruct(self, images: Images) -> Array:
        """Encode images and decode their latents.

        Args:
            images: as for `encode`; for a unet of any size, all of one size: (N, H, W, C), or one of (H, W, C) or (H, W); gray
                ones become color if the model takes color.

        Returns:
            (N, H, W, C) float32 in [0, 1].

        Raises:
            VaectlError: as `encode`, or images of several sizes.
        """
        stacks: list[Array] = []
        for batch in self.batches(images):
            if stacks and batch.arrays.shape[1:] != stacks[0].shape[1:]:
                raise VaectlError("the images differ in size: denoise them one at a time, or with vaectl denoise -o DIR/")
            stacks.append(self.reconstruct_batch(batch.arrays))
        return np.concatenate(stacks)

    def reconstruct_batch(self, images: Array, sigma: float | None = None) -> Array:
        """Reconstruct images that `read` gave, as `reconstruct`, without checking them again.

        The white noise of sigma, which chooses among weights, is estimated for each image if it is not known.
        """
        if self.network.has_latent:
            return self.decode_batch(self.encode_batch(images))
        if not self.experts:
            result: Array = run_tiled(self.decoder, self.network.decoder, images)
            return result
        stacks = []
        for photo in images:
            decoder = choose_expert(Noise(photo).white_sigma if sigma is None else sigma, self.decoder, self.experts)
            stacks.append(run_tiled(decoder, self.network.decoder, photo[np.newaxis]))
        return np.concatenate(stacks)

    def sample(
        self, count: int = 1, *, seed: int = 0, prior: str | None = None, temperature: float = 1.0, label: str | int | None = None
    ) -> Array:
        """Decode samples of the prior: images (count, H, W, C).

        Args and raises:
            as `sample_latents`.
        """
        return self.decode_batch(self.sample_latents(count, seed=seed, prior=prior, temperature=temperature, label=label))

    def sample_latents(
        self, count: int = 1, *, seed: int = 0, prior: str | None = None, temperature: float = 1.0, label: str | int | None = None
    ) -> Array:
        """Samples of the prior, (count, D).

        Args:
            prior: "learned", the mixture fitted to the latents of training images, or "normal", N(0, I); None is the learned one
                if the checkpoint has it.
            temperature: scales deviations from the means of the prior; below 1, samples are more typical and less diverse.
            label: draw from the components of the learned prior by their share of it.

        Raises:
            UsageError: a count below 1, a negative seed or temperature, another prior, or a label that is not there.
            VaectlError: a model without that prior.
        """
        if count < 1 or seed < 0 or not 0 <= temperature < np.inf:
            raise UsageError(
                f"count={count!r}, seed={seed!r}, temperature={temperature!r}: give a count of at least 1 and no negative number"
            )
        learned = self.checkpoint.prior
        prior = prior or ("learned" if learned or label is not None else "normal")
        if prior not in PRIORS:
            raise UsageError(f"prior={prior!r}: choose one of {', '.join(PRIORS)}")
        self.require_latent()
        if prior == "normal":
            if not self.network.variational:
                raise VaectlError(
                    f"N(0, I) is not a prior of this {self.card.model}: use a vae with beta above 0, or a learned prior"
                )
            if label is not None:
                raise UsageError("labels need the learned prior: leave out the normal one (--prior normal)")
            return latents.sample_normal(count, self.latent_dim, seed) * np.float32(temperature)
        if not learned:
            raise VaectlError(f"this {self.card.model} has no learned prior", "train it again, or sample with the normal one")
        label = None if label is None else str(label)
        try:
            if label is not None and (purity := learned.purity(label)) < MIN_PURITY:
                warn(f"only about {purity:.0%} of these samples will be {label!r}: train longer, or on more images")
            return learned.sample(count, seed, temperature, label)
        except KeyError as error:
            known = (
                f"its labels are {list_names(learned.labels, N_LABELS)}"
                if learned.labels
                else "its training images had no labels, or not all of them had"
            )
            raise UsageError(f"the prior knows no label {label!r}: {known}") from error

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model's checkpoint.

        Raises:
            VaectlError: the file cannot be written.
        """
        checkpoint.save(fspath(path), self.checkpoint)

    def export(self, path: str | PathLike[str], part: str = "autoencoder", *, sigma: float | None = None) -> None:
        """Write the model, or one half of it, as an ONNX file with the card in its metadata, under the key `vaectl`.

        Inputs and outputs are shaped as in the methods here; for a unet, images may have any size.

        Args:
            part: "encoder", from `image` to `z`, or for a VAE to `mu` and `logvar`; "decoder", from `z` to `image`; or
                "autoencoder", from `image` to the encoder's outputs and the `reconstruction` of z or mu.
            sigma: as for `torch`.

        Raises:
            UsageError: another part, or a sigma for a model with one set of weights.
            VaectlError: a half of a unet, more than 2 GB of weights, no package onnx, or the file cannot be written.
        """
        from vaectl.models import onnx_export

        card = json.dumps(checkpoint.card_to_json(self.card), sort_keys=True)
        data = onnx_export.encode_model(self.network, self._weights_for(sigma), part, {checkpoint.KEY: card})
        with files.open_output(fspath(path)) as stream:
            stream.write(data)

    def torch(self, *, sigma: float | None = None) -> Modules:
        """The encoder and the decoder as torch modules on the CPU, with copies of the weights, to be trained or built upon.

        The encoder takes images (N, H, W, C) to z (N, D), or for a VAE to mu and logvar side by side, (N, 2 D); the decoder takes
        z to images. For a unet, the encoder is None, and the decoder maps images to images, whose sides must be multiples of
        2 ** scales.

        Args:
            sigma: the strength of noise by which to choose from a model with several sets of weights, such as "photo"; None gives
                the general ones, and a warning.

        Raises:
            UsageError: a sigma for a model with one set of weights.
        """
        from vaectl.models.torch_engine import build_modules

        return build_modules(self.network, self._weights_for(sigma))

    def read(
        self, sources: Sequence[Source], *, invert: bool = False, skip_bad: bool | None = None, every: int = 1
    ) -> Iterator[Batch]:
        """Read images at the model's size, or for a unet at their own size, with alpha as one more channel.

        One of each `every` is read.

        Raises:
            VaectlError: one that is missing, damaged or not an image, unless it is skipped; or there are none.
        """
        batches = inputs.read_batches(sources, self.image_decoder(), SkipPolicy(skip_bad), every)
        channels = self.image_shape[2]
        return (batch.map(lambda images: resize.invert(images, channels)) for batch in batches) if invert else batches

    def image_decoder(self, *, with_alpha: bool = True) -> Decoder:
        """What makes of images what the model takes."""
        if self.network.has_latent:
            return ImageDecoder(self.card.resize_spec)
        return PhotoDecoder(self.image_shape[2], with_alpha)

    def batches(self, values: Images, *, skip_bad: bool | None = None) -> Iterator[Batch]:
        """Images of every kind that `encode` takes, as the model takes them, without alpha.

        Raises:
            VaectlError: as `encode`.
        """
        channels = self.image_shape[2]
        if sources := as_sources(values):
            yield from inputs.read_batches(sources, self.image_decoder(with_alpha=False), SkipPolicy(skip_bad))
            return
        array = as_numbers(values, "images")
        if self.network.has_latent:
            shape = resize.stack_shape(array.shape, self.image_shape, "images")
        else:
            shape = resize.photo_stack_shape(array.shape, channels, "images")
        pixels = resize.convert_channels(resize.to_pixels(array.reshape(shape)), channels)
        yield Batch([f"image-{index:05d}" for index in range(shape[0])], pixels)

    def require_latent(self) -> None:
        """Raise a VaectlError if the model has no latent."""
        if not self.network.has_latent:
            raise VaectlError("this model, a unet, has no latent: use it to denoise, or train with --net mlp or conv")

    def _weights_for(self, sigma: float | None) -> Mapping[str, Array]:
        """The weights for photos with white noise of this strength; None is the general ones, and a warning of others."""
        found, experts = self.checkpoint, self.checkpoint.experts
        if sigma is None:
            if experts:
                warn(f"without the {found.describe_experts()}: choose some by sigma (--sigma), such as {experts[0].high:g}")
            return found.weights
        if not experts:
            raise UsageError("this model has one set of weights for all images: leave out sigma")
        return choose_expert(sigma, found.weights, ((expert, expert.weights) for expert in experts))

    def _encoded(self, images: Array) -> Array:
        """The encoder's output, (N, D) or (N, 2 D)."""
        self.require_latent()
        return self._run(self.encoder, images)

    def _split(self, encoded: Array) -> tuple[Array, Array]:
        """mu and logvar in the encoder's output; a VaectlError if it has no distribution."""
        if not self.network.variational:
            raise VaectlError(f"this {self.card.model} has no q(z|x): use a vae with beta above 0")
        return encoded[:, : self.latent_dim], encoded[:, self.latent_dim :]

    def _run(self, forward: Forward, batch: Array) -> Array:
        """`forward` on a large batch, in chunks that keep activations small."""
        size = max(1, MAX_BATCH_VALUES // prod(self.image_shape))
        return np.concatenate([forward(batch[start : start + size]) for start in range(0, max(1, len(batch)), size)])


def as_numbers(values: object, name: str) -> NDArray[Any]:
    """An array of numbers; a VaectlError for anything else."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or not array.ndim:
        raise VaectlError(f"{name} {values!r}: give an array of numbers")
    return array


def as_sources(values: Images) -> list[Source]:
    """The sources that paths and Pillow images stand for; none for an array."""
    items: list[Any] = list(values) if isinstance(values, list | tuple | Iterator) else [values]
    if not all(isinstance(item, str | PathLike | Image) for item in items):
        return []
    sources: list[Source] = []
    for item in items:
        sources += [ImageList([item])] if isinstance(item, Image) else find_sources(fspath(item))
    return sources


def load(path: str | PathLike[str], device: str = "auto") -> Autoencoder:
    """Load a checkpoint, ready to run.

    Args:
        path: a file that `vaectl train` wrote, or "photo", the ready-made denoiser.
        device: "auto" runs in NumPy for the first ten billion MACs, then in torch on the fastest device; "cpu" is the
            same on the CPU; "cuda", "cuda:1", "mps" and "xpu" run in torch from the start.

    Raises:
        VaectlError: a missing or damaged checkpoint, or no such device.
    """
    return from_checkpoint(checkpoint.load(fspath(path)), device)


def from_checkpoint(found: Checkpoint, device: str = "auto") -> Autoencoder:
    """A checkpoint as a model ready to run; `device` is as in `load`."""
    network = found.card.network
    encoder, decoder = (make_forward(layers, half_weights(half, found.weights), device) for half, layers in network.halves())
    experts = [
        (expert, make_forward(network.decoder, half_weights("decoder", expert.weights), device)) for expert in found.experts
    ]
    return Autoencoder(found, encoder, decoder, experts)


def make_forward(layers: tuple[Layer, ...], weights: dict[str, Array], device: str) -> Forward:
    """One half of the network on the engine for a device."""

    @cache
    def torch_forward() -> Forward:
        from vaectl.models import torch_engine

        return torch_engine.make_forward(layers, weights, resolve_device(device))

    numpy_forward = numpy_engine.make_forward(layers, weights)
    macs = 0

    def forward(batch: Array) -> Array:
        nonlocal macs
        macs += len(batch) * count_macs(layers, batch.shape[1:])
        return numpy_forward(batch) if macs < NUMPY_MAC_LIMIT and device in ("auto", "cpu") else torch_forward()(batch)

    return forward
