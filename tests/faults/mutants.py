"""Mutation testing: break each guard of vaectl in turn, in a copy of the repository. Some test should fail.

    python tests/faults/mutants.py [--list] [--sample N] [--seed S] [PATH-OR-WORD ...]

Guards are found by their syntax, so renames break nothing here. The operators change only code that protects: conditions before a
`raise`, error handlers, cleanup, calls on the operating system, and calls of functions that hold one of these. Arithmetic is left
to ordinary tests.

For each mutant the likeliest tests run first: modules named after the changed file and those that noticed its earlier mutants,
then tests/faults and the mirrored folder, then the rest of the suite, until a test fails. Selecting tests by coverage would be
faster but wrong here: processes that are killed, run out of memory or drop privileges leave no coverage data, and they test the
guards. A mutant that no test notices costs a whole suite, so pass a path, a word or `--sample` unless there are hours to spend.
"""

import argparse
import ast
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".coverage*")
SYSTEM_MODULES = (["fcntl"], ["os"], ["shutil"], ["signal"])
NOT_GUARDS = {"close", "inference_mode", "no_grad"}  # without them a command only needs more memory or descriptors
PYTEST_SUCCESS = (0, 5)  # 5: all tests are deselected
GRACE_SECONDS = 120

Edit = tuple[ast.expr | ast.stmt, str]
"""A node and the source that replaces it, in which `{}` stands for its present source."""


def ignore_condition(node: ast.AST, guards: set[str]) -> Iterator[Edit]:
    """Never refuse: the condition of an `if` that raises or warns becomes false."""
    if isinstance(node, ast.If) and any(map(is_refusal, node.body)):
        yield node.test, "({}) and False"


def drop_operand(node: ast.AST, guards: set[str]) -> Iterator[Edit]:
    """Drop an operand of `and` or `or` in such a condition. It is still evaluated, since it may assign a name."""
    if isinstance(node, ast.If) and any(map(is_refusal, node.body)):
        for part in ast.walk(node.test):
            if isinstance(part, ast.BoolOp):
                neutral = "(({}) and False)" if isinstance(part.op, ast.Or) else "(({}) or True)"
                yield from ((operand, neutral) for operand in part.values)


def catch_nothing(node: ast.AST, guards: set[str]) -> Iterator[Edit]:
    """Let errors pass through an `except` clause."""
    if isinstance(node, ast.ExceptHandler) and node.type:
        yield node.type, "()"


def enter_nothing(node: ast.AST, guards: set[str]) -> Iterator[Edit]:
    """Disable a context manager without `as`, which is there for its effect: it suppresses or translates errors, or locks."""
    for item in node.items if isinstance(node, ast.With) else ():
        call = item.context_expr
        if isinstance(call, ast.Call) and not item.optional_vars and called_name(call)[-1] not in NOT_GUARDS:
            yield call, '__import__("contextlib").nullcontext()'


def skip_call(node: ast.AST, guards: set[str]) -> Iterator[Edit]:
    """Skip a call whose result is not used: of the operating system, of a guard, or in a `finally` block."""
    cleanup = node.finalbody if isinstance(node, ast.Try) else []
    for statement in [node, *cleanup]:
        name = called_name(statement)[-1]
        protects = statement in cleanup or is_system_call(statement) or name in guards
        if isinstance(statement, ast.Expr) and protects and name not in NOT_GUARDS:
            yield statement, "pass"


Operator = Callable[[ast.AST, set[str]], Iterator[Edit]]
OPERATORS: tuple[Operator, ...] = (ignore_condition, drop_operand, catch_nothing, enter_nothing, skip_call)


def called_name(node: ast.AST) -> list[str]:
    """The name of the function in a call, or a statement that is one, split at its dots."""
    call = node.value if isinstance(node, ast.Expr) else node
    return ast.unparse(call.func).split(".") if isinstance(call, ast.Call) else [""]


def is_refusal(node: ast.AST) -> bool:
    """Whether a statement raises or warns."""
    return isinstance(node, ast.Raise) or called_name(node)[-1] == "warn"


def is_system_call(node: ast.AST) -> bool:
    """Whether a statement calls the operating system for the effect alone."""
    return isinstance(node, ast.Expr) and called_name(node)[:-1] in SYSTEM_MODULES


def guard_names(trees: Iterable[ast.AST]) -> set[str]:
    """The names of guards: functions that return None, and raise or call the operating system."""
    functions = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    silent = (node for node in functions if isinstance(node.returns, ast.Constant) and node.returns.value is None)
    return {node.name for node in silent if any(isinstance(each, ast.Raise) or is_system_call(each) for each in ast.walk(node))}


