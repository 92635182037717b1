"""Lines put in order without being held in memory: a million pictures have as many."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from vaectl.errors import VaectlError


class Ranking:
    """Lines with a number each, on disk once they are many; they go with the process."""

    def __init__(self) -> None:
        self.lines = sqlite3.connect("")  # a file without a name
        self.lines.execute("CREATE TABLE lines (place INTEGER PRIMARY KEY, number REAL, line BLOB)")

    def add(self, number: float, line: bytes) -> None:
        """Put one line in.

        Raises:
            VaectlError: the disk is full.
        """
        with told():
            self.lines.execute("INSERT INTO lines (number, line) VALUES (?, ?)", (number, line))

    def largest_first(self) -> Iterator[bytes]:
        """The lines, those with the largest numbers first; equal ones as they came.

        Raises:
            VaectlError: the disk is full.
        """
        with told():
            for (line,) in self.lines.execute("SELECT line FROM lines ORDER BY number DESC, place"):
                yield line


@contextmanager
def told() -> Iterator[None]:
    """Turns the database's errors on its file into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise VaectlError(f"a temporary file: {str(error).lower()}", "make room or write elsewhere") from error
