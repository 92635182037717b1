"""Data sets to learn from: the bundled MNIST, a data set by name, a folder, an NPZ or NPY file, or arrays in memory.

Sources yield the samples, resized; `store` keeps them.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from vaectl.base.arrays import UInt8Array
from vaectl.base.errors import VaectlError
from vaectl.base.shapes import Shape
from vaectl.datasets.array_files import IN_MEMORY, ArrayImages, find_arrays, open_array_file, pair_arrays
from vaectl.datasets.cache import DiskCache
from vaectl.datasets.catalogue import NAMES, SPLITS
from vaectl.datasets.named import DatasetImages, find_sources
from vaectl.datasets.pairs import match_pairs
from vaectl.datasets.preprocessing import Preprocessing, PreprocessingDecoder, common_size, folder_spec
from vaectl.io import files, remote
from vaectl.io.inputs import read_samples
from vaectl.io.records import Sample
from vaectl.io.sources import File, Folder, SkipPolicy, Source, count_inputs
from vaectl.io.tars import is_tar

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
    """

    name: str
    train: ImageStack
    test: ImageStack
    sha256: str
    noisy: str | None = None
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
        return found | ({"noisy": self.noisy} if self.noisy else {})

    def images(self, split: str) -> ArrayImages:
        """The images of a split with their labels, and their names, or numbers if they have none."""
        test = split == "test"
        stack, labels = (self.test, self.test_labels) if test else (self.train, self.train_labels)
        names = (self.test_names if test else self.train_names) or [f"{split}-{index:05d}" for index in range(len(stack))]
        return ArrayImages(stack, split, names, labels)


def check_learned_data(name: str, advice: str) -> None:
    """Raise a VaectlError, with `advice`, if the training data of a model are not on this machine."""
    if name == IN_MEMORY:
        raise VaectlError("the model was trained on arrays in memory", advice)
    if name.partition(":")[0] not in NAMES and not (remote.is_url(name) or is_tar(name) or os.path.exists(name)):
        raise VaectlError(f"the model was trained on {name!r}, which is not on this machine", advice)


@dataclass(frozen=True)
class Split:
    """The images of a split on disk, and their labels and names."""

    images: DiskCache = field(default_factory=DiskCache)
    labels: list[str | None] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def append(self, sample: Sample) -> None:
        """Store a sample."""
        self.images.append(sample.array)
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
    sha256: str = ""

    def stacks(self) -> tuple[ImageStack, ImageStack]:
        """The training and the test images, mapped into memory."""
        images = self.train.images, self.test.images
        return (images[0].as_list(), images[1].as_list()) if self.keep_size else (images[0].as_array(), images[1].as_array())

    def open(self) -> Dataset:
        """Map the images into memory, to be read in random order."""
        splits = self.train, self.test
        known = (*(known_labels(split.labels) for split in splits), *(known_names(split.names) for split in splits))
        dataset = Dataset(self.name, *self.stacks(), self.sha256, self.noisy, *known)
        self.train.images.advise_random_access()
        return dataset


def load_dataset(
    data: Data,
    preprocessing: Preprocessing | None = None,
    on_read: OnRead = lambda done, total: None,
    noisy: Data | None = None,
    *,
    pairs_in_npz: bool = False,
) -> Dataset:
    """Load a data set: a name ("mnist", "cifar10", ...), a folder, `FILE.npz` (x_train, x_test), `FILE.npy`, or arrays.

    Without a test split, about a tenth of the images is held out, chosen by content, so the choice stays when images are added.
    `noisy` are the noisy partners of the images: another folder, or other arrays. With `pairs_in_npz`, an NPZ file that has
    x_train_noisy holds pairs.

    Raises:
        VaectlError: no such data, no images in it, or images without partners.
    """
    return store_dataset(data, preprocessing, on_read, noisy, pairs_in_npz=pairs_in_npz).open()


