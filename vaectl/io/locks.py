"""Temporary files and locks that last no longer than their process: an unlocked one is stale, and any process may remove it."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from vaectl.base.errors import VaectlError

PREFIX = ".vaectl-"
MAX_NAME_BYTES = 200  # file systems allow 255


@contextmanager
def temporary_file(folder: str) -> Iterator[tuple[int, str]]:
    """Create a temporary file in `folder`; yields its descriptor and path. It is removed if the block fails.

    If the block succeeds, it must have renamed the file.
    """
    remove_stale_files(folder)
    descriptor, path = create_temporary(folder)
    try:
        yield descriptor, path
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(path)
        raise


def create_temporary(folder: str) -> tuple[int, str]:
    """Create and lock a temporary file; try again if another process removed it before it was locked."""
    while True:
        descriptor, path = tempfile.mkstemp(prefix=PREFIX, suffix=".part", dir=folder)
        try:
            if try_lock(descriptor, path):
                return descriptor, path
        except BlockingIOError:
            pass
        except OSError:  # without locks on this file system, nobody removes stale files either
            return descriptor, path
        os.close(descriptor)


@contextmanager
def exclusive_lock(path: str, what: str = "training run") -> Iterator[None]:
    """Hold the lock on `path`, which need not exist; errors call its holder `what`.

    Raises:
        VaectlError: another process holds it.
    """
    from filelock import FileLock, Timeout  # here, because it takes 0.2 s to import: temporary files use flock

    folder, name = os.path.split(os.path.realpath(path))
    remove_stale_files(folder)
    lock = FileLock(
        os.path.join(folder, f"{PREFIX}{os.fsdecode(os.fsencode(name)[:MAX_NAME_BYTES])}.lock"), timeout=0, mode=0o600
    )
    try:
        lock.acquire()
    except (Timeout, PermissionError) as error:  # locked, or created by another user
        raise VaectlError(f"{path!r} is in use by another {what}: wait for it, or write elsewhere") from error
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            os.unlink(lock.lock_file)  # while it is locked: whoever waits for it notices that it is gone
        lock.release()


def try_lock(descriptor: int, path: str) -> bool:
    """Lock an open file. False if it is no longer at `path`: another process may have removed it before it was locked.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: the file system has no locks.
    """
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


def is_temporary(name: str) -> bool:
    """Whether a file name is that of a temporary file or of a lock."""
    return name.startswith(PREFIX) and name.endswith((".part", ".lock"))


@cache
def remove_stale_files(folder: str) -> None:
    """Remove what killed processes left behind in `folder`; once per process."""
    paths: list[str] = []
    with suppress(OSError), os.scandir(folder) as entries:  # a folder may be writable but not readable
        paths = [entry.path for entry in entries if is_temporary(entry.name) and entry.is_file(follow_symlinks=False)]
    for path in paths:
        with suppress(OSError):  # locked, already removed, or owned by another user
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if try_lock(descriptor, path):
                    os.unlink(path)
            finally:
                os.close(descriptor)
