"""What a verb reads: files, folders and stdin, told apart by their first bytes, as batches."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, count, islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from vaectl.errors import Remark, VaectlError
from vaectl.frame import Frame
from vaectl.io import arrays, files, pictures
from vaectl.io.files import Reader

Array = NDArray[np.float32]
Item = tuple[str, Array]
T = TypeVar("T")

BATCH_BYTES = 16 << 20
LARGEST_BATCH = 256
ARRAYS = ("NPY", "NPZ")
AHEAD = 4  # pictures under way for each thread that decodes them


@dataclass(frozen=True)
class Batch:
    """Pictures (N, H, W, C) or latents (N, D), and the name of each; `depth` is the bits of a value that pictures came with."""

    names: Sequence[str]
    arrays: Array
    depth: int = 8

    def map(self, function: Callable[[Array], Array]) -> "Batch":
        """The same names, the arrays passed through `function`."""
        return replace(self, arrays=function(self.arrays))


@dataclass
class Bad:
    """What happens to pictures that cannot be read: they end the work, or are told, counted and left out where `skipped`."""

    skipped: bool = False
    count: int = field(default=0, init=False)

    def meet(self, error: VaectlError) -> None:
        """Raise the error, or tell it and go on."""
        if not self.skipped:
            raise error
        self.count += 1
        warnings.warn(str(error), Remark, stacklevel=2)

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


def read_pictures(inputs: Sequence[str], frame: Frame, *, invert: bool = False, skip_bad: bool = False) -> Iterator[Batch]:
    """Batches of pictures brought to `frame`, from files, folders, arrays or stdin; `invert` turns black to white.

    With `skip_bad`, pictures that cannot be read are left out and told.

    Raises:
        VaectlError: an input that is missing, damaged, empty or no picture.
        UsageError: no input at all.
    """
    found = batched(picture_items(inputs, frame, Bad(skip_bad)), "pictures")
    return (batch.map(pictures.inverted) for batch in found) if invert else found


def read_photographs(inputs: Sequence[str], channels: int, *, invert: bool = False, skip_bad: bool = False) -> Iterator[Batch]:
    """Pictures of their own sizes, each a batch, (1, H, W, C) with its alpha as one channel more if it has any.

    Raises:
        VaectlError: as `read_pictures`.
        UsageError: no input at all.
    """
    bad = Bad(skip_bad)

    def photograph(name: str, data: bytes, told: str) -> Batch | VaectlError:
        try:
            pixels, depth = pictures.photograph(data, told, channels)
        except VaectlError as error:
            return error
        if invert:
            pixels[..., :channels] = pictures.inverted(pixels[..., :channels])
        return Batch([name], pixels[np.newaxis], depth)

    def stack_shape(found: tuple[int, ...], path: str) -> tuple[int, ...]:
        full = (*found, 1) if len(found) in (2, 3) and found[-1] not in (1, 3) else found
        if len(full) not in (3, 4) or full[-1] != channels:
            raise VaectlError(f"{path} is an array of {found}: pictures are (N, height, width, {channels}) here")
        return (1, *full) if len(full) == 3 else full

    def works() -> Iterator[Batch | Callable[[], Batch | VaectlError]]:
        for part in parts(inputs, "a PICTURE, a folder or an NPY", bad):
            if part.kind in files.PICTURES:
                yield partial(photograph, part.next_name(), picture_bytes(part), part.reader.name)
            elif part.kind in ARRAYS:
                for name, pixels in array_items(part, stack_shape, pictures.pixels):
                    yield Batch([name], pictures.inverted(pixels)[np.newaxis] if invert else pixels[np.newaxis])
            else:
                raise VaectlError(f"{part}: a picture is expected (PNG, JPEG, WebP, GIF, BMP, TIFF or NPY)")

    yield from bad.left_out(worked_ahead(works(), ahead=1))


def read_latents(inputs: Sequence[str], width: int) -> Iterator[Batch]:
    """Batches of latents, (N, width), from NPY files or stdin.

    Raises:
        VaectlError: an input that is missing, damaged, empty, of another width, or no array.
        UsageError: no input at all.
    """
    return batched(latent_items(inputs, width), "latents")


def read_points(inputs: Sequence[str], encode: Callable[[Image], Array], width: int | None = None) -> Iterator[Batch]:
    """Batches of latents, (N, width), from NPY files or stdin, or from pictures by `encode`; the first settles an open `width`.

    Raises:
        VaectlError: an input that is missing, damaged, empty, of another width, or neither a picture nor an array.
        UsageError: no input at all.
    """
    return batched(latent_items(inputs, width, encode), "pictures or latents")


def batched(items: Iterable[Item], what: str) -> Iterator[Batch]:
    """Items gathered into batches that stay small in memory."""
    items = iter(items)
    size = 0
    while first := list(islice(items, 1)):
        size = max(1, min(LARGEST_BATCH, BATCH_BYTES // first[0][1].nbytes))
        names, values = zip(*first, *islice(items, size - 1), strict=True)
        yield Batch(names, np.stack(values))
    if not size:
        raise VaectlError(f"no {what} came in: the input is empty")


def picture_items(inputs: Sequence[str], frame: Frame, bad: Bad) -> Iterator[Item]:
    """Each picture by itself, with its name; threads decode what comes next."""

    def fitted(name: str, data: bytes, told: str) -> Item | VaectlError:
        try:
            return name, pictures.fit(pictures.decode(data, told, frame), frame)
        except VaectlError as error:
            return error

    def stack_shape(found: tuple[int, ...], path: str) -> tuple[int, ...]:
        return pictures.stack_shape(found, frame.shape, path)

    def works() -> Iterator[Item | Callable[[], Item | VaectlError]]:
        for part in parts(inputs, "a PICTURE, a folder or an NPY", bad):
            if part.kind in files.PICTURES:
                yield partial(fitted, part.next_name(), picture_bytes(part), part.reader.name)
            elif part.kind in ARRAYS:
                yield from array_items(part, stack_shape, pictures.pixels)
            else:
                raise VaectlError(f"{part}: a picture is expected (PNG, JPEG, WebP, GIF, BMP, TIFF or NPY)")

    return bad.left_out(worked_ahead(works()))


def latent_items(inputs: Sequence[str], width: int | None, encode: Callable[[Image], Array] | None = None) -> Iterator[Item]:
    """Each latent vector by itself, with its name."""

    def stack_shape(found: tuple[int, ...], path: str) -> tuple[int, ...]:
        nonlocal width
        if width is None and found:
            width = found[-1]
        if found[-1:] != (width,) or len(found) > 2:
            raise VaectlError(f"{path} is an array of {found}: latents are (N, {width}) here: encode with the same checkpoint")
        return (1, *found) if len(found) == 1 else found

    for part in parts(inputs, "an NPY of latents" if encode is None else "a PICTURE or an NPY of latents", Bad()):
        if part.kind in files.PICTURES and encode is not None:
            z = encode(pictures.decode(picture_bytes(part), part.reader.name))
            stack_shape(z.shape, part.reader.name)
            yield part.next_name(), z
        elif part.kind in files.PICTURES:
            raise VaectlError(f"{part}: latents (NPY) are expected: run vaectl encode on it first")
        elif part.kind in ARRAYS:
            yield from array_items(part, stack_shape, arrays.finite)
        else:
            raise VaectlError(f"{part}: latents (NPY) are expected, as vaectl encode writes them")


@dataclass(frozen=True)
class Part:
    """One picture or array about to be read: its bytes, its kind, and how its items are named."""

    reader: Reader
    kind: str
    name: str
    numbers: Iterator[int]

    def next_name(self) -> str:
        """The picture's own name, or a number on stdin."""
        return self.numbered() if self.reader.name == files.STDIN_NAME else self.name

    def numbered(self) -> str:
        """The name of an item that has none of its own: `z-00000`, `z-00001`, ... in `z.npy`."""
        return f"{os.path.splitext(self.name)[0]}-{next(self.numbers):05d}"

    def __str__(self) -> str:
        """What it is, as an error begins."""
        words = {"empty": "empty", "unknown": "neither a picture nor an array", "NPY": "an NPY array"}
        return f"{self.reader.name} is {words.get(self.kind, f'a {self.kind} file')}"


