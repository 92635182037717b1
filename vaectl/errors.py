"""What can go wrong in a way the user can mend, and what is worth a remark."""


class VaectlError(Exception):
    """The work failed: the message says what is wrong, then what to do; `cli.main` renders it as one line.

    `what` is the first half, where both were given.
    """

    exit_code = 1

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(f"{what}: {advice}" if advice else what)
        self.what = what


class UsageError(VaectlError):
    """The command was called wrongly."""

    exit_code = 2


class Remark(UserWarning):
    """Something the user should know although the work goes on."""
