"""An image or a latent with what is known of it, and a batch of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaectl.base.arrays import Array
from vaectl.images.metadata import Metadata

BATCH_BYTES = 16 << 20
MAX_BATCH_SIZE = 256
PLAIN = Metadata()


class Sample(NamedTuple):
    """An image (H, W, C) or a latent (D,) with its name; its label, its split ("train" or "test") and its metadata if known."""

    name: str
    array: NDArray[Any]
    label: str | None = None
    split: str | None = None
    metadata: Metadata = PLAIN


@dataclass(frozen=True)
class Batch:
    """Images (N, H, W, C) or latents (N, D) of one split; `labels` may be empty, and the metadata are those of the first."""

    names: Sequence[str]
    arrays: Array
    metadata: Metadata = PLAIN
    labels: Sequence[str | None] = ()
    split: str | None = None

    def __len__(self) -> int:
        return len(self.names)

    def map(self, function: Callable[[Array], Array]) -> "Batch":
        """The same names, with `function` applied to the arrays."""
        return replace(self, arrays=function(self.arrays))

    def select(self, part: slice) -> "Batch":
        """The items of a slice."""
        return replace(self, names=self.names[part], arrays=self.arrays[part], labels=self.labels[part])


def batched(samples: Iterable[Sample], size: int | None = None) -> Iterator[Batch]:
    """Gather samples into batches of `size`, by default of bounded memory; a batch is of one split."""
    for split, group in groupby(samples, lambda sample: sample.split):
        found = iter(group)
        for first in found:
            most = size or max(1, min(MAX_BATCH_SIZE, BATCH_BYTES // first.array.nbytes))
            names, arrays, labels, _, encodings = zip(first, *islice(found, most - 1), strict=True)
            yield Batch(names, np.stack(arrays), encodings[0], labels, split)
