"""Files that live as long as the process that holds them: temporary ones, and locks. One that nobody holds may go."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from vaectl.errors import VaectlError

PREFIX = ".vaectl-"
LONGEST_NAME = 200  # bytes; file systems take 255


@contextmanager
def temporary(folder: str) -> Iterator[tuple[int, str]]:
    """The descriptor and the path of a new file in `folder`, which is gone after the block unless it was renamed."""
    sweep(folder)
    descriptor, path = new_file(folder)
    try:
        yield descriptor, path
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(path)
        raise


def new_file(folder: str) -> tuple[int, str]:
    """A new file that is held; where somebody swept between its birth and the lock, it is lost, and another is made."""
    while True:
        descriptor, path = tempfile.mkstemp(prefix=PREFIX, suffix=".part", dir=folder)
        try:
            if held(descriptor, path):
                return descriptor, path
        except BlockingIOError:
            pass
        except OSError:  # a file system without locks: then nobody sweeps either
            return descriptor, path
        os.close(descriptor)


@contextmanager
def alone(path: str, what: str = "training") -> Iterator[None]:
    """Hold the lock on `path`, which need not be there, for the length of the block; `what` is what another holder does.

    Raises:
        VaectlError: another process holds it.
    """
    folder, name = os.path.split(os.path.realpath(path))
    lock = os.path.join(folder, f"{PREFIX}{os.fsdecode(os.fsencode(name)[:LONGEST_NAME])}.lock")
    sweep(folder)
    try:
        descriptor = lock_file(lock)
    except (BlockingIOError, PermissionError) as error:  # held by a process, or the file of another user's one
        raise VaectlError(f"{path!r}: another {what} writes it: wait for it, or choose another place") from error
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            os.unlink(lock)
        os.close(descriptor)


def lock_file(path: str) -> int:
    """The descriptor of a file that is held; OSError where somebody else holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if held(descriptor, path):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError:  # a file system without locks
            return descriptor
        os.close(descriptor)


def held(descriptor: int, path: str) -> bool:
    """Lock the file, and say whether it still stands at `path`: between its opening and its lock it may have been swept.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file system has no locks.
    """
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


def is_ours(name: str) -> bool:
    """Whether a file has the name of a temporary one or of a lock."""
    return name.startswith(PREFIX) and name.endswith((".part", ".lock"))


@cache
def sweep(folder: str) -> None:
    """Remove what killed processes left in `folder`; once a process."""
    left: list[str] = []
    with suppress(OSError), os.scandir(folder) as entries:  # a folder may be open to writers and closed to readers
        left = [entry.path for entry in entries if is_ours(entry.name) and entry.is_file(follow_symlinks=False)]
    for path in left:
        with suppress(OSError):  # somebody holds it, somebody else swept it, or it is another user's
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if held(descriptor, path):
                    os.unlink(path)
            finally:
                os.close(descriptor)
