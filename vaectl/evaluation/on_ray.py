"""Job a large number of images on a Ray cluster, into a folder of Parquet tables."""

import hashlib
import json
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vaectl.base.errors import VaectlError, VaectlWarning, warn
from vaectl.base.extras import importing
from vaectl.base.signals import INTERRUPTIONS
from vaectl.datasets.named import open_sources
from vaectl.io import files
from vaectl.io.outputs import Destination, write_latents
from vaectl.io.records import Batch
from vaectl.io.sources import Shard, Source, count_inputs
from vaectl.models import autoencoder, checkpoint

IMAGES_PER_PART = 4096  # at most this many are repeated if a worker is lost
MANIFEST = "_encoding.json"  # readers of tables ignore names with this prefix
LOCAL = "local"


@dataclass(frozen=True)
class Job:
    """What is encoded, how, and into how many parts; a continued run must match."""

    inputs: Sequence[str]
    images: int | None  # None if only reading would tell, as of tar files: then each source is a part
    parts: int
    weights: str  # their hash
    invert: bool

    def path(self, folder: str, part: int) -> str:
        """The table of a part, from 1."""
        return os.path.join(folder, f"part-{part:05d}-of-{self.parts:05d}.parquet")


def encode(
    address: str,
    model: str,
    inputs: Sequence[str],
    folder: str,
    *,
    invert: bool = False,
    skip_bad: bool = False,
    device: str = "auto",
    on_part: Callable[[int, int | None], None] = lambda images, total: None,
) -> None:
    """Encode images on a Ray cluster: Ray Data hands parts of them to actors, which hold the model and write a table each.

    Tables that are there already are kept, so an interrupted run goes on with what is missing. The work of an actor that is
    killed is done again. All machines must see the same files under the same names.

    Args:
        address: of the cluster; "local" starts one on this machine, "auto" takes the one that this machine is part of.
        model: a checkpoint's path.
        folder: where the tables go.
        on_part: called with the number of images in a finished part, and of all if it is known.

    Raises:
        VaectlError: no Ray, no cluster there, images that cannot be read, or a folder with tables of another run.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # read at import; errors are told below
    with importing("ray"):
        import ray
        import ray.data
    loaded = checkpoint.load(model)
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in loaded.weights.values())).hexdigest()
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        sources = open_sources(inputs, "an IMAGE, a folder or an NPY")
        images = count_inputs(sources)
        if images == 0:
            raise VaectlError(f"{sources[0].describe()} is empty: it contains no images")
        parts = len(sources) if images is None else math.ceil(images / IMAGES_PER_PART)
        job = Job(list(inputs), images, parts, digest, invert)
        start(job, folder)
        missing = [part for part in range(1, job.parts + 1) if not os.path.exists(job.path(folder, part))]
        if len(missing) < parts:
            rest = "the rest follows" if missing else "all done"
            warn(f"{folder!r} already has {parts - len(missing)} of {parts} tables: {rest}")
        if images is not None:
            on_part(images - len(missing) * images // parts, images)
        if not missing:
            return
        connect(ray, address)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        workers = max(1, min(len(missing), int(resources.get("CPU", 1))))
        on_gpu = resources.get("GPU", 0) >= 1
        arguments = {"model": os.path.abspath(model), "folder": os.path.abspath(folder), "job": job, "sources": sources}
        settings = {"skip_bad": skip_bad, "device": device, "origin": os.getcwd()}
        results = ray.data.from_items([{"part": part} for part in missing], override_num_blocks=len(missing)).map_batches(
            PartEncoder,
            fn_constructor_kwargs=arguments | settings,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
            num_cpus=1,
            num_gpus=1 if on_gpu else 0,
        )
        skipped = 0
        for result in results.iter_rows():
            if result["error"]:
                raise VaectlError(result["error"])
            for message in result["messages"]:
                warn(message)
                skipped += message.endswith(": skipped")
            on_part(result["images"], images)
        if skipped:
            warn(f"skipped {skipped} image{'s' if skipped > 1 else ''} that could not be read")
    except INTERRUPTIONS:
        warn("interrupted: rerun the same command to continue")
        raise
    finally:
        ray.shutdown()


def connect(ray: Any, address: str) -> None:
    """Start a cluster on this machine, or join another, unless that is done.

    Raises:
        VaectlError: there is none at the address.
    """
    if ray.is_initialized():
        return
    own = {"include_dashboard": False} if address == LOCAL else {}
    try:
        with silenced_stderr():
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise VaectlError(f"no Ray cluster at {address!r} ({reason}): start one with ray start, or use --ray local") from error


@contextmanager
def silenced_stderr() -> Iterator[None]:
    """Silence stderr within the block: Ray's core prints a notice about its own logging."""
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def start(job: Job, folder: str) -> None:
    """Write down what is encoded, or check that it is what an interrupted run encoded.

    Raises:
        VaectlError: the folder has tables of another run.
    """
    values: Mapping[str, Any] = json.loads(json.dumps(vars(job)))
    path = os.path.join(folder, MANIFEST)
    with files.translate_errors(repr(folder)):
        os.makedirs(folder, exist_ok=True)
        if not os.path.exists(path):
            with files.open_output(path) as stream:
                stream.write(json.dumps(values, indent=2).encode() + b"\n")
            return
        with open(path, "rb") as saved:
            found = saved.read()
    try:
        other = json.loads(found)
    except ValueError:
        other = {}
    changed = [name for name, value in values.items() if not isinstance(other, dict) or other.get(name) != value]
    if changed:
        raise VaectlError(
            f"{folder!r} has tables of a run with different {', '.join(changed)}: name another folder, or remove this one"
        )


class PartEncoder:
    """An actor that holds the model, and encodes parts."""

    def __init__(
        self, model: str, folder: str, job: Job, sources: Sequence[Source], skip_bad: bool, device: str, origin: str
    ) -> None:
        os.chdir(origin)  # where the names of the sources are valid
        self.model = autoencoder.load(model, device)
        self.folder, self.job, self.skip_bad = folder, job, skip_bad
        self.sources = sources

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Encode one part: the number of its images, what was skipped, and why it failed if it did."""
        (part,) = (int(number) for number in batch["part"])
        images = 0
        error = ""

        def encoded(batches: Iterator[Batch]) -> Iterator[Batch]:
            nonlocal images
            for batch in batches:
                images += len(batch)
                yield batch.map(self.model.encode_batch)

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", VaectlWarning)
            try:
                sources = Shard(part, self.job.parts).take(self.sources)
                batches = self.model.read(sources, invert=self.job.invert, skip_bad=self.skip_bad)
                write_latents(encoded(batches), Destination(self.job.path(self.folder, part), "parquet"))
            except VaectlError as failure:
                error = str(failure)
        messages = [str(found.message) for found in caught if str(found.message).endswith("skipped")]
        return {"part": [part], "images": [images], "messages": [messages], "error": [error]}
