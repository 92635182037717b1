"""Text that comes from files, as messages show it."""


def escape(text: str) -> str:
    """The text with control characters, undecodable bytes and other letters that are not printed escaped, as `repr` does."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
