"""Errors the user can fix, and warnings worth a line on stderr."""

import inspect
import warnings


class VaectlError(Exception):
    """The work failed. The message says what is wrong, then what to do; `cli.main` prints it as one line."""

    exit_code = 1

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(f"{what}: {advice}" if advice else what)
        self.what, self.advice = what, advice


class UsageError(VaectlError):
    """The call itself is wrong: an unknown option, or options that contradict each other."""

    exit_code = 2


class VaectlWarning(UserWarning):
    """Something the user should know although the work continues."""


class DataLossWarning(VaectlWarning):
    """Something in the input is lost although the work continues: in the shell, the exit code will be 1."""


def warn(message: str, category: type[VaectlWarning] = VaectlWarning) -> None:
    """Issue a warning at the line that called vaectl; the shell prints it as one line on stderr."""
    level, frame = 1, inspect.currentframe()
    while frame and frame.f_globals.get("__name__", "").startswith("vaectl."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
