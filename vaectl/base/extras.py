"""Optional dependencies: the extras of pyproject.toml."""

from collections.abc import Iterator
from contextlib import contextmanager

from vaectl.base.errors import VaectlError


@contextmanager
def importing(extra: str) -> Iterator[None]:
    """For a block that imports what `extra` installs.

    Raises:
        VaectlError: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise VaectlError(f"{error.name} is not installed: pip install 'vaectl[{extra}]'") from error
