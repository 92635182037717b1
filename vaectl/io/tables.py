"""CSV tables, record by record, and the columns of those that hold latents."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import count, takewhile

from vaectl.base.errors import VaectlError
from vaectl.io.files import PeekableReader

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # Excel writes one
BLOCK_BYTES = 1 << 20
MAX_RECORD_BYTES = 1 << 22  # a latent of 200,000 dimensions is smaller


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
                raise VaectlError(f"{reader.name} line {number} has more than {MAX_RECORD_BYTES >> 20} MB: is it a CSV table?")
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
