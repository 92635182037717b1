"""Trainings begun, killed, gone on with and corrupted in any order: what is whole stays whole, and ends in the same bits."""

import random
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from support import Nursery, Result

from vaectl import checkpoint, states

WORDS = ["train", "vae", "--data", "few.npy", "--hidden", "8", "--latent", "2", "--epochs", "1500", "-q"]
SECONDS = 1.5  # about what such a training takes


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nursery, bytes, bytes]]:
    """Where trainings are forked, the data they learn from, and the checkpoint in which all of them must end."""
    folder = tmp_path_factory.mktemp("reference")
    np.save(folder / "few.npy", np.random.default_rng(0).integers(0, 256, (30, 6, 6), np.uint8))
    nursery = Nursery(torch=True)
    assert nursery.call(WORDS, cwd=folder).returncode == 0
    yield nursery, (folder / "few.npy").read_bytes(), (folder / "vae.safetensors").read_bytes()
    nursery.close()


def machine(nursery: Nursery, data: bytes, expected: bytes) -> type[RuleBasedStateMachine]:
    """The machine that lives such lives."""

    class Lives(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.temporary = tempfile.TemporaryDirectory()
            self.folder = Path(self.temporary.name)
            (self.folder / "few.npy").write_bytes(data)
            self.checkpoint, self.state = self.folder / "vae.safetensors", self.folder / "vae.resume.safetensors"
            self.corrupted: set[Path] = set()

        def teardown(self) -> None:
            self.temporary.cleanup()

        def call(self, *more: str, seconds: float = 60) -> Result:
            result = nursery.call([*WORDS, *more], cwd=self.folder, timeout=seconds)
            assert result.returncode in (0, 1, -signal.SIGKILL), result.stderr
            if result.returncode == 0:
                self.corrupted.clear()
                assert self.checkpoint.read_bytes() == expected and not self.state.exists()
            return result

        @rule(seconds=st.floats(0.01, SECONDS))
        def begin_anew_and_be_killed(self, seconds: float) -> None:
            whole = self.state.read_bytes() if self.state.exists() else b""
            self.call("--force", seconds=seconds)
            if self.state.exists() and self.state.read_bytes() != whole:
                self.corrupted.discard(self.state)

        @rule(seconds=st.floats(0.01, SECONDS))
        def go_on_and_be_killed(self, seconds: float) -> None:
            self.call("--resume", seconds=seconds)

        @rule()
        def go_on_to_the_end(self) -> None:
            possible = self.state.exists() and self.state not in self.corrupted
            result = self.call("--resume")
            if possible:
                assert result.returncode == 0, result.stderr
            elif not self.state.exists():
                assert b"leave out --resume" in result.stderr

        @rule()
        def begin_without_leave(self) -> None:
            before = [path.read_bytes() if path.exists() else None for path in (self.checkpoint, self.state)]
            if any(before):
                assert self.call().returncode == 1
                assert [path.read_bytes() if path.exists() else None for path in (self.checkpoint, self.state)] == before

        @precondition(lambda self: self.state.exists() or self.checkpoint.exists())
        @rule(rng=st.randoms(), cut=st.booleans())
        def corrupt(self, rng: random.Random, cut: bool) -> None:
            path = rng.choice([path for path in (self.state, self.checkpoint) if path.exists()])
            whole = path.read_bytes()
            place = rng.randrange(len(whole))
            path.write_bytes(whole[:place] if cut else whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
            self.corrupted.add(path)

        @invariant()
        def what_was_not_corrupted_loads(self) -> None:
            if self.checkpoint.exists() and self.checkpoint not in self.corrupted:
                checkpoint.load(str(self.checkpoint))
            if self.state.exists() and self.state not in self.corrupted:
                states.load(str(self.state))

    return Lives


def lived(begun: tuple[Nursery, bytes, bytes], examples: int, steps: int) -> None:
    """Live so many lives of so many steps."""
    lives = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine(*begun), settings=lives)


@pytest.mark.fault(29, 35, 36, 38)
def test_whatever_happens_to_a_training_it_ends_in_the_same_bits(begun: tuple[Nursery, bytes, bytes]) -> None:
    lived(begun, 3, 5)


@pytest.mark.long
@pytest.mark.fault(29, 35, 36, 38)
def test_whatever_happens_to_many_trainings_they_end_in_the_same_bits(begun: tuple[Nursery, bytes, bytes]) -> None:
    lived(begun, 20, 20)
