"""The state of an unfinished training run, in a file beside its checkpoint, from which it resumes bit-identically."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaectl.base.errors import UsageError, VaectlError, warn
from vaectl.base.signals import INTERRUPTIONS, DeferredSignal, Terminated
from vaectl.io import files, locks, remote, tensor_files
from vaectl.io.tensor_files import check_type, integers
from vaectl.models.checkpoint import STATE_KEY
from vaectl.training.distributed import LostProcessError
from vaectl.training.loop import Trainer, TrainState
from vaectl.training.settings import SETTING_DEFAULTS

FORMAT = 1
DTYPES: Mapping[str, type[np.generic]] = {
    **dict.fromkeys(("weights", "exp_avg", "exp_avg_sq", "best_weights", "logged"), np.float32),
    **dict.fromkeys(("likelihood", "best_likelihood"), np.float64),
    **dict.fromkeys(("rng_state", "epoch_rng_state"), np.uint8),
}
SUFFIX = ".safetensors"
MAX_SECONDS = 60.0  # between two saves
MIN_SECONDS = 1.0  # however short the epochs are


@dataclass(frozen=True)
class SavedState:
    """A saved state: its run, the command that started it, and its versions."""

    run_config: Mapping[str, Any]
    command: str
    versions: Mapping[str, Any]
    state: TrainState


class StateSaver:
    """Saves the state of one training run to `path`; None saves nothing. `resumed` is what an interrupted run saved."""

    def __init__(self, path: str | None, command: str, resumed: SavedState | None) -> None:
        self.path = path
        self.command = command
        self.resumed = resumed
        self.run_config: Mapping[str, Any] = {}
        self.versions: Mapping[str, Any] = {}
        self.saved_at = 0.0
        self.saved_step: int | None = None
        self.steps = 0

    def resumed_value(self, name: str) -> Any:
        """The setting of the interrupted run, whose default may have been another one; None if nothing is resumed."""
        return self.resumed.run_config.get(name) if self.resumed else None

    def resumed_version(self, name: str) -> Any:
        """A version of the interrupted run, or a fact of its machine; None if nothing is resumed or it is unknown."""
        return self.resumed.versions.get(name) if self.resumed else None

    def start(self, run_config: Mapping[str, Any], versions: Mapping[str, Any]) -> TrainState | None:
        """The state from which this run resumes; None if it starts from scratch. A setting that it lacks had its default.

        Raises:
            VaectlError: the saved state is of another run.
        """
        self.run_config, self.versions = json.loads(json.dumps(run_config)), versions
        if not self.resumed:
            return None
        for name, now in self.run_config.items():
            before = self.resumed.run_config.get(name, SETTING_DEFAULTS.get(name))
            if before != now:
                raise VaectlError(f"{self.path!r} belongs to a run with {describe_change(name, before, now)}", self.advice(name))
        changed = ", ".join(name for name, before in self.resumed.versions.items() if versions.get(name) != before)
        if changed:
            warn(f"the run was started with another {changed}: the result will not be bit-identical")
        return self.resumed.state

    def advice(self, name: str) -> str:
        """What to do about a setting that differs."""
        if name == "data" and self.resumed and self.resumed.command == self.command:
            return "restore the data, or start over with --force"
        return f"resume with {self.resumed.command if self.resumed else self.command}, or start over with --force"

    def on_step(self, trainer: Trainer, interruption: DeferredSignal) -> None:
        """Save the state if it is due or a signal has arrived, in this process or another, then deliver the signal."""
        trainer.interrupted = bool(interruption)
        stops = trainer.stops if trainer.world.size > 1 else trainer.interrupted
        elapsed = monotonic() - self.saved_at
        due = stops or elapsed > MAX_SECONDS or (trainer.loader.ends_epoch and elapsed > MIN_SECONDS)
        if due and self.path:
            save(self.path, SavedState(self.run_config, self.command, self.versions, trainer.state_dict()))
            self.saved_at, self.saved_step, self.steps = monotonic(), trainer.loader.step, trainer.loader.steps
        if stops:
            interruption.deliver()
            raise Terminated  # the signal reached other processes only

    def remove(self) -> None:
        """Remove the saved state."""
        if self.path:
            with suppress(FileNotFoundError):
                os.unlink(self.path)


@contextmanager
def saving_state(output: str | None, command: str, *, resume: bool, force: bool) -> Iterator[StateSaver]:
    """A StateSaver for the run that writes the checkpoint `output`, which no other run may write meanwhile.

    `command` is what resumes it. If the block ends well, the state is removed.

    Raises:
        VaectlError: another run writes this checkpoint; the checkpoint or the state of an interrupted run exists, and neither
            `resume` nor `force` is given; or there is nothing to resume.
    """
    if output is None or not files.is_regular_target(output):
        if output is not None and remote.is_url(output) and not force and remote.exists(output):
            raise VaectlError(f"{output!r} already exists: replace it with --force, or name another file with -o")
        if output is not None and remote.is_url(output):
            if resume:
                raise UsageError(
                    f"a run with a URL as output keeps no state to resume from: {output!r} start it again without --resume"
                )
            warn(f"{output!r} is a URL, so no state is saved: this run cannot be resumed")
        if resume:
            what = "without an output, no state is saved" if output is None else f"{output!r} is not a file"
            raise UsageError(f"{what}: to resume, name the checkpoint of the interrupted run")
        yield StateSaver(None, command, None)
        return
    path = state_path(output)
    with locks.exclusive_lock(output), locks.exclusive_lock(path):  # `run3` and `run3.safetensors` share one state
        if os.path.exists(output) and not force and not resume:
            raise VaectlError(f"{output!r} already exists: replace it with --force, or name another file with -o")
        if os.path.exists(path) and not force and not resume:
            raise VaectlError(f"{path!r} is an interrupted run: continue it with --resume, or start over with --force")
        if resume and os.path.exists(output) and not os.path.exists(path):
            raise VaectlError(f"{output!r} is complete, there is nothing to resume: start over with --force, or use another -o")
        saver = StateSaver(path, command, load(path) if resume else None)
        try:
            yield saver
        except INTERRUPTIONS:
            if saver.saved_step is not None:
                warn(f"stopped after {saver.saved_step} of {saver.steps} steps: resume with {command}")
            raise
        except LostProcessError as error:
            raise VaectlError(error.what, f"resume with {command}" if saver.saved_step else "") from error
        except BaseException:
            if saver.saved_step == 0:  # nothing was learned that could be lost
                saver.remove()
            raise
        saver.remove()


def describe_change(name: str, before: Any, now: Any) -> str:
    """What a setting was, and what it is now."""
    if name == "data":
        return "other data"
    return f"another {name}" if isinstance(now, dict) else f"{name} {before}, not {now}"


def state_path(output: str) -> str:
    """The file of the state: `run3.resume.safetensors` beside `run3.safetensors`."""
    return f"{output.removesuffix(SUFFIX)}.resume{SUFFIX}"


def save(path: str, saved: SavedState) -> None:
    """Write a state, atomically.

    Raises:
        VaectlError: the file cannot be written.
    """
    state = saved.state
    values = {
        "format": FORMAT,
        "run_config": saved.run_config,
        "command": saved.command,
        "versions": saved.versions,
        "step": state.step,
        "epochs": state.epochs,
        "sizes": {name: tensor.shape for name, tensor in state.tensors.items()},
    }
    tensor_files.write(path, state.tensors, STATE_KEY, {**values, "sha256": hash_state(values, state.tensors)})


def load(path: str) -> SavedState:
    """Read a state.

    Raises:
        VaectlError: it is missing or damaged.
    """
    if not os.path.exists(path):
        raise VaectlError(f"there is no {path!r}, so no interrupted run to resume: leave out --resume")
    try:
        values, tensors = tensor_files.read(path, STATE_KEY, FORMAT, dict, expected_tensors)
        if values.pop("sha256") != hash_state(values, tensors):
            raise ValueError("its bytes have changed")
        return parse(values, tensors)
    except tensor_files.CORRUPTION_ERRORS as error:
        raise VaectlError(f"{path!r} is damaged: {error}: start over with --force") from error


def hash_state(values: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> str:
    """A SHA-256 over a whole state: a bit that flips on the disk would change the weights without anyone noticing."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def expected_tensors(values: dict[str, Any]) -> tensor_files.Expected:
    """The tensors of a state, in the sizes that its JSON gives."""
    sizes = check_type(values["sizes"], dict)
    return {name: (tuple(integers(sizes[name])), dtype) for name, dtype in DTYPES.items()}


def parse(values: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> SavedState:
    """What `save` wrote."""
    return SavedState(
        run_config=check_type(values["run_config"], dict),
        command=check_type(values["command"], str),
        versions=check_type(values["versions"], dict),
        state=TrainState(
            step=integers([values["step"]])[0],
            epochs=[check_type(epoch, dict) for epoch in check_type(values["epochs"], list)],
            tensors=tensors,
        ),
    )
