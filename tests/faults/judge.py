"""The rule for every call of vaectl, whatever its files hold: how it may end, what it may print, and what it may cost."""

import os
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from support import ForkServer, MeasuredResult

MAX_CPU_SECONDS = 20
MAX_MEMORY_BYTES = 1536 << 20
# What ends a call: far more than it may take, so that it ends by itself in all but the worst cases.
MAX_ADDRESS_BYTES = 4 << 30
KILL_CPU_SECONDS = 3 * MAX_CPU_SECONDS
KILL_SECONDS = 600
WARNING = re.compile(
    r": (what follows in it is )?skipped$|: skipped \d+ images?|: only (its first frame|the first) is read$"
    r"|images become one, without |: ignored (\d+ files?|HEIC or AVIF)|this model learned: "
)
MAX_MESSAGE_CHARACTERS = 2000
EXAMPLES = 4  # violations of one kind that are printed


@dataclass(frozen=True)
class Call:
    """The arguments of vaectl and its stdin; the file that it writes; and the names by which an error may call the input."""

    arguments: tuple[str, ...]
    names: tuple[str, ...]
    input: bytes = b""
    output: str = ""

    def run(self, server: ForkServer, folder: Path) -> tuple[MeasuredResult, str | None]:
        """Run it in a folder, and return its result and which rule it broke, if any; its output file is removed."""
        before = set(os.listdir(folder))
        result = server.call(
            self.arguments,
            cwd=folder,
            input=self.input,
            memory=MAX_ADDRESS_BYTES,
            cpu_seconds=KILL_CPU_SECONDS,
            timeout=KILL_SECONDS,
        )
        if self.output and result.returncode == 0:
            (folder / self.output).unlink()
        return result, find_violation(self, result, set(os.listdir(folder)) - before)


def find_violation(call: Call, result: MeasuredResult, leftovers: set[str]) -> str | None:
    """Return which rule a call broke, if it broke one: the kind of violation, a colon and details. For time see `find_excess`."""
    message = result.stderr.decode(errors="replace")
    lines = message.splitlines()
    if result.returncode not in (0, 1, 2):
        return (
            f"exit code {result.returncode}: {message!r}, {result.cpu_seconds:.0f} s of CPU time, {result.seconds:.0f} s in all"
        )
    if "Traceback" in message or any(not line.startswith("vaectl ") for line in lines):
        return f"more than messages of vaectl on stderr: {message!r}"
    if any(not line.isprintable() for line in message.split("\n")):
        return f"control characters on stderr: {message!r}"
    if len(message) > MAX_MESSAGE_CHARACTERS:
        return f"a message too long to read: {message!r}"
    errors = [line for line in lines if not WARNING.search(line)]
    if len(errors) != bool(result.returncode) or (result.returncode and result.stdout):
        return f"not one error and nothing on stdout: {len(result.stdout)} bytes and {message!r}"
    if result.returncode == 1 and not any(name in message for name in call.names):
        return f"an error without the name of the file: {message!r}"
    if leftovers:
        return f"files left behind: {leftovers}"
    if result.memory_bytes > MAX_MEMORY_BYTES:
        return f"too much memory: {result.memory_bytes >> 20} MB, {message!r}"
    return None


def find_excess(result: MeasuredResult) -> str | None:
    """Return by how much a call exceeded the CPU time that it may take, if it did."""
    excess = result.cpu_seconds > MAX_CPU_SECONDS
    return f"too much CPU time: {result.cpu_seconds:.0f} s, {result.stderr!r}" if excess else None


@dataclass
class Tally:
    """What many calls have come to: exit codes, violations by kind, the slowest call, and the one that took the most memory."""

    exit_codes: Counter[int] = field(default_factory=Counter)
    violations: dict[str, list[str]] = field(default_factory=dict)
    slowest: tuple[float, float, str] = (0, 0, "none")
    largest: tuple[int, str] = (0, "none")

    def add(self, name: str, result: MeasuredResult, violation: str | None) -> None:
        """Count a call; `name` says how to repeat it."""
        self.exit_codes[result.returncode] += 1
        if broken := violation or find_excess(result):
            kind, details = broken.split(": ", 1)
            if kind not in self.violations:  # at once, since many calls may follow
                print(f"{kind}: {details[:300]}\n    {name}", file=sys.stderr, flush=True)
            self.violations.setdefault(kind, []).append(f"{details[:300]}\n    {name}")
        self.slowest = max(self.slowest, (result.cpu_seconds, result.seconds, name))
        self.largest = max(self.largest, (result.memory_bytes, name))

    def merge(self, other: "Tally") -> None:
        """Add another tally to this one."""
        self.exit_codes += other.exit_codes
        for kind, found in other.violations.items():
            self.violations.setdefault(kind, []).extend(found)
        self.slowest, self.largest = max(self.slowest, other.slowest), max(self.largest, other.largest)

    def describe(self) -> str:
        """A few lines: violations of each kind and how to repeat them, and what the calls took."""
        lines = []
        for kind, found in self.violations.items():
            lines += [f"{kind}: {len(found)} calls", *(f"  {example}" for example in found[:EXAMPLES])]
        codes = ", ".join(f"{count} with {code}" for code, count in sorted(self.exit_codes.items()))
        cpu_seconds, seconds, slow_name = self.slowest
        memory_bytes, large_name = self.largest
        return "\n".join(
            [
                *lines,
                f"{self.exit_codes.total()} calls ended: {codes}",
                f"slowest: {cpu_seconds:.2f} s of CPU time, {seconds:.2f} s in all\n    {slow_name}",
                f"largest: {memory_bytes >> 20} MB of memory\n    {large_name}",
                f"{sum(map(len, self.violations.values()))} violations",
            ]
        )