def picture_bytes(part: Part) -> bytes:
    """The bytes of one picture; on stdin several may follow one another."""
    if part.kind == "PNG" and part.reader.name == files.STDIN_NAME:
        return pictures.read_png(part.reader)
    data = part.reader.read(files.LARGEST_PICTURE)
    if part.reader.peek(1):
        raise VaectlError(f"{part.reader.name} is larger than {files.LARGEST_PICTURE} bytes: make it smaller")
    if part.reader.name == files.STDIN_NAME:
        end = pictures.end_of(data, part.kind)
        part.reader.put_back(data[end:])
        data = data[:end]
    return data


def array_items(
    part: Part,
    stack_shape: Callable[[tuple[int, ...], str], tuple[int, ...]],
    checked: Callable[[NDArray[Any], str, int], Array],
) -> Iterator[Item]:
    """The rows of the array that comes next, once `stack_shape` has taken its shape and `checked` its values."""
    path = part.reader.name
    if part.kind == "NPZ":
        array = arrays.only_array(part.reader)
        blocks = iter([array.reshape(stack_shape(array.shape, path))])
    else:
        header = arrays.read_header(part.reader)
        blocks = arrays.read_blocks(part.reader, header, stack_shape(header.shape, path), LARGEST_BATCH)
    start = 0
    for block in blocks:
        yield from ((part.numbered(), item) for item in checked(block, path, start))
        start += len(block)


def parts(inputs: Sequence[str], wanted: str, bad: Bad) -> Iterator[Part]:
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


def files_under(folder: str, inner: str = "") -> Iterator[str]:
    """The regular files under a folder by their path within it, sorted by it; only one folder's names are held at a time."""
    with files.told(repr(folder)), os.scandir(os.path.join(folder, inner)) as entries:
        # A folder's name is sorted as it begins the paths of what stands in it: with a slash.
        found = sorted(
            f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
            for entry in entries
            if entry.is_dir(follow_symlinks=False) or entry.is_file()
        )
    for name in found:
        path = os.path.join(inner, name)
        if name.endswith("/"):
            yield from files_under(folder, path)
        else:
            yield path


def worked_ahead(works: Iterable[T | Callable[[], T]], ahead: int = AHEAD) -> Iterator[T]:
    """What `works` come to, in their order; threads work out a few of them before they are asked for."""
    works = iter(works)
    first = list(islice(works, 2))
    if len(first) < 2:  # threads cost more than they bring
        yield from (work() if callable(work) else work for work in first)
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    threads = processors()
    pending: deque[T | Future[T]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for work in chain(first, works):
            pending.append(pool.submit(work) if callable(work) else work)
            if len(pending) > ahead * threads:
                done = pending.popleft()
                yield done.result() if isinstance(done, Future) else done
        for done in pending:
            yield done.result() if isinstance(done, Future) else done
    finally:
        pool.shutdown(cancel_futures=True)


def processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