@dataclass(frozen=True, order=True)
class Mutant:
    """One change to one file, between two offsets in bytes."""

    path: Path
    line: int
    start: int
    end: int
    operator: str
    replacement: str

    def apply(self, source: bytes) -> bytes:
        """The changed source."""
        replacement = self.replacement.replace("{}", source[self.start : self.end].decode())
        return source[: self.start] + replacement.encode() + source[self.end :]

    def describe(self, source: bytes) -> str:
        """One line: the place, the operator, the source line, and which part of it changes."""
        line, part = source.splitlines()[self.line - 1], source[self.start : self.end]
        return f"{self.path}:{self.line}: {self.operator}: {line.decode().strip()}  [{' '.join(part.decode().split())}]"


def find_mutants(path: Path, source: bytes, guards: set[str]) -> list[Mutant]:
    """All mutants of a file, in the order of its lines; `guards` are the names from `guard_names`."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = set()
    for node, operator in product(ast.walk(ast.parse(source)), OPERATORS):
        for target, replacement in operator(node, guards):
            assert target.end_lineno and target.end_col_offset
            start, end = starts[target.lineno - 1] + target.col_offset, starts[target.end_lineno - 1] + target.end_col_offset
            found.add(Mutant(path, target.lineno, start, end, operator.__name__, replacement))
    return sorted(found)


def group_tests(path: Path, noticed_earlier: set[str]) -> list[tuple[str, ...]]:
    """The test modules for a changed file in up to three groups, likeliest first; the first may overlap the others."""
    modules = sorted(module.relative_to(ROOT) for module in (ROOT / "tests").rglob("test_*.py"))
    near_folders = (Path("tests/faults"), Path("tests", path.parent.relative_to("vaectl")))
    likely = [module for module in modules if path.stem in module.stem.split("_") or str(module) in noticed_earlier]
    near = [module for module in modules if module.parent in near_folders]
    rest = [module for module in modules if module.parent not in near_folders]
    return [tuple(map(str, group)) for group in (likely, near, rest) if group]


def first_failure(modules: tuple[str, ...], mutant: Mutant | None, max_seconds: float | None) -> str | None:
    """Run test modules on a copy of the repository with the mutant; return the first test that fails, if one does."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # some tests drop privileges
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=NOT_COPIED)
        if mutant:
            (copy / mutant.path).write_bytes(mutant.apply((ROOT / mutant.path).read_bytes()))
        command = [sys.executable, "-m", "pytest", "-x", "--tb=no", "--no-header", *modules]
        environment = os.environ | {"PYTHONPATH": str(copy)}
        process = subprocess.Popen(
            command, cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            output, _ = process.communicate(timeout=max_seconds)
        except subprocess.TimeoutExpired:
            return "a timeout"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode in PYTEST_SUCCESS:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", output.decode(), re.MULTILINE)
    return failed[1] if failed else f"exit code {process.returncode} of pytest"


@cache
def baseline_seconds(modules: tuple[str, ...]) -> float:
    """How long the tests take on the unchanged program, which must pass them."""
    start = time.monotonic()
    if failed := first_failure(modules, None, None):
        sys.exit(f"the unchanged program does not pass {failed}")
    return time.monotonic() - start


def noticed_by(mutant: Mutant, noticed_earlier: set[str]) -> str | None:
    """The first test that fails with the mutant, if one does. A mutant that makes tests hang is noticed too."""
    for modules in group_tests(mutant.path, noticed_earlier):
        if failed := first_failure(modules, mutant, 3 * baseline_seconds(modules) + GRACE_SECONDS):
            return failed
    return None


def main() -> None:
    """Print each mutant and the test that noticed it; exit with 1 if some mutant was missed."""
    parser = argparse.ArgumentParser(description="Break each guard of vaectl in turn; some test should fail.")
    parser.add_argument("words", nargs="*", metavar="PATH-OR-WORD", help="only mutants whose printed line contains one of these")
    parser.add_argument("--list", action="store_true", help="print the mutants and run no tests")
    parser.add_argument("--sample", type=int, metavar="N", help="only N mutants, chosen at random")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="random seed of the sample")
    options = parser.parse_args()
    sources = {path.relative_to(ROOT): path.read_bytes() for path in sorted((ROOT / "vaectl").rglob("*.py"))}
    guards = guard_names(map(ast.parse, sources.values()))
    lines = {mutant: mutant.describe(source) for path, source in sources.items() for mutant in find_mutants(path, source, guards)}
    chosen = [mutant for mutant, line in lines.items() if not options.words or any(word in line for word in options.words)]
    if options.sample is not None:
        chosen = sorted(random.Random(options.seed).sample(chosen, min(options.sample, len(chosen))))
    missed, noticed_earlier = 0, defaultdict[Path, set[str]](set)
    for mutant in chosen:
        print(lines[mutant], flush=True)
        if not options.list:
            test = noticed_by(mutant, noticed_earlier[mutant.path])
            missed += test is None
            noticed_earlier[mutant.path].add((test or "").partition("::")[0])
            print(f"    noticed by {test}" if test else "    MISSED", flush=True)
    print(f"{len(chosen)} mutants" + ("" if options.list else f", {missed} of them missed"))
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
