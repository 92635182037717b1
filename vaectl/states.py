"""How far a training has come, kept in a file beside its checkpoint, from which it can go on to the same bits."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vaectl.errors import Remark, UsageError, VaectlError
from vaectl.io import files, locks, tensors
from vaectl.io.tensors import typed, whole_numbers
from vaectl.signals import STOPPED, Deferred

KEY = "vaectl-training"
FORMAT = 1
KINDS: Mapping[str, type[np.generic]] = {
    **dict.fromkeys(("weights", "first", "second", "seen"), np.float32),
    "likelihood": np.float64,
    **dict.fromkeys(("random", "random_of_epoch"), np.uint8),
}
SUFFIX = ".safetensors"
SELDOMEST = 60.0  # seconds between two states
OFTENEST = 1.0  # however short the epochs are


@dataclass(frozen=True)
class State:
    """Where a training stands after `step` steps: all on which the next ones depend.

    `epochs` are the mean losses so far. The tensors are the weights and Adam's two memories of them, what the likelihood has
    learned, the losses seen in this epoch, and the random numbers' state now and at the beginning of this epoch.
    """

    step: int
    epochs: Sequence[dict[str, float]]
    tensors: Mapping[str, NDArray[Any]]


class Standing(Protocol):
    """A training between two steps."""

    @property
    def step(self) -> int: ...

    @property
    def steps(self) -> int: ...

    @property
    def ends_epoch(self) -> bool: ...

    def state(self) -> State:
        """All on which its next steps depend."""


@dataclass(frozen=True)
class Kept:
    """A state in a file: of what training, called how, with what program."""

    training: Mapping[str, Any]
    command: str
    versions: Mapping[str, Any]
    state: State


class Keeper:
    """Keeps the state of one training in the file `path`; None where there is no file beside the checkpoint."""

    def __init__(self, path: str | None, command: str, found: Kept | None) -> None:
        self.path = path
        self.command = command
        self.found = found
        self.training: Mapping[str, Any] = {}
        self.versions: Mapping[str, Any] = {}
        self.saved_at = 0.0
        self.saved_step: int | None = None
        self.steps = 0

    def start(self, training: Mapping[str, Any], versions: Mapping[str, Any]) -> State | None:
        """The state from which to go on with this training, of these settings; None where it begins anew.

        Raises:
            VaectlError: the state found is of another training.
        """
        self.training, self.versions = json.loads(json.dumps(training)), versions
        if not self.found:
            return None
        for name, now in self.training.items():
            before = self.found.training.get(name)
            if before != now:
                raise VaectlError(f"{self.path!r} is of a training with {difference(name, before, now)}", self.advice(name))
        changed = ", ".join(name for name, before in self.found.versions.items() if versions.get(name) != before)
        if changed:
            warnings.warn(f"the training began with another {changed}: its bits will differ", Remark, stacklevel=2)
        return self.found.state

    def advice(self, name: str) -> str:
        """What to do about a setting that differs."""
        if name == "data" and self.found and self.found.command == self.command:
            return "put the data back as they were, or start anew with --force"
        return f"go on with {self.found.command if self.found else self.command}, or start anew with --force"

    def keep(self, waiting: Deferred) -> Callable[[Standing], None]:
        """What saves the state when it is time, or when a signal is `waiting`, which is then let through."""

        def keep(standing: Standing) -> None:
            passed = monotonic() - self.saved_at
            due = waiting or passed > SELDOMEST or (standing.ends_epoch and passed > OFTENEST)
            if due and self.path:
                save(self.path, Kept(self.training, self.command, self.versions, standing.state()))
                self.saved_at, self.saved_step, self.steps = monotonic(), standing.step, standing.steps
            waiting.let_through()

        return keep

    def drop(self) -> None:
        """Remove the state."""
        if self.path:
            with suppress(FileNotFoundError):
                os.unlink(self.path)


@contextmanager
def keeping(checkpoint: str, command: str, *, resume: bool, force: bool) -> Iterator[Keeper]:
    """What keeps the state of the training whose result will be `checkpoint`; nobody else may train to it meanwhile.

    `command` is what goes on with it. When the block ends well, the state goes.

    Raises:
        VaectlError: another training to this checkpoint is running, the checkpoint or a state of an interrupted training is
            there and neither `resume` nor `force` is given, or there is nothing that `resume` could go on with.
    """
    if not files.is_replaced(checkpoint):
        if resume:
            raise UsageError(f"{checkpoint!r} is no file: --resume goes on with a training that writes one")
        yield Keeper(None, command, None)
        return
    path = path_for(checkpoint)
    with locks.alone(checkpoint), locks.alone(path):  # `run3` and `run3.safetensors` have one state
        if os.path.exists(checkpoint) and not force and not resume:
            raise VaectlError(f"{checkpoint!r} is there already: replace it with --force, or name another file with -o")
        if os.path.exists(path) and not force and not resume:
            raise VaectlError(f"{path!r} holds an interrupted training: go on with --resume, or start anew with --force")
        keeper = Keeper(path, command, load(path) if resume else None)
        try:
            yield keeper
        except STOPPED:
            if keeper.saved_step is not None:
                warnings.warn(
                    f"stopped after {keeper.saved_step} of {keeper.steps} steps: go on with {command}", Remark, stacklevel=2
                )
            raise
        except BaseException:
            if keeper.saved_step == 0:  # nothing was learned that could be lost
                keeper.drop()
            raise
        keeper.drop()


def difference(name: str, before: Any, now: Any) -> str:
    """What a setting was, and what it is."""
    if name == "data":
        return "other data"
    return f"another {name}" if isinstance(now, dict) else f"{name} {before}, not {now}"


def path_for(checkpoint: str) -> str:
    """The file of the state: `run3.resume.safetensors` beside `run3.safetensors`."""
    return f"{checkpoint.removesuffix(SUFFIX)}.resume{SUFFIX}"


def save(path: str, kept: Kept) -> None:
    """Write a state to `path`, whole or not at all.

    Raises:
        VaectlError: the file cannot be written.
    """
    state = kept.state
    values = {
        "format": FORMAT,
        "training": kept.training,
        "command": kept.command,
        "versions": kept.versions,
        "step": state.step,
        "epochs": state.epochs,
        "sizes": {name: tensor.shape for name, tensor in state.tensors.items()},
    }
    tensors.write(path, state.tensors, KEY, {**values, "sha256": sha256(values, state.tensors)})


def load(path: str) -> Kept:
    """Read a state.

    Raises:
        VaectlError: it is missing or damaged.
    """
    if not os.path.exists(path):
        raise VaectlError(f"there is no {path!r}, no interrupted training to go on with: leave out --resume")
    try:
        (kept, values), found = tensors.read(path, KEY, lambda values: (parsed(values), values), lambda read: due(read[0]))
        if values.pop("sha256") != sha256(values, found):
            raise ValueError("its bytes have changed")
    except tensors.DAMAGE as error:
        raise VaectlError(f"{path!r} is damaged: {error}: start anew with --force") from error
    return replace(kept, state=replace(kept.state, tensors=found))


def sha256(values: Mapping[str, Any], found: Mapping[str, NDArray[Any]]) -> str:
    """A hash over a whole state: a bit that flipped on the disk would else lead to other weights, and nobody would know."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for name in sorted(found):
        digest.update(np.ascontiguousarray(found[name]).data)
    return digest.hexdigest()


def parsed(values: Mapping[str, Any]) -> Kept:
    """What `save` wrote, with the sizes of the tensors in place of them; ValueError, KeyError or TypeError for anything else.

    Raises:
        VaectlError: a newer format.
    """
    if values["format"] > FORMAT:
        raise VaectlError(f"a state of format {values['format']}, newer than this program's {FORMAT}: upgrade vaectl")
    return Kept(
        training=typed(values["training"], dict),
        command=typed(values["command"], str),
        versions=typed(values["versions"], dict),
        state=State(
            step=whole_numbers([values["step"]])[0],
            epochs=[typed(epoch, dict) for epoch in typed(values["epochs"], list)],
            tensors=typed(values["sizes"], dict),
        ),
    )


def due(kept: Kept) -> tensors.Due:
    """The tensors of a state, of the sizes that stand in it."""
    sizes = kept.state.tensors
    return {name: (tuple(whole_numbers(sizes[name])), kind) for name, kind in KINDS.items()}
