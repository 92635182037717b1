"""What can go wrong in a way the user can mend, and what is worth a remark."""


class VaectlError(Exception):
    """The work failed: the message says what is wrong, then what to do; `cli.main` renders it as one line."""

    exit_code = 1


class UsageError(VaectlError):
    """The command was called wrongly."""

    exit_code = 2


class Remark(UserWarning):
    """Something the user should know although the work goes on."""
