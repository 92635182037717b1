"""Latents as Parquet tables: name, label if known, and z, a list of fixed size."""

from collections.abc import Iterable, Iterator
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from vaectl.base.arrays import Array
from vaectl.base.errors import VaectlError
from vaectl.base.extras import importing
from vaectl.io.files import PeekableReader

if TYPE_CHECKING:
    from vaectl.io.inputs import Batch

ROW_GROUP = 16_384


def write_batches(batches: "Iterable[Batch]", stream: BinaryIO) -> None:
    """Write batches of latents (N, D); undecodable bytes of names become question marks, for Parquet holds text.

    Raises:
        VaectlError: pyarrow is not installed.
    """
    with importing("parquet"):
        import pyarrow as arrow
        from pyarrow import parquet
    writer, labeled, waiting = None, False, []

    def flush() -> None:
        assert writer is not None
        writer.write_table(arrow.Table.from_batches(waiting), ROW_GROUP)
        waiting.clear()

    for batch in batches:
        if writer is None:
            labeled = any(label is not None for label in batch.labels)
            fields = [("name", arrow.string()), *[("label", arrow.string())] * labeled]
            schema = arrow.schema([*fields, ("z", arrow.list_(arrow.float32(), batch.arrays.shape[1]))])
            writer = parquet.ParquetWriter(stream, schema)
        z = arrow.FixedSizeListArray.from_arrays(np.ascontiguousarray(batch.arrays, np.float32).ravel(), batch.arrays.shape[1])
        labels = batch.labels or [None] * len(batch)
        columns = [list(map(as_text, batch.names)), *[list(map(as_text, labels))] * labeled, z]
        waiting.append(arrow.record_batch(columns, schema=schema))
        if sum(map(len, waiting)) >= ROW_GROUP:
            flush()
    if writer:
        if waiting:
            flush()
        writer.close()


def as_text(name: str | None) -> str | None:
    """A name without undecodable bytes."""
    return name.encode("utf-8", "replace").decode() if name is not None else None


class Row(NamedTuple):
    """A latent (D,) with its name and its label; None is unknown."""

    name: str | None
    label: str | None
    z: Array


def read_rows(reader: PeekableReader) -> Iterator[Row]:
    """The latents in a Parquet table: a column z of lists, or columns z0, z1 and so on, as in CSV.

    Raises:
        VaectlError: it is damaged, has no such columns of numbers, or pyarrow is not installed.
    """
    with importing("parquet"):
        import pyarrow as arrow
        from pyarrow import parquet
    try:
        table = parquet.ParquetFile(reader.seekable())
        names = table.schema_arrow.names
        z = ["z"] if "z" in names else [*takewhile(names.__contains__, (f"z{dim}" for dim in count()))]
        if not z:
            raise VaectlError(f"{reader.name} has no column z, only {', '.join(names)}: write it with vaectl encode")
        for batch in table.iter_batches(ROW_GROUP, columns=[name for name in ("name", "label", *z) if name in names]):
            rows: list[dict[str, Any]] = batch.to_pylist()
            for row in rows:
                values = row["z"] if "z" in names else [row[name] for name in z]
                yield Row(row.get("name"), row.get("label"), np.asarray(values, np.float32))
    except (arrow.ArrowException, OSError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VaectlError(f"{reader.name} is damaged, or no table of latents ({reason}): write it again") from error
