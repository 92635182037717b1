"""Pairs of a clean and a noisy image in two folders, matched by their paths within them without suffix."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from vaectl.base.arrays import UInt8Array
from vaectl.base.errors import VaectlError
from vaectl.base.prefetch import prefetch
from vaectl.base.text import list_names
from vaectl.images import codecs, formats, resize
from vaectl.images.resize import ResizeSpec
from vaectl.io import files, streams
from vaectl.io.sources import Folder, SkipPolicy


@dataclass(frozen=True)
class Pair:
    """The paths of a clean and of a noisy image, both of this height and width; 1 channel if both are gray, else 3.

    `name` is the path of the clean one within its folder.
    """

    name: str
    clean: str
    noisy: str
    size: tuple[int, int]
    channels: int


def match_pairs(clean: Folder, noisy: Folder, policy: SkipPolicy) -> list[Pair]:
    """The pairs in two folders; files that are not images are ignored.

    Raises:
        VaectlError: an image without a partner, two images of one name, or a pair of two sizes; with `policy.skip` these are
            listed and skipped.
    """
    cleans, noisies = index_images(clean, policy), index_images(noisy, policy)
    for folder, here, others in ((noisy, noisies, cleans), (clean, cleans, noisies)):
        alone = [path for stem, (path, _) in others.items() if stem not in here]
        if alone:
            error = VaectlError(f"{folder.path!r} has no partner for {list_names(alone)}", "add it, of the same name")
            policy.handle(error, len(alone))
    pairs = []
    for stem, (path, (height, width, channels)) in cleans.items():
        if stem not in noisies:
            continue
        partner, size = noisies[stem]
        if size[:2] != (height, width):
            what = f"{path!r} is {width} wide and {height} high, but {partner!r} {size[1]} wide and {size[0]} high"
            policy.handle(VaectlError(what, "make pairs of one size"))
            continue
        pairs.append(Pair(os.path.relpath(path, clean.path), path, partner, (height, width), max(channels, size[2])))
    if not pairs:
        raise VaectlError(f"{clean.path!r} and {noisy.path!r} hold no pairs of images of the same names", "check the folders")
    return pairs


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


def pair_samples(
    pairs: list[Pair],
    make_spec: Callable[[Counter[tuple[int, int]], int], ResizeSpec],
    is_held_out: Callable[[bytes], bool],
    policy: SkipPolicy,
    *,
    keep_size: bool,
) -> Iterator[tuple[str, UInt8Array, bool]]:
    """Each pair: its name, the channels of the clean one, then of the noisy one, (H, W, 2 C), and whether it is held out."""
    spec = make_spec(Counter(pair.size for pair in pairs), max(pair.channels for pair in pairs))

    def read(pair: Pair) -> tuple[str, UInt8Array, bool] | VaectlError:
        try:
            clean, noisy = read_bytes(pair.clean), read_bytes(pair.noisy)
            decoded = (
                codecs.decode_resized(data, repr(path), spec, keep_size=keep_size)
                for data, path in ((clean, pair.clean), (noisy, pair.noisy))
            )
            return pair.name, np.concatenate([resize.to_uint8(pixels) for pixels in decoded], axis=2), is_held_out(clean)
        except VaectlError as error:
            return error

    return policy.filter(prefetch(partial(read, pair) for pair in pairs))


def read_bytes(path: str) -> bytes:
    """The bytes of an image file."""
    with files.open_reader(path) as reader:
        return streams.read_image(reader, files.sniff_format(reader))
