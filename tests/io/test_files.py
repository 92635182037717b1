import os
import stat
import threading
from io import BytesIO
from pathlib import Path

import pytest

from vaectl.base.errors import VaectlError
from vaectl.io import files
from vaectl.io.files import PeekableReader


def test_a_file_is_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), files.open_output(str(path)) as stream:
        stream.write(b"incomplete")
        stream.flush()
        assert path.read_bytes() == b"old"
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.png"]
    with files.open_output(str(path)) as stream:
        stream.write(b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out.png"]


def test_the_mode_and_symlink_of_the_target_are_kept(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o604)
    (tmp_path / "link").symlink_to("real")
    with files.open_output(str(tmp_path / "link"), durable=True) as stream:
        stream.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o604


def test_a_fifo_is_written_in_place(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.append(fifo.read_bytes()))
    thread.start()
    files.check_writable(str(fifo))
    with files.open_output(str(fifo)) as stream:
        stream.write(b"through")
    thread.join()
    assert received == [b"through"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_paths_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VaectlError, match="create it first"):
        files.check_writable(str(tmp_path / "none" / "out.png"))
    with pytest.raises(VaectlError, match="is a folder: give a file name"):
        files.check_writable(str(tmp_path))
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(VaectlError, match="is a file: give another folder"):
            files.check_folder_writable(str(path))
    files.check_folder_writable(str(tmp_path / "new" / "below"))
    assert not (tmp_path / "new").exists()


class Trickle(BytesIO):
    """A stream that returns one byte at a time, as a pipe may."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(1 if size else 0)


def test_peeking_consumes_nothing() -> None:
    reader = PeekableReader(Trickle(b"abcdefgh"), "x")
    assert reader.peek(3) == b"abc"
    assert reader.peek(5) == b"abcde"
    assert reader.read(2) == b"ab"
    assert reader.read(4) == b"cdef"
    assert reader.peek(9) == b"gh"
    assert reader.read(9) == b"gh"
    assert reader.read(9) == b""


def test_reading_allocates_no_more_than_arrives() -> None:
    assert PeekableReader(BytesIO(b"abc"), "x").read(1 << 60) == b"abc"


@pytest.mark.parametrize(
    ("head", "format"),
    [
        (b"\x89PNG\r\n\x1a\n....", "PNG"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"RIFF....WEBPVP8 ", "WEBP"),
        (b"RIFF....WAVEfmt ", "unknown"),
        (b"\x93NUMPY\x01\x00", "NPY"),
        (b"PK\x03\x04", "NPZ"),
        (b"", "empty"),
        (b"%PDF-1.4", "unknown"),
        (b"%!PS-Adobe", "unknown"),
    ],
)
def test_formats_are_recognized_by_their_first_bytes(head: bytes, format: str) -> None:
    assert files.sniff_format(PeekableReader(BytesIO(head), "x")) == format
