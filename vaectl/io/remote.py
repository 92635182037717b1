"""Files at URLs (s3://, gs://, https://, hf:// and what else fsspec knows), read as streams and written whole."""

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from time import sleep
from typing import Any, BinaryIO, TypeVar, cast

from vaectl.base.errors import VaectlError

T = TypeVar("T")

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.+")
N_THREADS = 16  # files that are opened at once, for servers take a while to answer
CREDENTIALS = "give credentials as the provider's own tools take them, for S3 in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
READ_ONLY = ("http", "https")
WITH_BUCKETS = ("s3", "s3a", "gs", "gcs", "az", "abfs")
WAITS = (1.0, 4.0)  # seconds before a lost connection is tried again
# Their exceptions have no common class.
LIBRARIES = ("aiohttp", "botocore", "aiobotocore", "s3fs", "gcsfs", "huggingface_hub", "httpx", "requests", "fsspec")
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, ImportError, ValueError)


def is_url(path: str) -> bool:
    """Whether a path is a URL."""
    return URL.fullmatch(path) is not None


@contextmanager
def translate_errors(url: str) -> Iterator[None]:
    """Turn errors of fsspec and its libraries into a VaectlError of one line."""
    try:
        yield
    except ImportError as error:
        missing = re.search(r"[Ii]nstall (\w+)", str(error))  # s3fs comes with the extra, others do not
        package = missing[1] if missing and missing[1] != "s3fs" else "'vaectl[remote]'"
        raise VaectlError(f"{url!r}: {first_line(error)}", f"pip install {package}") from error
    except FileNotFoundError as error:
        if lost := lost_connection(error):
            raise VaectlError(f"{url!r}: {first_line(lost)}", "check the connection") from error
        raise VaectlError(f"{url!r}: no such file or folder", "check the URL") from error
    except PermissionError as error:
        raise VaectlError(f"{url!r}: no permission", CREDENTIALS) from error
    except Exception as error:
        if not is_foreseen(error):
            raise
        about_credentials = "redential" in str(error)
        advice = (
            CREDENTIALS if about_credentials else "check the URL" if isinstance(error, ValueError) else "check the connection"
        )
        raise VaectlError(f"{url!r}: {first_line(error)}", advice) from error


def lost_connection(error: Exception) -> Exception | None:
    """The error of a connection that fsspec takes for a missing file; None if a server said that the file is missing."""
    cause = error.__cause__
    if isinstance(cause, Exception) and type(cause).__module__.startswith("aiohttp") and not hasattr(cause, "status"):
        return cause
    return None


def is_final(error: Exception) -> bool:
    """Whether trying again would not help."""
    return not is_foreseen(error) or (isinstance(error, FINAL) and not lost_connection(error))


def is_foreseen(error: Exception) -> bool:
    """Whether an error comes from the connection, and not from a mistake in the program."""
    return isinstance(error, OSError | ValueError | TimeoutError) or type(error).__module__.partition(".")[0] in LIBRARIES


def first_line(error: Exception) -> str:
    """What an error says, on one line."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def retry(action: Callable[[], T]) -> T:
    """What an action returns, tried again where a connection is lost: fsspec does so for S3 and its like, not for HTTP."""
    for wait in WAITS:
        try:
            return action()
        except Exception as error:
            if is_final(error):
                raise
            sleep(wait)
    return action()


def find_filesystem(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises:
        VaectlError: what it needs is not installed, or there is no such protocol.
    """
    with translate_errors(url):
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem, path


class RemoteStream(RawIOBase):
    """A file at a URL, opened anew where the connection is lost."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.filesystem, self.path = find_filesystem(url)
        with translate_errors(url):
            self.file = retry(self.reopen)
        self.position = 0

    def reopen(self) -> Any:
        """Open the file."""
        return self.filesystem.open(self.path, "rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self.file.seekable())

    def seek(self, offset: int, whence: int = 0) -> int:
        with translate_errors(self.url):
            self.position = self.file.seek(offset, whence)
        return self.position

    def tell(self) -> int:
        return self.position

    def read(self, size: int = -1) -> bytes:
        """The next bytes, and none only at the end."""

        def attempt() -> bytes:
            try:
                return cast(bytes, self.file.read(size))
            except Exception as error:
                if is_final(error):
                    raise
                self.file = self.reopen()
                if self.position:
                    self.file.seek(self.position)
                raise

        with translate_errors(self.url):
            data = retry(attempt)
        self.position += len(data)
        return data

    def close(self) -> None:
        self.file.close()
        super().close()


@contextmanager
def open_reading(url: str) -> Iterator[BinaryIO]:
    """Open the file at a URL for reading.

    Raises:
        VaectlError: it is missing, or cannot be reached.
    """
    stream = RemoteStream(url)
    try:
        yield cast(BinaryIO, stream)
    finally:
        stream.close()


def check_writable(url: str) -> None:
    """Check, before any work, that a URL can be written.

    Raises:
        VaectlError: what it needs is not installed, there is no such bucket, or only reading is possible.
    """
    protocol = url.partition(":")[0].lower()
    if protocol in READ_ONLY:
        raise VaectlError(f"{url!r} cannot be written", f"{protocol} is read-only: give a file, or a URL such as s3://")
    filesystem, path = find_filesystem(url)
    bucket = path.partition("/")[0]
    if protocol in WITH_BUCKETS:
        with translate_errors(url), suppress(PermissionError):  # to list it is not to write there
            if not filesystem.exists(bucket):
                raise VaectlError(f"{url!r}: bucket {bucket!r} does not exist", "check the URL")


@contextmanager
def open_writing(url: str) -> Iterator[BinaryIO]:
    """Open a temporary file; when the block succeeds, it is uploaded whole.

    Raises:
        VaectlError: it cannot be uploaded.
    """
    filesystem, path = find_filesystem(url)
    with tempfile.NamedTemporaryFile() as temporary:
        yield cast(BinaryIO, temporary)
        temporary.flush()
        with translate_errors(url):
            filesystem.put_file(temporary.name, path)


def list_files(url: str) -> list[str]:
    """The files below a URL by their path within it, sorted.

    Raises:
        VaectlError: there are none, or it cannot be reached.
    """
    filesystem, path = find_filesystem(url)
    with translate_errors(url):
        filesystem.invalidate_cache()
        found: list[str] = filesystem.find(path)
        if not found:
            raise FileNotFoundError
    start = len(path.rstrip("/")) + 1
    return sorted(name[start:] for name in found)


def exists(url: str) -> bool:
    """Whether there is a file at a URL."""
    filesystem, path = find_filesystem(url)
    with translate_errors(url):
        return bool(filesystem.exists(path))
