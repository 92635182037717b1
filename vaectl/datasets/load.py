"""Data sets to learn from: the bundled MNIST, a data set by name, a folder, an NPZ or NPY file, or arrays in memory.

Each kind of data yields samples, one by one; `store` alone resizes and keeps them.
"""

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from itertools import repeat
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from vaectl.datasets.cache import DiskCache
from vaectl.datasets.catalogue import NAMES, SPLITS
from vaectl.datasets.named import DatasetImages, open_source
from vaectl.datasets.pairs import match_pairs, pair_samples
from vaectl.errors import VaectlError
from vaectl.io import arrays, codecs, files, images, remote
from vaectl.io.images import ResizeSpec
from vaectl.io.inputs import decode_task
from vaectl.io.prefetch import prefetch
from vaectl.io.sources import Folder, SkipPolicy, folder_label, no_images
from vaectl.io.tars import Shards
from vaectl.networks.layers import Shape
from vaectl.text import list_names
from vaectl.types import UInt8Array

# One array (N, H, W, C), or a sequence of (H, W, C) where sizes differ.
ImageStack = Sequence[UInt8Array] | UInt8Array
# Whatever `load_dataset` takes: a name or a path, images (N, H, W[, C]), or train and test images.
Data = str | os.PathLike[str] | ArrayLike | tuple[ArrayLike, ArrayLike]
# Called with the number of images read so far, and of all if it is known.
OnRead = Callable[[int, int | None], None]

IN_MEMORY = "array"  # the name of data that are arrays
IN_NPZ = "x_train_noisy"  # the name of noisy partners that are in the same file
HELD_OUT_ONE_IN = 10  # one image in ten is held out, if the data have no test split
DEFAULT_LONG_SIDE = 64  # pixels, if images are larger or their sizes differ
N_REMOTE_HEADERS = 32  # images of a folder at a URL whose sizes tell the common one
SIDE_MULTIPLE = 4  # the shorter side is then rounded to a multiple of this