def store_dataset(
    data: Data,
    preprocessing: Preprocessing | None = None,
    on_read: OnRead = lambda done, total: None,
    noisy: Data | None = None,
    *,
    pairs_in_npz: bool = False,
) -> StoredDataset:
    """Read a data set as `load_dataset` does, but do not open it yet."""
    policy = SkipPolicy((preprocessing or Preprocessing()).skip_bad, "read" if noisy is None else "paired")
    decoder = PreprocessingDecoder(preprocessing or Preprocessing())
    if noisy is not None:
        return store(open_pairs(data, noisy, decoder, policy), decoder, policy, on_read)
    if isinstance(data, str | os.PathLike):
        return store(open_data(os.fspath(data), decoder, policy, pairs_in_npz), decoder, policy, on_read)
    decoder.shrink = False
    return store(Opened(IN_MEMORY, find_arrays(data)), decoder, policy, on_read)


@dataclass(frozen=True)
class Opened:
    """The sources of a data set, its name, and that of the noisy partners in it, if there are any."""

    name: str
    sources: Sequence[Source]
    noisy: str | None = None


def open_pairs(data: Data, noisy: Data, decoder: PreprocessingDecoder, policy: SkipPolicy) -> Opened:
    """The pairs of two folders, or of two arrays or splits."""
    decoder.paired = True
    if not isinstance(data, str | os.PathLike) and not isinstance(noisy, str | os.PathLike):
        decoder.shrink = False
        return Opened(IN_MEMORY, pair_arrays(find_arrays(data), find_arrays(noisy)), IN_MEMORY)
    names = [os.fspath(part) if isinstance(part, str | os.PathLike) else IN_MEMORY for part in (data, noisy)]
    for name in names:
        if not os.path.isdir(name):
            raise VaectlError(f"{name!r} is not a folder: pairs are two folders, or an NPZ file with x_train and x_train_noisy")
    pairs = match_pairs(Folder(names[0]), Folder(names[1]), policy)
    decoder.spec = decoder.preprocessing.resize_spec(common_size(pairs.sizes), pairs.channels)
    return Opened(names[0], [pairs], names[1])


def open_data(name: str, decoder: PreprocessingDecoder, policy: SkipPolicy, pairs_in_npz: bool) -> Opened:
    """The sources of a data set by its name or path; the decoder learns how they are resized and divided."""
    if name in NAMES and not os.path.lexists(name):
        return Opened(name, [DatasetImages(name, split) for split in SPLITS])
    sources = [File(name)] if name == files.STDIN else find_sources(name)
    first = sources[0]
    if isinstance(first, File):
        if not (name == files.STDIN or os.path.exists(name) or remote.is_url(name)):
            if os.sep in name or "." in name:
                raise VaectlError(f"{name!r}: no such file or directory: check the name")
            raise VaectlError(f"there is no data set {name!r}: give a folder, a file, or one of {', '.join(NAMES)}")
        file = open_array_file(name, pairs_in_npz)
        decoder.shrink, decoder.paired = False, file.noisy is not None
        return Opened(name, [file], file.noisy)
    if isinstance(first, Folder):
        decoder.spec = folder_spec(first, decoder.preprocessing, policy)
    decoder.by_content = True
    return Opened(name, sources)


def store(data: Opened, decoder: PreprocessingDecoder, policy: SkipPolicy, on_read: OnRead) -> StoredDataset:
    """Keep the samples of a data set on disk."""
    splits = {split: Split() for split in SPLITS}
    total = count_inputs(data.sources)
    for done, sample in enumerate(read_samples(data.sources, decoder, policy), 1):
        assert sample.split
        splits[sample.split].append(sample)
        on_read(done, total)
    train, test = splits.values() if len(splits["train"].images) else [*splits.values()][::-1]
    if not len(train.images):
        raise VaectlError(f"{data.name!r} contains no images that can be read: give other data")
    stored = StoredDataset(data.name, train, test, data.noisy, decoder.preprocessing.keep_size)
    return replace(stored, sha256=hash_images(*stored.stacks()))


def known_labels(labels: Sequence[str | None]) -> Sequence[str]:
    """The labels, or none unless all images have one and they differ."""
    known = [sys.intern(label) for label in labels if label is not None]
    return known if len(known) == len(labels) and len(set(known)) > 1 else ()


def known_names(names: Sequence[str]) -> Sequence[str]:
    """The names, or none unless all images have one."""
    return names if all(names) else ()


def hash_images(*stacks: ImageStack) -> str:
    """One SHA-256 over the images and their shapes."""
    digest = hashlib.sha256()
    for stack in stacks:
        for block in [stack] if isinstance(stack, np.ndarray) else stack:
            digest.update(repr(block.shape).encode())
            digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()
