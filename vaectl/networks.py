"""An autoencoder as plain data: two lists of layer rows, written by `mlp`, `conv` or `unet`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any, TypeVar

from vaectl import layers
from vaectl.layers import (
    MOST_WEIGHTS,
    Add,
    Clip,
    Conv,
    Crop,
    Flatten,
    Fold,
    Keep,
    Linear,
    Relu,
    Reshape,
    Row,
    Shape,
    Sigmoid,
    Silu,
    Unfold,
    Upsample,
    walk,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Network:
    """An encoder, pictures to latents, and a decoder, latents to pixels.

    The encoder ends in `latent` values (a point), or in twice as many: mu, then logvar, of q(z|x). Without a latent, 0, there
    is no encoder, and the decoder makes a picture of a picture.
    The decoder's last row is the sigmoid or the clip that turns its outputs into pixels; the training loss takes them before it.

    Raises:
        ValueError: the rows do not fit each other, the picture or the latent.
    """

    picture: Shape
    latent: int
    encoder: tuple[Row, ...]
    decoder: tuple[Row, ...]

    def __post_init__(self) -> None:
        if len(self.picture) != 3 or min(self.picture) < 1 or self.picture[2] not in (1, 3) or self.latent < 0:
            raise ValueError(f"a picture of {self.picture} and {self.latent} latent dimensions make no network")
        if sum(map(prod, self.tensors().values())) > MOST_WEIGHTS:
            raise ValueError(f"more than {MOST_WEIGHTS} weights")
        encoded = walk(self.encoder, self.picture)[-1]
        if (self.latent and encoded not in ((self.latent,), (2 * self.latent,))) or (not self.latent and self.encoder):
            raise ValueError(f"the encoder ends in {encoded}, not in {self.latent} or {2 * self.latent} values")
        decoded = walk(self.decoder, (self.latent,) if self.latent else self.picture)[-1]
        if decoded != self.picture or not self.decoder or not isinstance(self.decoder[-1], Sigmoid | Clip):
            raise ValueError(f"the decoder does not end in pixels of {self.picture}")

    @cached_property
    def variational(self) -> bool:
        """Whether the encoder gives a distribution, mu and logvar, rather than a point."""
        return self.latent > 0 and walk(self.encoder, self.picture)[-1] == (2 * self.latent,)

    @property
    def widest(self) -> int:
        """The number of inputs of the widest linear row; 1 where there is none."""
        return max([1, *(row.inputs for _, rows in self.halves() for row in rows if isinstance(row, Linear))])

    @property
    def linear(self) -> bool:
        """Whether the decoder puts out pixels, clipped by its last row, and no logits."""
        return isinstance(self.decoder[-1], Clip)

    def halves(self) -> Iterator[tuple[str, tuple[Row, ...]]]:
        """Both halves by name, as the weights' names begin."""
        yield from (("encoder", self.encoder), ("decoder", self.decoder))

    def tensors(self) -> dict[str, Shape]:
        """The name and shape of every weight: `encoder.1.weight` belongs to row 1 of the encoder."""
        return {
            f"{half}.{index}.{name}": shape
            for half, rows in self.halves()
            for index, row in enumerate(rows)
            for name, shape in row.tensors().items()
        }


def mlp(picture: Shape, latent: int, hidden: Sequence[int], *, variational: bool) -> Network:
    """Fully connected halves that mirror each other, SiLU between (Kingma & Welling, appendix C, with SiLU for tanh)."""
    pixels = prod(picture)
    return Network(
        picture=picture,
        latent=latent,
        encoder=(Flatten(), *chain((pixels, *hidden, latent * (2 if variational else 1)))),
        decoder=(*chain((latent, *reversed(hidden), pixels)), Reshape(*picture), Sigmoid()),
    )


def chain(widths: Sequence[int]) -> list[Row]:
    """Linear rows from each width to the next, with SiLU between them."""
    rows: list[Row] = []
    for inputs, outputs in pairwise(widths):
        rows += [Linear(inputs, outputs), Silu()]
    return rows[:-1]


def conv(picture: Shape, latent: int, hidden: Sequence[int], *, variational: bool) -> Network:
    """Convolutions that halve a picture once for each of the `hidden` widths, and as many that double it again.

    The decoder repeats pixels and then convolves, which draws no checkerboards (Odena, Dumoulin & Olah 2016).
    """
    shapes = [picture]
    encoder: list[Row] = []
    for width in hidden:
        encoder += [Conv(shapes[-1][2], width, 3 if encoder else 5, 2), Silu()]
        shapes.append(encoder[-2].output(shapes[-1]))
    smallest = shapes[-1]
    decoder: list[Row] = [Linear(latent, prod(smallest)), Silu(), Reshape(*smallest)]
    for inputs, outputs in pairwise(reversed(shapes)):
        height, width, channels = outputs
        decoder += [Upsample(2), Crop(height, width), Conv(inputs[2], channels, 5 if outputs is picture else 3, 1), Silu()]
    encoder += [Flatten(), Linear(prod(smallest), latent * (2 if variational else 1))]
    return Network(picture, latent, tuple(encoder), (*decoder[:-1], Sigmoid()))


def unet(picture: Shape, hidden: Sequence[int]) -> Network:
    """A picture to a picture of any size, through one scale for each of the `hidden` widths, with sums past the smaller ones.

    It folds pixels into channels first (Zhang, Zuo & Zhang 2018, FFDNet), and ends as what is to be added to the picture
    (Zhang et al. 2017, DnCNN). The scales are those of Ronneberger, Fischer & Brox 2015.

    Raises:
        ValueError: a picture that cannot be halved so often.
    """
    coarsest = 2 ** len(hidden)
    if picture[0] % coarsest or picture[1] % coarsest:
        raise ValueError(f"a unet of {len(hidden)} scales learns from crops whose sides are multiples of {coarsest}")
    folded = 4 * picture[2]
    rows: list[Row] = [Conv(folded, hidden[0], 3, 1), Relu()]
    rows += residual(hidden[0])
    for inputs, outputs in pairwise(hidden):
        rows += [Keep(), Conv(inputs, outputs, 3, 2), Relu(), *residual(outputs)]
    for outputs, inputs in pairwise(hidden[::-1]):
        rows += [Upsample(2), Conv(outputs, inputs, 3, 1), Add(), *residual(inputs)]
    rows.append(Conv(hidden[0], folded, 3, 1))
    return Network(picture, 0, (), (Keep(), Fold(2), *rows, Unfold(2), Add(), Clip()))


def residual(width: int) -> list[Row]:
    """Two convolutions whose result is added to what came in (He et al. 2016)."""
    return [Keep(), Conv(width, width, 3, 1), Relu(), Conv(width, width, 3, 1), Add()]


def to_json(network: Network) -> dict[str, Any]:
    """The network as JSON values."""
    halves = {half: layers.to_json(rows) for half, rows in network.halves()}
    return {"picture": network.picture, "latent": network.latent, **halves}


def weights_of(half: str, tensors: Mapping[str, T]) -> dict[str, T]:
    """The weights of one half of a network, named `<row>.<name>` without the half."""
    return {name.removeprefix(f"{half}."): tensor for name, tensor in tensors.items() if name.startswith(f"{half}.")}