class Sample(NamedTuple):
    """An image (H, W, C), whether it is held out for testing, and its label and its name, if it has them."""

    image: UInt8Array
    held_out: bool
    label: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Preprocessing:
    """How images are resized; None takes it from the data.

    `size` is height and width, `fit` as in `ResizeSpec`. `keep_size` leaves each image its own size. With `skip_bad`, files that
    cannot be read are listed and skipped.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    fit: str = "crop"
    keep_size: bool = False
    skip_bad: bool = False

    def resize_spec(self, size: tuple[int, int], channels: int) -> ResizeSpec:
        """The spec for data of this size and these channels."""
        return ResizeSpec((*(self.size or size), self.channels or channels), self.fit)


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


@dataclass(frozen=True)
class ImageStream:
    """The images of a data set, and how many there are if that is known; `shrink` large ones unless a size is given.

    With `noisy`, they are pairs, as in `Dataset`.
    """

    name: str
    images: Iterable[Sample]
    total: int | None = None
    shrink: bool = False
    noisy: str | None = None


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
    preprocessing = preprocessing or Preprocessing()
    if noisy is not None:
        return store(open_pairs(data, noisy, preprocessing), preprocessing, on_read)
    if isinstance(data, str | os.PathLike):
        return store(open_samples(os.fspath(data), preprocessing, pairs_in_npz), preprocessing, on_read)
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


def join_pairs(clean: Iterable[Sample], noisy: Iterable[Sample], name: str) -> Iterator[Sample]:
    """Each clean image and its noisy partner as one image, (H, W, 2 C); the clean one says whether it is held out."""
    for sample, (partner, *_) in zip(clean, noisy, strict=True):
        if sample.image.shape != partner.shape:
            raise VaectlError(f"{name}: clean images are {sample.image.shape}, noisy ones {partner.shape}: make them one size")
        yield sample._replace(image=np.concatenate([sample.image, partner], axis=2))


def open_samples(name: str, preprocessing: Preprocessing, pairs_in_npz: bool) -> ImageStream:
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
        return ImageStream(name, streamed_samples(source, preprocessing))
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


def file_stream(path: str, pairs_in_npz: bool) -> ImageStream:
    """The samples in an NPZ or NPY file, which may be larger than memory."""
    with ExitStack() as opened:
        reader = opened.enter_context(files.open_reader(path))
        format = files.sniff_format(reader)
        if format not in ("NPY", "NPZ"):
            raise VaectlError(f"{path!r} is not a data set: give a name, a folder, or a .npz or .npy file of images")
        noisy = None
        if format == "NPY":
            samples = split_by_content(npy_images(reader)[1])
        else:
            archive = arrays.Archive(reader)
            noisy = IN_NPZ if pairs_in_npz and IN_NPZ in archive.names else None
            samples = archive_samples(archive, noisy is not None)
        return ImageStream(path, close_after(samples, opened.pop_all()), noisy=noisy)


def close_after(samples: Iterable[Sample], opened: ExitStack) -> Iterator[Sample]:
    """The samples; then what they are read from is closed."""
    with opened:
        yield from samples


def archive_samples(archive: arrays.Archive, paired: bool) -> Iterator[Sample]:
    """The samples in x_train and x_test of an NPZ file, if `paired` with their partners in x_train_noisy and x_test_noisy."""
    if "x_train" not in archive.names:
        found = f"only {list_names(archive.names)}" if archive.names else "nothing at all"
        raise VaectlError(f"{archive.name} holds no array 'x_train', {found}: name the training images x_train")
    shape, train = npy_images(archive.open("x_train"))
    has_test = "x_test" in archive.names
    labeled = with_labels(archive, train, "y_train")
    if not has_test:
        clean = {"x_train": (Sample(image, is_held_out(image.tobytes()), label) for image, label in labeled)}
    else:
        test_shape, test = npy_images(archive.open("x_test"))
        if test_shape != shape:
            raise VaectlError(f"{archive.name}: images of x_train are {shape}, of x_test {test_shape}: make them one size")
        clean = {
            "x_train": (Sample(image, False, label) for image, label in labeled),
            "x_test": (Sample(image, True, label) for image, label in with_labels(archive, test, "y_test")),
        }
    for name, samples in clean.items():
        if not paired:
            yield from samples
            continue
        if f"{name}_noisy" not in archive.names:
            raise VaectlError(f"{archive.name} holds {name} but no {name}_noisy: add the noisy images, or leave {name} out")
        partners = (Sample(image, False) for image in npy_images(archive.open(f"{name}_noisy"))[1])
        try:
            yield from join_pairs(samples, partners, archive.name)
        except ValueError as error:
            raise VaectlError(
                f"{archive.name}: {name} and {name}_noisy differ in length: give one noisy image for each"
            ) from error


def with_labels(archive: arrays.Archive, stack: Iterable[UInt8Array], name: str) -> Iterator[tuple[UInt8Array, str | None]]:
    """Each image and its label in the array `name` of integers or text, (N,); None if there is no such array."""
    if name not in archive.names:
        yield from zip(stack, repeat(None))
        return
    reader = archive.open(name)
    header = arrays.read_header(reader, numeric=False)
    if len(header.shape) != 1 or header.dtype.kind not in "iuU" or not header.dtype.itemsize:
        yield from zip(stack, repeat(None))
        return
    labels = (str(label) for block in arrays.read_blocks(reader, header, header.shape) for label in block)
    try:
        yield from zip(stack, labels, strict=True)
    except ValueError as error:
        raise VaectlError(f"{reader.name} does not have one label for each image: complete it, or leave it out") from error


def npy_images(reader: files.PeekableReader) -> tuple[Shape, Iterator[UInt8Array]]:
    """The shape (H, W, C) of the images in an NPY file, and the images, read one block at a time.

    Another file may follow it, as in `cat a.npy b.npy`.
    """
    first = arrays.read_header(reader)
    shape = stack_shape(first.shape, reader.name)

    def read(header: arrays.Header) -> Iterator[UInt8Array]:
        start, full = 0, stack_shape(header.shape, reader.name)
        if full[1:] != shape[1:]:
            raise VaectlError(f"{reader.name} holds images of {shape[1:]} and of {full[1:]}: make them one size")
        for block in arrays.read_blocks(reader, header, full):
            yield from images.to_uint8(block, reader.name, start)
            start += len(block)

    def read_all() -> Iterator[UInt8Array]:
        yield from read(first)
        while reader.peek(1):
            if files.sniff_format(reader) != "NPY":
                raise VaectlError(f"{reader.name} has other data after its array: save it again")
            yield from read(arrays.read_header(reader))

    return shape[1:], read_all()


def array_samples(data: ArrayLike | tuple[ArrayLike, ArrayLike]) -> ImageStream:
    """The samples in an array of images, or in a tuple of train and test images."""
    if not isinstance(data, tuple):
        stack = as_stack(np.asarray(data))
        return ImageStream(IN_MEMORY, split_by_content(stack), len(stack))
    train, test = (as_stack(np.asarray(part)) for part in data)
    samples = (Sample(image, held_out) for stack, held_out in ((train, False), (test, True)) for image in stack)
    return ImageStream(IN_MEMORY, samples, len(train) + len(test))


def as_stack(array: NDArray[Any]) -> UInt8Array:
    """Images of any number type as (N, H, W, C), 0 to 255."""
    return images.to_uint8(array.reshape(stack_shape(array.shape, "data")), "data")


def stack_shape(shape: Shape, name: str) -> Shape:
    """(N, H, W, C) for an array of images, whose channel axis may be missing; a VaectlError for any other shape."""
    full = (*shape, 1) if len(shape) == 3 else shape
    if len(full) != 4 or full[3] not in (1, 3) or not prod(full):
        raise VaectlError(
            f"{name} is an array of shape {shape}: images are (N, height, width), or (N, height, width, 3) in color"
        )
    return full


def folder_samples(folder: Folder, preprocessing: Preprocessing) -> Iterator[Sample]:
    """The samples under a folder, decoded and resized ahead in threads."""
    policy = SkipPolicy(preprocessing.skip_bad)
    decode = make_decoder(folder_spec(folder, preprocessing, policy), preprocessing)
    return policy.filter(prefetch(decode_task(input, decode) for input in folder.inputs(policy)))


def streamed_samples(shards: Shards, preprocessing: Preprocessing) -> Iterator[Sample]:
    """The samples in tar files, decoded and resized ahead in threads, to the size and channels that the first image suggests."""
    policy = SkipPolicy(preprocessing.skip_bad)

    def tasks() -> Iterator[Sample | VaectlError | Callable[[], Sample | VaectlError]]:
        decode = None
        for input in shards.inputs(policy):
            if decode is None:
                found = codecs.peek_size(BytesIO(input.reader.peek(files.MAX_IMAGE_BYTES)))
                if not found:
                    yield decode_task(input, lambda name, label, data: damaged(label))
                    continue
                decode = make_decoder(preprocessing.resize_spec(common_size(Counter([found[:2]])), found[2]), preprocessing)
            yield decode_task(input, decode)

    return policy.filter(prefetch(tasks()))


def damaged(label: str) -> Sample:
    """Raise the VaectlError for an image whose header cannot be read."""
    raise VaectlError(f"{label} is damaged", "save it again")


def make_decoder(spec: ResizeSpec, preprocessing: Preprocessing) -> Callable[[str, str, bytes], Sample]:
    """The function from an image's name, its label in errors and its bytes to a sample of the spec."""

    def decode(name: str, label: str, data: bytes) -> Sample:
        pixels = codecs.decode_resized(data, label, spec, keep_size=preprocessing.keep_size)
        # By the file's bytes: the choice stays at any size.
        return Sample(images.to_uint8(pixels), is_held_out(data), folder_label(name), name)

    return decode


