"""Data sets to learn from: the bundled MNIST, a data set by name, a folder, an NPZ or NPY file, or arrays in memory.

Each kind of data yields samples, one by one; `store` alone resizes and keeps them.
"""

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from vaectl.base.arrays import UInt8Array
from vaectl.base.errors import VaectlError
from vaectl.base.shapes import Shape
from vaectl.datasets.array_files import IN_MEMORY, array_samples, file_stream
from vaectl.datasets.cache import DiskCache
from vaectl.datasets.catalogue import NAMES, SPLITS
from vaectl.datasets.folders import folder_samples, some_samples, streamed_samples
from vaectl.datasets.named import DatasetImages, open_source
from vaectl.datasets.pairs import match_pairs, pair_samples
from vaectl.datasets.samples import ImageStream, Preprocessing, Sample, common_size, is_held_out, join_pairs
from vaectl.images import resize
from vaectl.images.resize import ResizeSpec
from vaectl.io import files, remote
from vaectl.io.sources import Folder, SkipPolicy
from vaectl.io.tars import Shards, is_shards

# One array (N, H, W, C), or a sequence of (H, W, C) where sizes differ.
ImageStack = Sequence[UInt8Array] | UInt8Array
# Whatever `load_dataset` takes: a name or a path, images (N, H, W[, C]), or train and test images.
Data = str | os.PathLike[str] | ArrayLike | tuple[ArrayLike, ArrayLike]
# Called with the number of images read so far, and of all if it is known.
OnRead = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Dataset:
    """Training and test images, 0 to 255, and their labels and names, if all images have one.

    `test` may be empty if there are too few images to hold any out.

    If `noisy` is the name of their noisy partners, each image holds both: the channels of the clean one, then of the noisy one.
    If they are `streamed`, these images are only a sample of all.
    """

    name: str
    train: ImageStack
    test: ImageStack
    sha256: str
    noisy: str | None = None
    streamed: bool = False
    train_labels: Sequence[str] = ()
    test_labels: Sequence[str] = ()
    train_names: Sequence[str] = ()
    test_names: Sequence[str] = ()

    @property
    def held_out(self) -> ImageStack:
        """The test images, or the training images if there are none."""
        return self.test if len(self.test) else self.train

    @property
    def held_out_split(self) -> str:
        """Which split `held_out` is."""
        return "test" if len(self.test) else "train"

    @property
    def image_shape(self) -> Shape:
        """The shape of the first clean image, (H, W, C); of all images if they are an array."""
        height, width, channels = self.train[0].shape
        return (height, width, channels // 2 if self.noisy else channels)

    def describe(self) -> dict[str, str | int]:
        """Its name, hash and sizes, for the checkpoint's card."""
        found: dict[str, str | int] = {"name": self.name, "sha256": self.sha256, "train": len(self.train), "test": len(self.test)}
        return found | ({"noisy": self.noisy} if self.noisy else {}) | ({"streamed": True} if self.streamed else {})


def check_learned_data(name: str, advice: str) -> None:
    """Raise a VaectlError, with `advice`, if the data that a model was trained on are not here."""
    if name == IN_MEMORY:
        raise VaectlError("the model was trained on arrays in memory", advice)
    if name.partition(":")[0] not in NAMES and not (remote.is_url(name) or is_shards(name) or os.path.exists(name)):
        raise VaectlError(f"the model was trained on {name!r}, which is not here", advice)


@dataclass(frozen=True)
class Split:
    """The images of a split on disk, and their labels and names."""

    images: DiskCache = field(default_factory=DiskCache)
    labels: list[str | None] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)

    def append(self, sample: Sample) -> None:
        """Store a sample."""
        self.images.append(sample.image)
        self.labels.append(sample.label)
        self.names.append(sample.name)


@dataclass(frozen=True)
class StoredDataset:
    """A data set on disk; other processes that get its files can open it too."""

    name: str
    train: Split
    test: Split
    noisy: str | None
    keep_size: bool
    streamed: bool
    sha256: str = ""

    def stacks(self) -> tuple[ImageStack, ImageStack]:
        """The training and the test images, mapped into memory."""
        images = self.train.images, self.test.images
        return (images[0].as_list(), images[1].as_list()) if self.keep_size else (images[0].as_array(), images[1].as_array())

    def open(self) -> Dataset:
        """Map the images into memory, to be read in random order."""
        splits = self.train, self.test
        known = (*(known_labels(split.labels) for split in splits), *(known_names(split.names) for split in splits))
        dataset = Dataset(self.name, *self.stacks(), self.sha256, self.noisy, self.streamed, *known)
        self.train.images.advise_random_access()
        return dataset


def load_dataset(
    data: Data,
    preprocessing: Preprocessing | None = None,
    on_read: OnRead = lambda done, total: None,
    noisy: Data | None = None,
    *,
    pairs_in_npz: bool = False,
    stream: bool = False,
) -> Dataset:
    """Load a data set: a name ("mnist", "cifar10", ...), a folder, `FILE.npz` (x_train, x_test), `FILE.npy`, or arrays.

    Without a test split, about a tenth of the images is held out, chosen by content, so the choice stays when images are added.
    `noisy` are the noisy partners of the images: another folder, or other arrays. With `pairs_in_npz`, an NPZ file that has
    x_train_noisy holds pairs. With `stream`, only a sample of tar files is read.

    Raises:
        VaectlError: no such data, no images in it, or images without partners.
    """
    return store_dataset(data, preprocessing, on_read, noisy, pairs_in_npz=pairs_in_npz, stream=stream).open()


