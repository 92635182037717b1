"""CSV tables, record by record, and the columns of those that hold latents."""

import csv
from collections.abc import Iterator, Sequence
from io import StringIO

from vaectl.errors import VaectlError
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


def leading_columns(header: Sequence[str]) -> list[str] | None:
    """The leading columns of the header of a table of latents; None if the record is no such header."""
    found = [column for column in header if column in ("name", "label")]
    return found if header == latent_columns(found, len(header) - len(found)) else None


def format_record(*values: str) -> bytes:
    """One line of a CSV table; undecodable bytes of names are written as they were read."""
    text = StringIO()
    csv.writer(text).writerow(values)  # with its own line ending, or it would not quote a \r
    return text.getvalue().removesuffix("\r\n").encode("utf-8", "surrogateescape") + b"\n"
