"""Pictures to learn from: the bundled MNIST, a data set by name, a folder, or arrays in an NPZ or NPY file."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from itertools import accumulate, chain, repeat
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Transpose

from vaectl import downloads
from vaectl.catalogue import BUNDLED, DOWNLOADED
from vaectl.errors import VaectlError
from vaectl.frame import Frame
from vaectl.io import arrays, codecs, files, parts, pictures
from vaectl.io.ahead import worked_ahead
from vaectl.io.shelf import Shelf
from vaectl.layers import Shape

Bytes = NDArray[np.uint8]
Pictures = Sequence[Bytes] | Bytes
# A picture, (H, W, C), and whether it is held out.
Chosen = tuple[Bytes, bool]

HELD_OUT = 10  # one picture in ten, where the data come without a test split
LONGER_SIDE = 64  # pixels, where those of the data are larger or differ
MULTIPLE = 4  # of which the shorter side then is one


@dataclass(frozen=True)
class Wish:
    """How pictures are wanted; what is None is taken from the data.

    `size` is height and width, and `fit` how they are filled (`Frame`). `whole` leaves each picture its own size. With
    `skip_bad`, files that cannot be read are left out and told.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    fit: str = "crop"
    whole: bool = False
    skip_bad: bool = False

    def frame(self, size: tuple[int, int], channels: int) -> Frame:
        """What pictures are brought to, if the data have this size and these channels."""
        return Frame((*(self.size or size), self.channels or channels), self.fit)


@dataclass(frozen=True)
class Dataset:
    """Pictures as bytes, 0 to 255: those to learn from, and those held out.

    They are arrays (N, H, W, C), or where each has its own size, sequences of (H, W, C). `test` may be empty, where there are
    too few pictures to hold any out.
    """

    name: str
    train: Pictures
    test: Pictures
    sha256: str

    @property
    def held_out(self) -> Pictures:
        """The pictures to judge by: the test ones, or where there are none, those that were learned from."""
        return self.test if len(self.test) else self.train

    @property
    def held_out_split(self) -> str:
        """The name of the split that `held_out` is."""
        return "test" if len(self.test) else "train"

    def origin(self) -> dict[str, str | int]:
        """Where the pictures come from, as a checkpoint's card keeps it."""
        return {"name": self.name, "sha256": self.sha256, "train": len(self.train), "test": len(self.test)}

    @property
    def picture(self) -> Shape:
        """The shape of the first picture, (H, W, C); where they are an array, of all."""
        return self.train[0].shape


def load(name: str, wish: Wish | None = None) -> Dataset:
    """The data set called `name`: "mnist", one that is downloaded once, a folder, `FILE.npz` (x_train, x_test) or `FILE.npy`.

    Without a test split, about a tenth of the pictures is held out, chosen by content: the choice stays when more are added.

    Raises:
        VaectlError: no such data, or no pictures in it.
    """
    wish = wish or Wish()
    if os.path.isdir(name):
        return from_folder(name, wish)
    if name == BUNDLED:
        with resources.as_file(resources.files("vaectl") / "data" / "mnist.npz") as path:
            return from_file(BUNDLED, str(path), wish)
    if name == files.STDIN or os.path.exists(name):
        return from_file(name, name, wish)
    if name in DOWNLOADED:
        return from_torchvision(name, wish)
    raise VaectlError(f"there is no data set {name!r}: give a folder, a file, {BUNDLED} or one of {', '.join(DOWNLOADED)}")


def from_file(name: str, path: str, wish: Wish) -> Dataset:
    """A data set from an NPZ file, or from an NPY file, which may be larger than memory."""
    with files.opened(path) as reader:
        kind = files.kind_of(reader)
        if kind == "NPY":
            return laid_down(name, split(npy_pictures(reader)[1]), wish)
        if kind != "NPZ":
            raise VaectlError(f"{path!r} is no data set: give {BUNDLED!r}, a folder, or a .npz or .npy file of pictures")
        return from_archive(name, arrays.Archive(reader), wish)


def from_archive(name: str, archive: arrays.Archive, wish: Wish) -> Dataset:
    """A data set from the arrays x_train and x_test, which may be larger than memory, of an NPZ file."""
    if "x_train" not in archive.members:
        found = ", ".join(archive.members) or "nothing"
        raise VaectlError(f"{archive.name} holds {found}: name the pictures to learn from x_train")
    shape, train = npy_pictures(archive.reader("x_train"))
    if "x_test" not in archive.members:
        return laid_down(name, split(train), wish)
    test_shape, test = npy_pictures(archive.reader("x_test"))
    if test_shape != shape:
        raise VaectlError(f"{archive.name}: x_train has pictures of {shape}, x_test of {test_shape}: make them one size")
    return laid_down(name, chain(zip(train, repeat(False)), zip(test, repeat(True))), wish)


def npy_pictures(reader: files.Reader) -> tuple[Shape, Iterator[Bytes]]:
    """The shape, (H, W, C), of the pictures in an NPY file, and the pictures, which are read as they are asked for."""
    header = arrays.read_header(reader)
    shape = check_shape(header.shape, reader.name)

    def pictures() -> Iterator[Bytes]:
        start = 0
        for block in arrays.read_blocks(reader, header, shape):
            yield from as_bytes(block, reader.name, start)
            start += len(block)

    return shape[1:], pictures()