def store_dataset(
    data: Data,
    preprocessing: Preprocessing | None = None,
    on_read: OnRead = lambda done, total: None,
    noisy: Data | None = None,
    *,
    pairs_in_npz: bool = False,
    stream: bool = False,
) -> StoredDataset:
    """Read a data set as `load_dataset` does, but do not open it yet."""
    preprocessing = preprocessing or Preprocessing()
    if noisy is not None:
        return store(open_pairs(data, noisy, preprocessing), preprocessing, on_read)
    if isinstance(data, str | os.PathLike):
        return store(open_samples(os.fspath(data), preprocessing, pairs_in_npz, stream), preprocessing, on_read)
    return store(array_samples(data), preprocessing, on_read)


def open_pairs(data: Data, noisy: Data, preprocessing: Preprocessing) -> ImageStream:
    """The pairs of two folders, or of two arrays or splits."""
    if not isinstance(data, str | os.PathLike) and not isinstance(noisy, str | os.PathLike):
        clean, partners = array_samples(data), array_samples(noisy)
        if clean.total != partners.total:
            raise VaectlError(f"{clean.total} clean images and {partners.total} noisy ones: give one for each")
        return ImageStream(IN_MEMORY, join_pairs(clean.images, partners.images, "data"), clean.total, noisy=IN_MEMORY)
    names = [os.fspath(part) if isinstance(part, str | os.PathLike) else IN_MEMORY for part in (data, noisy)]
    for name in names:
        if not os.path.isdir(name):
            raise VaectlError(f"{name!r} is not a folder: pairs are two folders, or an NPZ file with x_train and x_train_noisy")
    policy = SkipPolicy(preprocessing.skip_bad, "paired")
    pairs = match_pairs(Folder(names[0]), Folder(names[1]), policy)

    def make_spec(sizes: Counter[tuple[int, int]], channels: int) -> ResizeSpec:
        return preprocessing.resize_spec(common_size(sizes), channels)

    found = pair_samples(pairs, make_spec, is_held_out, policy, keep_size=preprocessing.keep_size)
    samples = (Sample(image, held_out, name=name) for name, image, held_out in found)
    return ImageStream(names[0], samples, len(pairs), noisy=names[1])


def open_samples(name: str, preprocessing: Preprocessing, pairs_in_npz: bool, stream: bool) -> ImageStream:
    """The samples of a data set by its name or path."""
    if name in NAMES and not os.path.lexists(name):
        splits = [DatasetImages(name, split) for split in SPLITS]
        samples = (
            Sample(image, images.split == "test", label, name) for images in splits for name, image, label in images.named()
        )
        return ImageStream(name, samples, sum(images.count() for images in splits), shrink=True)
    if name == files.STDIN:
        return file_stream(name, pairs_in_npz)
    source = open_source(name)
    if isinstance(source, Folder):
        return ImageStream(name, folder_samples(source, preprocessing), source.count())
    if isinstance(source, Shards):
        read = some_samples if stream else streamed_samples
        return ImageStream(name, read(source, preprocessing), streamed=stream)
    if isinstance(source, DatasetImages):
        return ImageStream(
            name,
            (Sample(image, is_held_out(image.tobytes()), label, name) for name, image, label in source.named()),
            source.count(),
            True,
        )
    if os.path.exists(name) or remote.is_url(name):
        return file_stream(name, pairs_in_npz)
    if os.sep in name or "." in name:
        raise VaectlError(f"{name!r}: no such file or directory: check the name")
    raise VaectlError(f"there is no data set {name!r}: give a folder, a file, or one of {', '.join(NAMES)}")


def store(data: ImageStream, preprocessing: Preprocessing, on_read: OnRead) -> StoredDataset:
    """Keep samples on disk, all at the size of the first unless they keep their own."""
    splits = Split(), Split()
    spec: ResizeSpec | None = None
    for done, sample in enumerate(data.images, 1):
        image = sample.image
        if spec is None or preprocessing.keep_size:
            size = image.shape[:2]
            shrink = data.shrink and not preprocessing.keep_size
            channels = image.shape[2] // 2 if data.noisy else image.shape[2]
            spec = preprocessing.resize_spec(common_size(Counter([size])) if shrink else size, channels)
        parts = np.split(image, 2, axis=2) if data.noisy else [image]
        resized = [
            part if part.shape == spec.image_shape else resize.to_uint8(resize.resize_image(resize.from_uint8(part), spec))
            for part in parts
        ]
        splits[sample.held_out].append(sample._replace(image=np.concatenate(resized, axis=2) if data.noisy else resized[0]))
        on_read(done, data.total)
    train, test = splits if len(splits[False].images) else splits[::-1]
    if not len(train.images):
        raise VaectlError(f"{data.name!r} contains no images that can be read: give other data")
    stored = StoredDataset(data.name, train, test, data.noisy, preprocessing.keep_size, data.streamed)
    return replace(stored, sha256=hash_images(*stored.stacks()))


def known_labels(labels: Sequence[str | None]) -> Sequence[str]:
    """The labels, or none unless all images have one and they differ."""
    known = [sys.intern(label) for label in labels if label is not None]
    return known if len(known) == len(labels) and len(set(known)) > 1 else ()


def known_names(names: Sequence[str | None]) -> Sequence[str]:
    """The names, or none unless all images have one."""
    known = [name for name in names if name is not None]
    return known if len(known) == len(names) else ()


def hash_images(*stacks: ImageStack) -> str:
    """One SHA-256 over the images and their shapes."""
    digest = hashlib.sha256()
    for stack in stacks:
        for block in [stack] if isinstance(stack, np.ndarray) else stack:
            digest.update(repr(block.shape).encode())
            digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()
