"""What stands in files, folders and on stdin: one picture or array after another."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vaectl.errors import Remark, VaectlError
from vaectl.io import arrays, files, streams
from vaectl.io.files import Reader

Array = NDArray[np.float32]
Item = tuple[str, Array]
T = TypeVar("T")

ARRAYS = ("NPY", "NPZ")


@dataclass
class Bad:
    """What happens to pictures that cannot be read: they end the work, or are told, counted and left out where `skipped`.

    Where that is None, the user cannot choose.
    """

    skipped: bool | None = None
    count: int = field(default=0, init=False)

    def meet(self, error: VaectlError) -> None:
        """Raise the error, or tell it and go on."""
        if self.skipped is None or (not self.skipped and str(error) == error.what):
            raise error
        if not self.skipped:
            raise VaectlError(error.what, "replace it, or leave such files out with --skip-bad") from error
        self.count += 1
        warnings.warn(f"{error.what}: left out", Remark, stacklevel=2)

    def left_out(self, results: Iterable[T | VaectlError]) -> Iterator[T]:
        """The results without the errors among them, which are met, and told of at the end."""
        for result in results:
            if isinstance(result, VaectlError):
                self.meet(result)
            else:
                yield result
        self.tell()

    def tell(self) -> None:
        """Say how many there were."""
        if self.count:
            warnings.warn(f"left out {self.count} that could not be read", Remark, stacklevel=2)


@dataclass(frozen=True)
class Part:
    """One picture or array about to be read: its bytes, its kind, and how its items are named."""

    reader: Reader
    kind: str
    name: str
    numbers: Iterator[int]

    def next_name(self) -> str:
        """The picture's own name, or a number in a stream of several."""
        return self.numbered() if self.reader.runs_on else self.name

    def numbered(self) -> str:
        """The name of an item that has none of its own: `z-00000`, `z-00001`, ... in `z.npy`."""
        return f"{os.path.splitext(self.name)[0]}-{next(self.numbers):05d}"

    def __str__(self) -> str:
        """What it is, as an error begins."""
        words = {
            "empty": "empty",
            "unknown": "neither a picture nor an array",
            "NPY": "an NPY array",
            "table": "a table, which is for people and not read again",
        }
        return f"{self.reader.name} is {words.get(self.kind, f'a {self.kind} file')}"


def picture_bytes(part: Part) -> bytes:
    """The bytes of one picture; in a stream several may follow one another."""
    if part.kind == "PNG" and part.reader.runs_on:
        return streams.read_png(part.reader)
    data = part.reader.read(files.LARGEST_PICTURE)
    if part.reader.peek(1):
        raise VaectlError(f"{part.reader.name} is larger than {files.LARGEST_PICTURE} bytes", "make it smaller")
    if part.reader.runs_on:
        end = streams.end_of(data, part.kind)
        part.reader.put_back(data[end:])
        data = data[:end]
    return data


def work_on(part: Part, decode: Callable[[bytes], T]) -> VaectlError | Callable[[], T | VaectlError]:
    """What will make of a picture's bytes, which are read now, what `decode` makes; an error on the way is the result."""
    try:
        data = picture_bytes(part)
    except VaectlError as error:
        part.reader.leave()
        return error

    def attempt() -> T | VaectlError:
        try:
            return decode(data)
        except VaectlError as error:
            return error

    return attempt


def array_items(
    part: Part,
    stack_shape: Callable[[tuple[int, ...], str], tuple[int, ...]],
    checked: Callable[[NDArray[Any], str, int], Array],
) -> Iterator[Item]:
    """The rows of the array that comes next, once `stack_shape` has taken its shape and `checked` its values."""
    path = part.reader.name
    reader = arrays.Archive(part.reader).only() if part.kind == "NPZ" else part.reader
    header = arrays.read_header(reader)
    blocks = arrays.read_blocks(reader, header, stack_shape(header.shape, path))
    start = 0
    for block in blocks:
        yield from ((part.numbered(), item) for item in checked(block, path, start))
        start += len(block)


def parts_of(inputs: Sequence[str], wanted: str, bad: Bad) -> Iterator[Part]:
    """Each picture or array to be read; a folder gives its pictures, a stream what stands in it one after another."""
    for path in inputs or [files.stdin_or_usage_error(wanted)]:
        if os.path.isdir(path):
            yield from folder_parts(path, bad)
            continue
        numbers = count()
        with files.opened(path) as reader:
            name = files.STDIN_NAME if path == files.STDIN else os.path.basename(path)
            yield Part(reader, files.kind_of(reader), name, numbers)
            while reader.peek(1):
                yield Part(reader, files.kind_of(reader), name, numbers)


def folder_parts(folder: str, bad: Bad) -> Iterator[Part]:
    """The pictures under a folder, sorted by path and named by their path within it; other files are passed over."""
    found = passed_over = 0
    for path in files_under(folder):
        try:
            with files.opened(os.path.join(folder, path)) as reader:
                kind = files.kind_of(reader)
                found += kind in files.PICTURES
                passed_over += kind not in files.PICTURES
                if kind in files.PICTURES:
                    yield Part(reader, kind, path, count())
        except VaectlError as error:
            bad.meet(error)
    if not found:
        raise VaectlError(f"{folder!r} holds no pictures: give another folder")
    if passed_over:
        warnings.warn(f"{folder!r}: {passed_over} of its files are no pictures and were passed over", Remark, stacklevel=2)


def files_under(folder: str) -> Iterator[str]:
    """The regular files under a folder by their path within it, sorted by it; only the names on the way to one are held."""
    way = [iter(names_in(folder, ""))]
    while way:
        path = next(way[-1], None)
        if path is None:
            way.pop()
        elif path.endswith("/"):
            way.append(iter(names_in(folder, path)))
        else:
            yield path


def names_in(folder: str, inner: str) -> list[str]:
    """The paths within `folder` of what stands in its folder `inner`, sorted; a folder's with a slash, as it begins others."""
    with files.told(repr(folder)), os.scandir(os.path.join(folder, inner)) as entries:
        return sorted(
            f"{inner}{entry.name}{'/' if entry.is_dir(follow_symlinks=False) else ''}"
            for entry in entries
            if entry.is_dir(follow_symlinks=False) or is_file(entry)
        )


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is a regular file or leads to one."""
    try:
        return entry.is_file()
    except OSError:  # a link that leads in a circle
        return False


def expected(inputs: Sequence[str]) -> int | None:
    """About how many pictures or rows the inputs hold; None where only reading would tell."""
    counts = [count_of(path) for path in inputs or [files.STDIN]]
    return None if None in counts else sum(found for found in counts if found)


def count_of(path: str) -> int | None:
    """The files of a folder, the rows of an NPY file, one of any other file; of a stream it is not known."""
    if os.path.isdir(path):
        return sum(1 for _ in files_under(path))
    if path == files.STDIN or not os.path.isfile(path):
        return None
    with files.opened(path) as reader:
        return next(iter(arrays.read_header(reader).shape), 1) if files.kind_of(reader) == "NPY" else 1
