"""Latents in CSV and Parquet tables: a name, a label if known, and z, in columns z0, z1 and so on or as a list."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import count, takewhile
from math import nan
from typing import Any, BinaryIO

import numpy as np

from vaectl.base.arrays import MAX_FLOAT32, Array, to_finite
from vaectl.base.errors import VaectlError
from vaectl.base.extras import importing
from vaectl.io.files import PeekableReader
from vaectl.io.records import Batch, Sample

FORMATS = ("CSV", "PARQUET")

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # Excel writes one
BLOCK_BYTES = 1 << 20
MAX_RECORD_BYTES = 1 << 22  # a latent of 200,000 dimensions is smaller
MAX_QUOTED = 50  # characters of a field
ROW_GROUP = 16_384

CheckDim = Callable[[int, str], None]  # of latents: a dimension, and where they are


def read_rows(reader: PeekableReader, format: str, names: Iterator[str], check_dim: CheckDim) -> Iterator[Sample]:
    """The latents of a table with their names, else the next of `names`, and their labels, after their dimension was checked."""
    return {"CSV": read_csv, "PARQUET": read_parquet}[format](reader, names, check_dim)


def read_csv(reader: PeekableReader, names: Iterator[str], check_dim: CheckDim) -> Iterator[Sample]:
    """The latents of a CSV table, as `read_rows`. Another header begins another table, as in what `cat` makes of two."""
    columns: Columns | None = None
    for line, fields in read_records(reader):
        where = f"{reader.name} line {line}"
        if found := find_columns(fields):
            columns = found
            check_dim(len(columns.z), f"{where} has latents of shape (N, {len(columns.z)})")
        elif not columns:
            raise VaectlError(f"{where}: the header name, label (if known), z0, z1, ... is expected: see vaectl encode")
        elif len(fields) != columns.width:
            raise VaectlError(f"{where} has {len(fields)} fields, its header has {columns.width}: correct it")
        else:
            name, label = ("" if index is None else fields[index] for index in (columns.name, columns.label))
            z = parse_latent([fields[index] for index in columns.z], where)
            yield Sample(name or next(names), z, label or None)


def parse_latent(fields: Sequence[str], where: str) -> Array:
    """The latent (D,) in the fields of a table; `where` it is, for errors.

    Raises:
        VaectlError: a field is not a number, NaN, infinite, or outside the range of float32.
    """
    values = []
    for dim, text in enumerate(fields):
        try:
            value = float(text)
        except ValueError:
            value = nan
        if not abs(value) <= MAX_FLOAT32:  # nor is NaN
            raise VaectlError(f"{where}: z{dim} is {text[:MAX_QUOTED]!r}, not a finite float32 number: correct it")
        values.append(value)
    return np.array(values, np.float32)


def read_records(reader: PeekableReader) -> Iterator[tuple[int, list[str]]]:
    """The fields of each record, and the number of the line where it begins; empty lines are left out.

    Undecodable bytes are kept as in names of files. No more than a block and a record are in memory.

    Raises:
        VaectlError: a record that is not CSV, or has no end.
    """
    number, size = 1, 0  # of the record that is being read: its first line, and its bytes so far

    def read_lines() -> Iterator[str]:
        nonlocal size
        if reader.peek(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK:
            reader.read(len(BYTE_ORDER_MARK))
        rest = b""
        while block := reader.read(BLOCK_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                size += len(line)
                yield line.decode("utf-8", "surrogateescape") + "\n"
            if size + len(rest) > MAX_RECORD_BYTES:
                raise VaectlError(f"{reader.name} line {number} is longer than {MAX_RECORD_BYTES >> 20} MB: is this a CSV table?")
        yield rest.decode("utf-8", "surrogateescape")

    records = csv.reader(read_lines(), strict=True)
    while True:
        number, size = records.line_num + 1, 0
        try:
            fields = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            reason, _, _ = str(error).partition(" - ")
            raise VaectlError(f"{reader.name} line {number} is not CSV ({reason}): write it again") from error
        if fields:
            yield number, fields


def latent_columns(leading: Sequence[str], latent_dim: int) -> list[str]:
    """The header of a table of latents, whose leading columns are some of name and label."""
    return [*leading, *(f"z{dim}" for dim in range(latent_dim))]


@dataclass(frozen=True)
class Columns:
    """Where the fields of a table of latents are: of `width` columns, those of z, and those of the name and the label, if any."""

    width: int
    z: Sequence[int]
    name: int | None
    label: int | None


def find_columns(record: Sequence[str]) -> Columns | None:
    """The columns that a header names, z0, z1 and so on; None if the record is no header of latents, but has numbers.

    Other columns are passed over, such as the index that pandas writes.
    """
    positions = {column: index for index, column in enumerate(record)}
    z = [positions[f"z{dim}"] for dim in takewhile(lambda dim: f"z{dim}" in positions, count())]
    if not z or any(map(is_number, record)):
        return None
    return Columns(len(record), z, positions.get("name"), positions.get("label"))


def is_number(field: str) -> bool:
    """Whether a field is a number."""
    try:
        float(field)
    except ValueError:
        return False
    return True


def format_record(*values: str) -> bytes:
    """One line of a CSV table; undecodable bytes of names are written as they were read."""
    text = StringIO()
    csv.writer(text).writerow(values)  # with its own line ending, or it would not quote a \r
    return text.getvalue().removesuffix("\r\n").encode("utf-8", "surrogateescape") + b"\n"


def read_parquet(reader: PeekableReader, names: Iterator[str], check_dim: CheckDim) -> Iterator[Sample]:
    """The latents in a Parquet table, as `read_rows`.

    Raises:
        VaectlError: it is damaged, has no such columns of numbers, or pyarrow is not installed.
    """
    with importing("parquet"):
        import pyarrow as arrow
        from pyarrow import parquet
    try:
        table = parquet.ParquetFile(reader.seekable())
        columns = table.schema_arrow.names
        z = ["z"] if "z" in columns else [*takewhile(columns.__contains__, (f"z{dim}" for dim in count()))]
        if not z:
            raise VaectlError(f"{reader.name} has no column z, only {', '.join(columns)}: write it with vaectl encode")
        for batch in table.iter_batches(ROW_GROUP, columns=[name for name in ("name", "label", *z) if name in columns]):
            rows: list[dict[str, Any]] = batch.to_pylist()
            for row in rows:
                values = row["z"] if "z" in columns else [row[name] for name in z]
                latent = np.asarray(values, np.float32)
                check_dim(latent.size if latent.ndim == 1 else 0, f"{reader.name} has latents of shape (N, {latent.size})")
                yield Sample(row.get("name") or next(names), to_finite(latent[np.newaxis], reader.name)[0], row.get("label"))
    except (arrow.ArrowException, OSError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VaectlError(f"{reader.name} is damaged, or no table of latents ({reason}): write it again") from error


def write_parquet(batches: Iterable[Batch], stream: BinaryIO) -> None:
    """Write batches of latents (N, D) as a Parquet table, which holds text: undecodable bytes of names become question marks.

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
