"""Runs that are started, killed, resumed and corrupted in any order leave only complete files, and end bit-identically."""

import random
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from support import ForkServer, Result

from vaectl.models import checkpoint
from vaectl.training import resume

COMMAND = ["train", "vae", "--data", "few.npy", "--hidden", "8", "--latent", "2", "--epochs", "1500", "-q"]
SECONDS = 1.5  # about what this run takes
Reference = tuple[ForkServer, bytes, bytes]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, fork_server: Callable[..., ForkServer]) -> Reference:
    """The server that forks runs, their data, and the checkpoint that an uninterrupted run writes."""
    folder = tmp_path_factory.mktemp("reference")
    np.save(folder / "few.npy", np.random.default_rng(0).integers(0, 256, (30, 6, 6), np.uint8))
    server = fork_server("train")
    assert server.call(COMMAND, cwd=folder).returncode == 0
    return server, (folder / "few.npy").read_bytes(), (folder / "vae.safetensors").read_bytes()


def make_machine(server: ForkServer, data: bytes, expected: bytes) -> type[RuleBasedStateMachine]:
    """The state machine of such runs, which must end in the `expected` checkpoint."""

    class TrainingRuns(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.temporary = tempfile.TemporaryDirectory()
            self.folder = Path(self.temporary.name)
            (self.folder / "few.npy").write_bytes(data)
            self.checkpoint, self.state = self.folder / "vae.safetensors", self.folder / "vae.resume.safetensors"
            self.corrupted: set[Path] = set()

        def teardown(self) -> None:
            self.temporary.cleanup()

        def train(self, *options: str, seconds: float = 60) -> Result:
            result = server.call([*COMMAND, *options], cwd=self.folder, timeout=seconds)
            assert result.returncode in (0, 1, -signal.SIGKILL), result.stderr
            if result.returncode == 0:
                self.corrupted.clear()
                assert self.checkpoint.read_bytes() == expected and not self.state.exists()
            return result

        @rule(seconds=st.floats(0.01, SECONDS))
        def start_over_and_kill(self, seconds: float) -> None:
            before = self.state.read_bytes() if self.state.exists() else b""
            self.train("--force", seconds=seconds)
            if self.state.exists() and self.state.read_bytes() != before:
                self.corrupted.discard(self.state)

        @rule(seconds=st.floats(0.01, SECONDS))
        def resume_and_kill(self, seconds: float) -> None:
            self.train("--resume", seconds=seconds)

        @rule()
        def resume_to_the_end(self) -> None:
            resumable = self.state.exists() and self.state not in self.corrupted
            result = self.train("--resume")
            if resumable:
                assert result.returncode == 0, result.stderr
            elif not self.state.exists():
                assert b"leave out --resume" in result.stderr

        @rule()
        def start_without_force(self) -> None:
            before = [path.read_bytes() if path.exists() else None for path in (self.checkpoint, self.state)]
            if any(before):
                assert self.train().returncode == 1
                assert [path.read_bytes() if path.exists() else None for path in (self.checkpoint, self.state)] == before

        @precondition(lambda self: self.state.exists() or self.checkpoint.exists())
        @rule(rng=st.randoms(), truncate=st.booleans())
        def corrupt(self, rng: random.Random, truncate: bool) -> None:
            path = rng.choice([path for path in (self.state, self.checkpoint) if path.exists()])
            whole = path.read_bytes()
            place = rng.randrange(len(whole))
            path.write_bytes(whole[:place] if truncate else whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
            self.corrupted.add(path)

        @invariant()
        def files_that_were_not_corrupted_load(self) -> None:
            if self.checkpoint.exists() and self.checkpoint not in self.corrupted:
                checkpoint.load(str(self.checkpoint))
            if self.state.exists() and self.state not in self.corrupted:
                resume.load(str(self.state))

    return TrainingRuns


def explore(reference: Reference, examples: int, steps: int) -> None:
    """Let Hypothesis explore so many sequences of so many steps."""
    explored = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(make_machine(*reference), settings=explored)


def test_a_run_that_is_killed_resumed_and_corrupted_ends_bit_identically(reference: Reference) -> None:
    explore(reference, 2, 4)


@pytest.mark.long
def test_many_runs_that_are_killed_resumed_and_corrupted_end_bit_identically(reference: Reference) -> None:
    explore(reference, 20, 20)
