"""Samples in the files of a folder and in tar files, decoded and resized ahead in threads."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from io import BytesIO
from itertools import islice
from math import ceil

from vaectl.base.errors import VaectlError
from vaectl.base.prefetch import prefetch
from vaectl.datasets.samples import Preprocessing, Sample, common_size, is_held_out
from vaectl.images import codecs, formats, resize
from vaectl.images.resize import ResizeSpec
from vaectl.io import files, remote
from vaectl.io.inputs import decode_task
from vaectl.io.sources import Folder, SkipPolicy, folder_label, no_images
from vaectl.io.tars import Shards

N_SAMPLED, N_SAMPLED_FILES = 20_000, 32
N_REMOTE_HEADERS = 32  # images of a folder at a URL whose sizes tell the common one


def folder_samples(folder: Folder, preprocessing: Preprocessing) -> Iterator[Sample]:
    """The samples under a folder, decoded and resized ahead in threads."""
    policy = SkipPolicy(preprocessing.skip_bad)
    decode = make_decoder(folder_spec(folder, preprocessing, policy), preprocessing)
    return policy.filter(prefetch(decode_task(input, decode) for input in folder.inputs(policy)))


def streamed_samples(shards: Shards, preprocessing: Preprocessing) -> Iterator[Sample]:
    """The samples in tar files, decoded and resized ahead in threads, to the size and channels that the first image suggests."""
    policy = SkipPolicy(preprocessing.skip_bad)
    return policy.filter(decode_shards(shards, preprocessing, policy))


def decode_shards(
    shards: Shards, preprocessing: Preprocessing, policy: SkipPolicy, threads: int | None = None
) -> Iterator[Sample | VaectlError]:
    """The samples in tar files, or what is wrong with them, decoded by so many threads (default: one for each CPU)."""

    def tasks() -> Iterator[Sample | VaectlError | Callable[[], Sample | VaectlError]]:
        decode = None
        for input in shards.inputs(policy):
            if decode is None:
                found = codecs.peek_size(BytesIO(input.reader.peek(formats.MAX_IMAGE_BYTES)))
                if not found:
                    yield decode_task(input, lambda name, label, data: damaged(label))
                    continue
                decode = make_decoder(preprocessing.resize_spec(common_size(Counter([found[:2]])), found[2]), preprocessing)
            yield decode_task(input, decode)

    return prefetch(tasks(), threads=threads)


def some_samples(shards: Shards, preprocessing: Preprocessing) -> Iterator[Sample]:
    """Some samples in tar files: as many at the beginning of each, or of some evenly spaced ones."""
    files_read = range(0, len(shards.paths), ceil(len(shards.paths) / N_SAMPLED_FILES))
    for number in files_read:
        for sample in islice(streamed_samples(shards.select([number]), preprocessing), ceil(N_SAMPLED / len(files_read))):
            preprocessing = replace(preprocessing, size=sample.image.shape[:2], channels=sample.image.shape[2])
            yield sample


def damaged(label: str) -> Sample:
    """Raise the VaectlError for an image whose header cannot be read."""
    raise VaectlError(f"{label} is damaged", "save it again")


def make_decoder(spec: ResizeSpec, preprocessing: Preprocessing) -> Callable[[str, str, bytes], Sample]:
    """The function from an image's name, its label in errors and its bytes to a sample of the spec."""

    def decode(name: str, label: str, data: bytes) -> Sample:
        pixels = codecs.decode_resized(data, label, spec, keep_size=preprocessing.keep_size)
        # By the file's bytes: the choice stays at any size.
        return Sample(resize.to_uint8(pixels), is_held_out(data), folder_label(name), name)

    return decode


def folder_spec(folder: Folder, preprocessing: Preprocessing, policy: SkipPolicy) -> ResizeSpec:
    """How the images of a folder are resized: to their common size, and to gray if all are gray."""
    if preprocessing.size and preprocessing.channels:
        return preprocessing.resize_spec(preprocessing.size, preprocessing.channels)
    sizes: Counter[tuple[int, int]] = Counter()
    channels = 1
    paths = folder.files(policy)
    if is_remote := remote.is_url(folder.path):
        paths = paths[:: max(1, len(paths) // N_REMOTE_HEADERS)]  # each takes a request
    tasks = (partial(peek_file, os.path.join(folder.path, path)) for path in paths)
    headers: Iterable[tuple[int, int, int] | None] = (
        prefetch(tasks, threads=remote.N_THREADS) if is_remote else (task() for task in tasks)
    )
    for found in headers:
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
        return codecs.peek_size(BytesIO(reader.read(formats.MAX_IMAGE_BYTES)))
