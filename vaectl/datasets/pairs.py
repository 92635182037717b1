"""Pairs of a clean and a noisy image in two folders, matched by their paths within them without suffix."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from vaectl.base.errors import VaectlError
from vaectl.base.text import list_names
from vaectl.images import codecs, formats
from vaectl.io import files, streams
from vaectl.io.decoders import Decoder, Task
from vaectl.io.records import Sample
from vaectl.io.sources import Folder, SkipPolicy, Source


@dataclass(frozen=True)
class Pairs(Source):
    """Images that hold the channels of a clean one, then those of its noisy partner, (H, W, 2 C).

    `paths` are those of the clean and the noisy ones, `sizes` count their heights and widths; 1 channel if all are gray, else 3.
    """

    folder: str
    paths: Sequence[tuple[str, str]]
    sizes: Counter[tuple[int, int]] = field(compare=False)
    channels: int

    def describe(self) -> str:
        return repr(self.folder)

    def count(self) -> int:
        return len(self.paths)

    def part(self, start: int, stop: int | None) -> "Pairs":
        return replace(self, paths=self.paths[start:stop])

    def tasks(self, decoder: Decoder, policy: SkipPolicy) -> Iterator[Task]:
        return (partial(self.read_pair, clean, noisy, decoder) for clean, noisy in self.paths)

    def read_pair(self, clean: str, noisy: str, decoder: Decoder) -> Sample:
        """Read a pair; it has the name of the clean image, within its folder, and its split."""
        name = os.path.relpath(clean, self.folder)
        target, given = (decoder.decode(name, repr(path), read_bytes(path)) for path in (clean, noisy))
        return target._replace(label=None, array=np.concatenate([target.array, given.array], axis=2))


def match_pairs(clean: Folder, noisy: Folder, policy: SkipPolicy) -> Pairs:
    """The pairs in two folders; files that are not images are ignored.

    Raises:
        VaectlError: an image without a partner, two images of one name, or a pair of two sizes; with `policy.skip` these are
            listed and skipped.
    """
    cleans, noisies = index_images(clean, policy), index_images(noisy, policy)
    for folder, here, others in ((noisy, noisies, cleans), (clean, cleans, noisies)):
        alone = [path for stem, (path, _) in others.items() if stem not in here]
        if alone:
            error = VaectlError(f"{folder.path!r} has no partner for {list_names(alone)}", "add files of the same names")
            policy.handle(error, len(alone))
    paths, sizes, most_channels = [], Counter[tuple[int, int]](), 1
    for stem, (path, (height, width, channels)) in cleans.items():
        if stem not in noisies:
            continue
        partner, size = noisies[stem]
        if size[:2] != (height, width):
            what = f"{path!r} is {width} wide and {height} high, but {partner!r} {size[1]} wide and {size[0]} high"
            policy.handle(VaectlError(what, "make pairs of one size"))
            continue
        paths.append((path, partner))
        sizes[height, width] += 1
        most_channels = max(most_channels, channels, size[2])
    if not paths:
        raise VaectlError(f"{clean.path!r} and {noisy.path!r} contain no images of the same names", "check the folders")
    return Pairs(clean.path, paths, sizes, most_channels)


def index_images(folder: Folder, policy: SkipPolicy) -> dict[str, tuple[str, tuple[int, int, int]]]:
    """The path and the (height, width, channels) of each image in a folder, by its path within it without suffix."""
    found: dict[str, tuple[str, tuple[int, int, int]]] = {}
    for name in folder.files(policy):
        path, stem = os.path.join(folder.path, name), os.path.splitext(name)[0]
        with files.open_reader(path) as reader:
            if files.sniff_format(reader) not in formats.READABLE_FORMATS:
                continue
        if not (shape := codecs.peek_size(path)):
            policy.handle(VaectlError(f"{path!r} is damaged", "replace or remove it"))
            continue
        if stem in found:
            policy.handle(VaectlError(f"{found[stem][0]!r} and {path!r} differ only in their suffix", "rename one of them"))
            continue
        found[stem] = path, shape
    return found


def read_bytes(path: str) -> bytes:
    """The bytes of an image file."""
    with files.open_reader(path) as reader:
        return streams.read_image(reader, files.sniff_format(reader))
