"""Each mutation operator changes a small example as it should, and only code that protects."""

import ast
from pathlib import Path

import pytest
from mutants import ROOT, find_mutants, group_tests, guard_names

REFUSAL = "if {}:\n    raise ValueError"

CASES = {
    "ignore_condition": (REFUSAL.format("x > 1"), [REFUSAL.format("(x > 1) and False")]),
    "ignore_condition of a warning": ("if x:\n    warn('x')", ["if (x) and False:\n    warn('x')"]),
    "drop_operand of or": (
        REFUSAL.format("x or (y := f())"),
        [REFUSAL.format("((x) and False) or (y := f())"), REFUSAL.format("x or (((y := f()) and False))")],
    ),
    "drop_operand of and": (
        REFUSAL.format("x and y"),
        [REFUSAL.format("((x) or True) and y"), REFUSAL.format("x and ((y) or True)")],
    ),
    "catch_nothing": ("try:\n    f()\nexcept (A, B) as e:\n    g(e)", ["try:\n    f()\nexcept () as e:\n    g(e)"]),
    "enter_nothing": (
        "with suppress(A), open(b) as c:\n    g(c)",
        ['with __import__("contextlib").nullcontext(), open(b) as c:\n    g(c)'],
    ),
    "skip_call of the system": ("é = 1; os.fsync(\n    file\n)", ["é = 1; pass"]),
    "skip_call in a finally block": ("try:\n    f()\nfinally:\n    pool.shutdown()", ["try:\n    f()\nfinally:\n    pass"]),
    "skip_call of a guard": (
        "def check(x) -> None:\n    if x:\n        raise E\nfiles.check(1)",
        ["def check(x) -> None:\n    if x:\n        raise E\npass"],
    ),
}
HARMLESS = ["if x or y:\n    f()", "with open(x) as y:\n    f()", "with no_grad():\n    f()", "f(os.getpid())"]


@pytest.mark.parametrize("case", CASES)
def test_an_operator_makes_these_mutants(case: str) -> None:
    source, expected = CASES[case]
    mutants = find_mutants(Path("vaectl/x.py"), source.encode(), guard_names([ast.parse(source)]))
    changed = [mutant.apply(source.encode()).decode() for mutant in mutants if mutant.operator == case.split()[0]]
    assert changed == expected


@pytest.mark.parametrize("source", HARMLESS)
def test_code_that_protects_nothing_has_no_mutants(source: str) -> None:
    assert find_mutants(Path("vaectl/x.py"), source.encode(), guard_names([ast.parse(source)])) == []


def test_every_mutant_of_vaectl_compiles() -> None:
    for path in (ROOT / "vaectl").rglob("*.py"):
        source = path.read_bytes()
        for mutant in find_mutants(path, source, set()):
            compile(mutant.apply(source), path, "exec")


def test_the_likeliest_tests_run_first_and_the_whole_suite_in_the_end() -> None:
    likely, near, rest = group_tests(Path("vaectl/io/files.py"), noticed_earlier={"tests/test_cli.py"})
    assert likely == ("tests/io/test_files.py", "tests/test_cli.py")
    assert "tests/faults/test_fuzz.py" in near
    assert {*near, *rest} == {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")}
