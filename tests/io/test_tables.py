import csv
import os
from io import BytesIO, StringIO

import pytest

from vaectl.base.errors import VaectlError
from vaectl.io import tables
from vaectl.io.files import PeekableReader


def read(data: bytes) -> list[tuple[int, list[str]]]:
    return list(tables.read_records(PeekableReader(BytesIO(data), "'z.csv'")))


def test_records_are_numbered_by_the_lines_where_they_begin() -> None:
    assert read(b'a,b\n\n"c\nd",\r\ne') == [(1, ["a", "b"]), (3, ["c\nd", ""]), (5, ["e"])]
    assert read(b"") == read(b"\n\n") == []


def test_records_are_read_as_they_were_written() -> None:
    names = ["plain", "a, b", 'quoted "', "line\nbreak", "return\rhere", "\u2028\x85\x0b\0", os.fsdecode(b"\xff\xfe.png"), ""]
    data = b"".join(tables.format_record(name, "1.0") for name in names)
    assert [fields for _, fields in read(data)] == [[name, "1.0"] for name in names]
    assert list(csv.reader(StringIO(data.decode("utf-8", "surrogateescape"), newline=""))) == [[name, "1.0"] for name in names]


def test_a_record_may_cross_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BLOCK_BYTES", 3)
    assert read('é,"f\nü"\ng,h\n'.encode()) == [(1, ["é", "f\nü"]), (3, ["g", "h"])]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'a\n"b"c\n', "line 2 is not CSV"),
        (b'a\n\n"b,\nc\n', r"line 3 is not CSV \(unexpected end of data\): write it again"),
        (b"a\rb\r", r"line 1 is not CSV \(new-line character seen in unquoted field\)"),
    ],
)
def test_what_is_not_csv_is_located(data: bytes, message: str) -> None:
    with pytest.raises(VaectlError, match=f"^'z.csv' {message}"):
        read(data)
