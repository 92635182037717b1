"""The log of a training run: a folder with what TensorBoard reads and a CSV table, a line for each epoch."""

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from vaectl.base.arrays import Array
from vaectl.base.errors import VaectlError
from vaectl.base.extras import importing
from vaectl.images import sheets
from vaectl.io import files
from vaectl.io.tables import format_record
from vaectl.models.metric_labels import format_epoch, sort_metrics

TABLE = "epochs.csv"
EVENTS = "events.out.tfevents."  # how TensorBoard's files begin


def check_log(folder: str, *, replace: bool) -> None:
    """Check, before any work, that a run can be logged to `folder`, and with `replace` also over another log.

    Raises:
        VaectlError: TensorBoard is not installed, the folder cannot be written, or it holds a log.
    """
    with importing("tensorboard"):
        import torch.utils.tensorboard  # noqa: F401 - only to know that it is there
    files.check_folder_writable(folder)
    if holds_log(folder) and not replace:
        raise VaectlError(f"{folder!r} holds the log of a run: replace it with --force, or name another folder with --log")


def holds_log(folder: str) -> bool:
    """Whether a folder holds the log of a run."""
    with files.translate_errors(repr(folder)):
        return os.path.isdir(folder) and any(name == TABLE or name.startswith(EVENTS) for name in os.listdir(folder))


class TrainLog(AbstractContextManager["TrainLog"]):
    """Logs a run to a folder, after the `epochs` that an interrupted run has completed. Use it as a context manager.

    What the folder holds of later epochs, from another run or from before the interruption, is replaced.
    """

    def __init__(self, folder: str, epochs: Sequence[Mapping[str, float]]) -> None:
        """Raises a VaectlError if the folder cannot be written."""
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self.table = os.path.join(folder, TABLE)
        self.epochs = list(epochs)
        self.columns: list[str] = []
        is_new = not holds_log(folder)
        with files.translate_errors(repr(folder)):
            self.writer = SummaryWriter(folder, purge_step=len(epochs) + 1)
        if is_new:
            for number, metrics in enumerate(epochs, 1):
                self.add_scalars(number, metrics)

    def __exit__(self, *error: object) -> None:
        with files.translate_errors(repr(self.folder)):
            self.writer.close()

    def add_images(self, images: Array, columns: int) -> None:
        """Log images (N, H, W, C) of the epoch that is about to end, as a sheet."""
        with files.translate_errors(repr(self.folder)):
            sheet = sheets.make_sheet(images, columns)
            self.writer.add_image("held_out/images", sheet, len(self.epochs) + 1, dataformats="HWC")

    def add_epoch(self, metrics: Mapping[str, float]) -> None:
        """Log the metrics of the epoch that ends.

        Raises:
            VaectlError: the disk is full, or the folder cannot be written.
        """
        self.epochs.append(metrics)
        number = len(self.epochs)
        self.add_scalars(number, metrics)
        with files.translate_errors(repr(self.folder)):
            self.writer.flush()
        numbers, mode, header = [number], "ab", b""
        if not self.columns:
            self.columns = sort_metrics(name for epoch in self.epochs for name in epoch)
            numbers, mode, header = [*range(1, number + 1)], "wb", format_record("epoch", *self.columns)
        lines = [format_record(*format_epoch(number, self.epochs[number - 1], self.columns)) for number in numbers]
        with files.translate_errors(repr(self.table)), open(self.table, mode) as stream:
            stream.writelines([header, *lines])

    def add_scalars(self, number: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of one epoch for TensorBoard, which groups them by what stands before the slash."""
        with files.translate_errors(repr(self.folder)):
            for name, value in metrics.items():
                held_out = name.startswith("held_out_")
                tag = f"held_out/{name.removeprefix('held_out_')}" if held_out else f"train/{name}"
                self.writer.add_scalar(tag, value, number)
