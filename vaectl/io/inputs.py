"""What is read of sources: samples in order, decoded ahead in threads, and batches of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import islice

from PIL import Image

from vaectl.base.arrays import Array
from vaectl.base.errors import VaectlError
from vaectl.base.prefetch import prefetch
from vaectl.images import codecs
from vaectl.io import files, streams
from vaectl.io.decoders import Decoder, LatentDecoder
from vaectl.io.records import Batch, Sample, batched
from vaectl.io.sources import SkipPolicy, Source


def read_samples(sources: Iterable[Source], decoder: Decoder, policy: SkipPolicy, every: int = 1) -> Iterator[Sample]:
    """The samples of the sources in order, or the first of each `every` in a row, decoded ahead in threads.

    Raises:
        VaectlError: one cannot be read, unless the policy skips it.
    """
    tasks = (task for source in sources for task in source.tasks(decoder, policy))
    attempts = (partial(attempt, task) if callable(task) else task for task in islice(tasks, 0, None, every))
    return policy.filter(prefetch(attempts, decoder.ahead))


def attempt(task: Callable[[], Sample]) -> Sample | VaectlError:
    """The result of a task, or its error."""
    try:
        return task()
    except VaectlError as error:
        return error


def read_batches(
    sources: Sequence[Source], decoder: Decoder, policy: SkipPolicy, every: int = 1, what: str = "images"
) -> Iterator[Batch]:
    """The samples of the sources, as `read_samples`, in batches; `what` they are.

    Raises:
        VaectlError: as `read_samples`, or there are none.
    """
    empty = True
    for batch in batched(read_samples(sources, decoder, policy, every), decoder.batch_size):
        empty = False
        yield batch
    if empty:
        others = ", like the others," if len(sources) > 1 else ""
        if policy.skipped:
            raise VaectlError(f"{sources[0].describe()}{others} contains no {what} that can be read")
        raise VaectlError(f"{sources[0].describe()}{others} is empty: it contains no {what}")


def read_latents(sources: Sequence[Source], latent_dim: int) -> Iterator[Batch]:
    """Latents, (N, latent_dim), in batches.

    Raises:
        VaectlError: an input that is missing, damaged, empty, of another width, or not an array.
    """
    return read_batches(sources, LatentDecoder(latent_dim), SkipPolicy(), what="latents")


def read_points(
    sources: Sequence[Source],
    encode: Callable[[Image.Image], Array],
    latent_dim: int | None = None,
    *,
    skip_bad: bool | None = None,
) -> Iterator[Batch]:
    """Latents, (N, latent_dim), in batches, some of them encoded images; if None, the first one determines `latent_dim`.

    Raises:
        VaectlError: an input that is missing, damaged, empty, of another width, or neither an image nor an array.
    """
    return read_batches(sources, LatentDecoder(latent_dim, encode), SkipPolicy(skip_bad), what="images or latents")


@lru_cache(maxsize=4)
def read_image_file(path: str) -> Image.Image:
    """The image in a file, with its alpha; cached, because a pipe can be read only once.

    Raises:
        VaectlError: it is missing, damaged or not an image.
    """
    with files.open_reader(path) as reader:
        return codecs.open_image(streams.read_image(reader, files.sniff_format(reader)), reader.name)[0]