def from_folder(folder: str, wish: Wish) -> Dataset:
    """A data set from all the pictures under a folder."""
    frame = folder_frame(folder, wish)
    bad = parts.Bad(wish.skip_bad)

    def chosen(name: str, data: bytes) -> Chosen:
        image = codecs.decode(data, name, None if wish.whole else frame)
        own = Frame((image.height, image.width, frame.shape[2])) if wish.whole else frame
        # By the file's bytes: the choice stays at any size.
        return as_picture(image, own), is_held_out(hashlib.sha256(data).digest())

    works = (parts.work_on(part, partial(chosen, part.reader.name)) for part in parts.folder_parts(folder, bad))
    return laid_down(folder, bad.left_out(worked_ahead(works)), wish)


def folder_frame(folder: str, wish: Wish) -> Frame:
    """What the pictures of a folder are brought to: their own size where they share one of at most 64 pixels a side.

    Otherwise the longer side is 64 pixels and the proportions are their median; colour, unless all are grey.
    """
    if wish.size and wish.channels:
        return wish.frame(wish.size, wish.channels)
    sizes: Counter[tuple[int, int]] = Counter()
    channels = 1
    for path in parts.files_under(folder):
        seen = codecs.glance(os.path.join(folder, path))
        if seen:
            sizes[seen[:2]] += 1
            channels = max(channels, seen[2])
    if not sizes:
        raise VaectlError(f"{folder!r} holds no pictures: give another folder")
    return wish.frame(common_size(sizes), channels)


def common_size(sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    """The height and width that suit pictures of so many sizes."""
    if len(sizes) == 1 and max(next(iter(sizes))) <= LONGER_SIDE:
        return next(iter(sizes))
    proportion = median((width / height, count) for (height, width), count in sizes.items())
    longer = min(LONGER_SIDE, int(median((max(size), count) for size, count in sizes.items())))
    shorter = min(longer, max(MULTIPLE, round(longer * min(proportion, 1 / proportion) / MULTIPLE) * MULTIPLE))
    return (shorter, longer) if proportion > 1 else (longer, shorter)


def median(values: Iterable[tuple[float, int]]) -> float:
    """The median of values that stand for so many each; of the two in the middle, the larger."""
    ordered = sorted(values)
    middle = sum(count for _, count in ordered) / 2
    ends = accumulate(count for _, count in ordered)
    return next(value for (value, _), end in zip(ordered, ends, strict=True) if end > middle)


def from_torchvision(name: str, wish: Wish) -> Dataset:
    """A data set that torchvision downloads into this user's cache, unless it is there, and checks."""
    splits = downloads.splits(name)

    def chosen() -> Iterator[Chosen]:
        for split, held_out in zip(splits, (False, True), strict=True):
            for image, *_ in split:
                upright = image.transpose(Transpose.TRANSPOSE) if DOWNLOADED[name].sideways else image
                size, channels = (upright.height, upright.width), 1 if pictures.is_grey(upright) else 3
                frame = wish.frame(size if wish.whole else common_size(Counter([size])), channels)
                yield as_picture(upright, frame), held_out

    return laid_down(name, chosen(), wish)


def laid_down(name: str, chosen: Iterable[Chosen], wish: Wish) -> Dataset:
    """A data set whose pictures lie on disk and not in memory, brought to the size and the channels that are wished for."""
    shelves = Shelf(), Shelf()
    for picture, held_out in chosen:
        frame = wish.frame(picture.shape[:2], picture.shape[2])
        fitting = frame.shape == picture.shape
        shelves[held_out].add(picture if fitting else as_picture(pictures.to_image(pictures.pixels(picture, name)), frame))
    if not len(shelves[False]):
        shelves = shelves[::-1]
    if not len(shelves[False]):
        raise VaectlError(f"{name!r} holds no pictures that can be read: give other data")
    train, test = (shelf.pictures() if wish.whole else shelf.stack() for shelf in shelves)
    dataset = Dataset(name, train, test, sha256(train, test))
    shelves[False].shuffled()
    return dataset


def as_picture(image: Image, frame: Frame) -> Bytes:
    """The picture brought to the frame, (H, W, C)."""
    return np.rint(pictures.fit(image, frame) * 255).astype(np.uint8)


def as_bytes(array: NDArray[np.generic], name: str, start: int = 0) -> Bytes:
    """Pictures of any numbers as bytes, (N, H, W, C); `start` is the row at which they begin in `name`."""
    stack: NDArray[Any] = array.reshape(check_shape(array.shape, name))
    if stack.dtype == np.uint8:
        return np.ascontiguousarray(stack)
    return np.rint(pictures.pixels(stack, name, start) * 255).astype(np.uint8)


def check_shape(shape: Shape, name: str) -> Shape:
    """(N, H, W, C), the shape of an array of pictures, whose channel axis may be left out; a VaectlError for any other."""
    full = (*shape, 1) if len(shape) == 3 else shape
    if len(full) != 4 or full[3] not in (1, 3) or not prod(full):
        raise VaectlError(f"{name} is an array of {shape}: pictures are (N, height, width), or (N, height, width, 3) in colour")
    return full


def split(whole: Iterable[Bytes]) -> Iterator[Chosen]:
    """Each picture, and whether its content holds it out."""
    return ((picture, is_held_out(hashlib.sha256(picture.tobytes()).digest())) for picture in whole)


def is_held_out(digest: bytes) -> bool:
    """Whether content with this digest is held out, one in ten."""
    return digest[0] % HELD_OUT == 0


def sha256(*parts: Pictures) -> str:
    """One hash over the pictures, however they were stored."""
    digest = hashlib.sha256()
    for part in parts:
        for block in [part] if isinstance(part, np.ndarray) else part:
            digest.update(repr(block.shape).encode())
            digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()