def folder_spec(folder: Folder, preprocessing: Preprocessing, policy: SkipPolicy) -> ResizeSpec:
    """How the images of a folder are resized: to their common size, and to gray if all are gray."""
    if preprocessing.size and preprocessing.channels:
        return preprocessing.resize_spec(preprocessing.size, preprocessing.channels)
    sizes: Counter[tuple[int, int]] = Counter()
    channels = 1
    paths = folder.files(policy)
    # Each header at a URL takes a request.
    for path in paths[:: max(1, len(paths) // N_REMOTE_HEADERS)] if remote.is_url(folder.path) else paths:
        found = peek_file(os.path.join(folder.path, path))
        if found:
            sizes[found[:2]] += 1
            channels = max(channels, found[2])
    if not sizes:
        raise no_images(folder.path)
    return preprocessing.resize_spec(common_size(sizes), channels)


def peek_file(path: str) -> tuple[int, int, int] | None:
    """(height, width, channels) from the header of an image file or URL, or None if it has none."""
    if not remote.is_url(path):
        return codecs.peek_size(path)
    with files.open_reader(path) as reader:
        return codecs.peek_size(BytesIO(reader.read(files.MAX_IMAGE_BYTES)))


def common_size(sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    """The height and width for images of these sizes: their own if they share one of at most 64 pixels a side.

    Otherwise the longer side is 64 pixels, or their median if that is less, at their median aspect ratio.
    """
    if len(sizes) == 1 and max(next(iter(sizes))) <= DEFAULT_LONG_SIDE:
        return next(iter(sizes))
    aspect = median((width / height, count) for (height, width), count in sizes.items())
    longer = min(DEFAULT_LONG_SIDE, int(median((max(size), count) for size, count in sizes.items())))
    shorter = min(longer, max(SIDE_MULTIPLE, round(longer * min(aspect, 1 / aspect) / SIDE_MULTIPLE) * SIDE_MULTIPLE))
    return (shorter, longer) if aspect > 1 else (longer, shorter)


def median(values: Iterable[tuple[float, int]]) -> float:
    """The median of values with counts; of two in the middle, the larger."""
    numbers, counts = zip(*values, strict=True)
    return float(np.percentile(np.repeat(numbers, counts), 50, method="higher"))


def split_by_content(stack: Iterable[UInt8Array]) -> Iterator[Sample]:
    """Each image, and whether its content puts it into the held-out tenth."""
    return (Sample(image, is_held_out(image.tobytes())) for image in stack)


def is_held_out(content: bytes) -> bool:
    """Whether content is held out, by its hash."""
    return hashlib.sha256(content).digest()[0] % HELD_OUT_ONE_IN == 0


def resize(image: Image.Image, spec: ResizeSpec) -> UInt8Array:
    """The image at the size and with the channels of the spec, 0 to 255."""
    return images.to_uint8(images.resize_image(image, spec))


def store(data: ImageStream, preprocessing: Preprocessing, on_read: OnRead) -> Dataset:
    """Keep samples on disk, all at the size of the first unless they keep their own."""
    caches = DiskCache(), DiskCache()
    labels: tuple[list[str | None], list[str | None]] = [], []
    names: tuple[list[str | None], list[str | None]] = [], []
    spec: ResizeSpec | None = None
    for done, (image, held_out, label, name) in enumerate(data.images, 1):
        size = image.shape[:2]
        if spec is None or preprocessing.keep_size:
            shrink = data.shrink and not preprocessing.keep_size
            channels = image.shape[2] // 2 if data.noisy else image.shape[2]
            spec = preprocessing.resize_spec(common_size(Counter([size])) if shrink else size, channels)
        parts = np.split(image, 2, axis=2) if data.noisy else [image]
        resized = [part if part.shape == spec.image_shape else resize(images.from_uint8(part), spec) for part in parts]
        caches[held_out].append(np.concatenate(resized, axis=2) if data.noisy else resized[0])
        labels[held_out].append(label)
        names[held_out].append(name)
        on_read(done, data.total)
    if not len(caches[False]):
        caches, labels, names = caches[::-1], labels[::-1], names[::-1]
    if not len(caches[False]):
        raise VaectlError(f"{data.name!r} contains no images that can be read: give other data")
    train, test = (cache.as_list() if preprocessing.keep_size else cache.as_array() for cache in caches)
    known = (*map(known_labels, labels), *map(known_names, names))
    dataset = Dataset(data.name, train, test, hash_images(train, test), data.noisy, *known)
    caches[False].advise_random_access()
    return dataset


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
