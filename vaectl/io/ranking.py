"""Sorting millions of lines without holding them in memory."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from vaectl.errors import VaectlError


class Ranking:
    """Lines with a score each, in a temporary file once they are many; SQLite deletes it with the connection."""

    def __init__(self) -> None:
        self.database = sqlite3.connect("")
        self.database.execute("CREATE TABLE lines (id INTEGER PRIMARY KEY, score REAL, line BLOB)")

    def add(self, score: float, line: bytes) -> None:
        """Add a line.

        Raises:
            VaectlError: the disk is full.
        """
        with translate_database_errors():
            self.database.execute("INSERT INTO lines (score, line) VALUES (?, ?)", (score, line))

    def descending(self) -> Iterator[bytes]:
        """Yield the lines from the highest score to the lowest; equal ones in the order they were added.

        Raises:
            VaectlError: the disk is full.
        """
        with translate_database_errors():
            for (line,) in self.database.execute("SELECT line FROM lines ORDER BY score DESC, id"):
                yield line


@contextmanager
def translate_database_errors() -> Iterator[None]:
    """Turn an error of SQLite into a VaectlError."""
    try:
        yield
    except sqlite3.Error as error:
        raise VaectlError(f"a temporary file: {str(error).lower()}", "free some space, or write elsewhere") from error
