"""A trained model in use, the same for every verb and for Python callers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod
from os import PathLike, fspath

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL.Image import Image

from vaectl import checkpoint, device
from vaectl.checkpoint import Card, Checkpoint, Tensors
from vaectl.engines import numpy as numpy_engine
from vaectl.errors import VaectlError
from vaectl.frame import Frame
from vaectl.io import arrays, pictures
from vaectl.layers import Row, Shape, multiplications
from vaectl.networks import weights_of
from vaectl.tiles import tiled

Array = NDArray[np.float32]
Run = Callable[[Array], Array]

AT_ONCE = 1 << 20  # values of pictures that go through the network together
# Multiplications that NumPy has done in about the time in which torch is imported.
LITTLE = 10_000_000_000


@dataclass(frozen=True)
class Autoencoder:
    """An encoder and a decoder, ready to run, and the card that says what they are."""

    card: Card
    encoder: Run
    decoder: Run

    @property
    def picture(self) -> Shape:
        """The shape of one picture, (H, W, C)."""
        return self.card.network.picture

    @property
    def latent(self) -> int:
        """D, the number of latent dimensions."""
        return self.card.network.latent

    def encode(self, pictures: ArrayLike, *, rng: np.random.Generator | None = None) -> Array:
        """The latents of pictures: z for an AE, mu of q(z|x) for a VAE.

        Args:
            pictures: (N, H, W, C), or one of (H, W, C); the channel axis may be left out where C is 1, and a picture may be
                flat. Pixels in [0, 1], or whole numbers up to 255.
            rng: draw z = mu + sigma * epsilon with it instead (Kingma & Welling, section 2.4).

        Returns:
            (N, D) float32.

        Raises:
            VaectlError: pictures of another size, pixels out of range, a draw from a model that has no distribution, or a model
                that has no latent.
        """
        if rng is None:
            return self.points(pictures)[:, : self.latent]
        mu, logvar = self.posterior(pictures)
        epsilon = rng.standard_normal(mu.shape, np.float32)
        sigma: Array = np.exp(np.float32(0.5) * logvar)
        return mu + sigma * epsilon

    @property
    def frame(self) -> Frame:
        """What pictures are brought to before they are encoded."""
        return self.card.frame

    def encode_one(self, image: Image) -> Array:
        """The latent, (D,), of a picture that Pillow has opened, brought to the model's size and colours."""
        z: Array = self.encode(pictures.fit(image, self.frame))[0]
        return z

    def posterior(self, pictures: ArrayLike) -> tuple[Array, Array]:
        """mu and logvar of q(z|x) = N(mu, exp(logvar)) (Kingma & Welling, equation 9), each (N, D) float32.

        Raises:
            VaectlError: as `encode`, or the model gives points and no distribution.
        """
        if not self.card.network.variational:
            kind = self.card.model
            raise VaectlError(
                f"this model, of kind {kind!r}, encodes to points, no distribution: use a vae with a --beta above 0"
            )
        both = self.points(pictures)
        return both[:, : self.latent], both[:, self.latent :]

    def points(self, pictures: ArrayLike) -> Array:
        """What the encoder puts out, (N, D) or (N, 2 D)."""
        if not self.latent:
            raise VaectlError("this model, a unet, has no latent, it makes a picture of a picture: use vaectl denoise with it")
        return self.in_chunks(self.encoder, stack(pictures, self.picture))

    def denoise(self, pictures: ArrayLike) -> Array:
        """What the model makes of pictures: encoded, then decoded.

        A model that learned from spoiled pictures, as a dae does, gives back clean ones; any other, its reconstruction.

        Args:
            pictures: as for `encode`; for a unet of any size, (N, H, W, C), or one of (H, W, C).

        Returns:
            (N, H, W, C) float32 in [0, 1].

        Raises:
            VaectlError: as `encode`.
        """
        if self.latent:
            return self.decode(self.encode(pictures))
        rows = self.card.network.decoder
        each = photographs(pictures, self.picture[2])
        return np.concatenate([tiled(self.decoder, rows, each[index : index + 1]) for index in range(len(each))])

    def decode(self, latents: ArrayLike) -> Array:
        """The pictures of latents: the mean of p(x|z).

        Args:
            latents: (N, D), or one of (D,).

        Returns:
            (N, H, W, C) float32 in [0, 1].

        Raises:
            VaectlError: latents of another width, NaN or infinity.
        """
        if not self.latent:
            raise VaectlError("this model, a unet, has no latent to decode: train with --net conv or mlp")
        z = np.atleast_2d(np.asarray(latents))
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise VaectlError(f"an array of {z.shape}: this model's latents are (N, {self.latent}): encode with its checkpoint")
        return self.in_chunks(self.decoder, arrays.finite(z, "latents"))

    def in_chunks(self, run: Run, batch: Array) -> Array:
        """`run` over a large batch, a part at a time, so that what lies between the layers stays small."""
        size = max(1, AT_ONCE // prod(self.picture))
        return np.concatenate([run(batch[start : start + size]) for start in range(0, max(1, len(batch)), size)])


def load(path: str | PathLike[str], device: str = "auto") -> Autoencoder:
    """The model in a checkpoint, ready to run.

    Args:
        path: a file that `vaectl train` wrote.
        device: "auto" is NumPy for the first ten billion multiplications, and then torch on the fastest device; "cpu" is NumPy
            for as many, and then torch on the CPU; "cuda", "cuda:1", "mps" and "xpu" are torch from the beginning.

    Raises:
        VaectlError: no checkpoint, a damaged one, or no such device.
    """
    return ready(checkpoint.load(fspath(path)), device)


def ready(found: Checkpoint, device: str = "auto") -> Autoencoder:
    """A model that was just trained or loaded, ready to run; `device` is as in `load`."""
    encoder, decoder = (runner(rows, weights_of(half, found.tensors), device) for half, rows in found.card.network.halves())
    return Autoencoder(found.card, encoder, decoder)


def runner(rows: tuple[Row, ...], tensors: Tensors, name: str) -> Run:
    """One half of the network on the engine for a device."""

    @cache
    def torch_run() -> Run:
        from vaectl.engines import torch as torch_engine

        return torch_engine.runner(rows, tensors, device.resolve(name))

    numpy_run = numpy_engine.runner(rows, tensors)
    done = 0

    def run(batch: Array) -> Array:
        nonlocal done
        done += len(batch) * multiplications(rows, batch.shape[1:])
        return numpy_run(batch) if done < LITTLE and name in ("auto", "cpu") else torch_run()(batch)

    return run


def stack(values: ArrayLike, picture: Shape) -> Array:
    """Pictures as (N, H, W, C) float32 in [0, 1], from any array that `Autoencoder.encode` takes."""
    array = np.asarray(values)
    return pictures.pixels(array.reshape(pictures.stack_shape(array.shape, picture, "pictures")), "pictures")


def photographs(values: ArrayLike, channels: int) -> Array:
    """Pictures of any size as (N, H, W, C) float32 in [0, 1]."""
    array = np.asarray(values)
    whole = array[np.newaxis] if array.ndim == 3 else array
    if whole.ndim != 4 or whole.shape[3] != channels or not whole.size:
        raise VaectlError(f"an array of {array.shape}: this model takes pictures of any size, (N, H, W, {channels})")
    return pictures.pixels(whole, "pictures")
