"""Text from files, made safe for messages: it cannot control the terminal and has a limited length."""

from collections.abc import Sequence

N_NAMED = 3  # names that a message lists
MAX_MESSAGE = 4000  # characters, about as many as the longest path has


def escape(text: str) -> str:
    """The text with control characters, undecodable bytes and other unprintable characters escaped, as by `repr`."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def shorten(text: str) -> str:
    """The text, with its middle cut out if it is too long for a message."""
    half = MAX_MESSAGE // 2
    return text if len(text) <= MAX_MESSAGE else f"{text[:half]} ... {text[-half:]}"


def list_names(names: Sequence[str], limit: int = N_NAMED) -> str:
    """The first few names, quoted, and the number of others."""
    more = len(names) - limit
    return ", ".join(map(repr, names[:limit])) + (f" and {more:,} more" if more > 0 else "")
