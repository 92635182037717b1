"""Reuse of freed memory."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt in glibc
LARGEST = (1 << 31) - 1  # bytes


def reuse_large_blocks() -> None:
    """Keep large freed blocks of memory for reuse instead of returning them to the system.

    The system clears each block that it hands out, which takes more than a quarter of a training with 50 samples of z. Without
    glibc, this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, 1 << 30)  # still larger blocks are returned
    mallopt(M_TRIM_THRESHOLD, LARGEST)
