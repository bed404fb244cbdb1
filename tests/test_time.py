"""Tests wait for what becomes true, and bound no wall time: on shared cores that measures who else was there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.tiers import tiers

FOLDER = Path(__file__).parent
#: What waits, what knows the rule, and what runs the tests.
OTHERS = ("waiting.py", "test_time.py", "run.py")
FILES = sorted(path for path in FOLDER.rglob("*.py") if path.name not in OTHERS)

SLEEPS = {"time.sleep", "sleep", "asyncio.sleep"}
#: What measures: tests/speed.py does, as ratios, and tests/hostile_patterns.py, how times grow.
MEASURES = {"process_time", "perf_counter", "thread_time"}
#: Methods that wait for as many seconds, and functions that do by `timeout`.
WAITS = ("wait", "join", "result", "acquire")
ASKS = ("get", "post", "put", "patch", "delete", "head", "request", "create_connection", "urlopen")
LEAST_S = 30
#: What measures beside the tier of speed, and why; none of it is required.
MEASURING = {
    "fuzz/test_parsers_fuzz.py": "so many seconds of CPU are a hang, not slow",
    "isolation/timing.py": "what times tell of another tenant is what is asked",
}
CLOCKS = {"time.monotonic", "time.perf_counter", "time.time", "monotonic", "perf_counter"}

#: Where a page is waited for without a condition, and why there is none.
PAGES = {
    "console/browsing.py": "this is what waits for a condition: Playwright's own is an eval, which the policy blocks",
    "console/screens.py": "pictures for the docs are taken when nothing moves any more",
    "console/test_browser.py": "a recording has to be as long as what is said",
    "console/test_browser_models.py": "between two looks at the database",
    "console/test_browser_work.py": "CodeMirror takes Enter for a new line until a list has stood there for a while",
}


def named(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


@pytest.mark.slow
def test_nothing_sleeps_but_what_says_why() -> None:
    sleeping = [where for where, called in calls() if called in SLEEPS]
    assert not sleeping, "tests.waiting.until, or pause with the reason"
    waiting = [where for where, called in calls() if called.endswith(".wait_for_timeout")]
    assert {where.partition(":")[0] for where in waiting} == set(PAGES), "expect(…), or browsing.becomes"


def test_only_the_tier_of_speed_measures() -> None:
    measuring = [where for where, called in calls() if called.removeprefix("time.") in MEASURES]
    where = {where.partition(":")[0] for where in measuring if not where.startswith("hosts/")}
    assert where == {"speed.py", "hostile_patterns.py", *MEASURING}, "tests.speed: ratio, growth"
    users = {named(path) for path, tree in trees() if any(map(imports_speed, ast.walk(tree)))}
    in_speed = {test.partition("::")[0].removeprefix("tests/") for test in tiers()["speed"].tests}
    assert users <= in_speed, "tests/tiers.toml"


def imports_speed(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "tests.speed"


def test_what_is_waited_for_is_waited_for_long() -> None:
    """On a busy machine another process has to have its turn; waits under a second are pauses on purpose."""
    here = [(path, tree) for path, tree in trees() if not named(path).startswith("hosts/")]
    short = [f"{named(path)}:{line}" for path, tree in here for line in short_waits(tree)]
    assert short == [], f"tests.waiting.PATIENCE_S, or until; at least {LEAST_S} s"


def short_waits(tree: ast.Module) -> Iterator[int]:
    """Lines that give something so many seconds to end or to answer, by a number."""
    for node in ast.walk(tree):
        name = dotted(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and name in (*WAITS, *ASKS):
            limits = [keyword.value for keyword in node.keywords if keyword.arg == "timeout"]
            limits += node.args if name in WAITS else []
            if any(isinstance(one, ast.Constant) and is_short(one.value) for one in limits):
                yield node.lineno


def is_short(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < LEAST_S


def test_no_wall_time_is_bounded_from_above() -> None:
    # What is proved on several hosts are times: how long after a cut work goes on. `make test` does not run it.
    here = [(path, tree) for path, tree in trees() if not named(path).startswith("hosts/")]
    found = [f"{named(path)}:{line}" for path, tree in here for line in bounds(tree)]
    assert not found, "time.process_time, a clock that is moved, or what must not have been done"


@cache
def calls() -> list[tuple[str, str]]:
    """(file and line, what is called)"""
    return [
        (f"{named(path)}:{node.lineno}", dotted(node.func))
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


def dotted(node: ast.expr) -> str:
    """A name with its attributes, as it is called; what is no name has none."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id if isinstance(node, ast.Name) else "", *reversed(names)])


@cache
def trees() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text())) for path in FILES]


def bounds(tree: ast.Module) -> Iterator[int]:
    """Lines that assert that a wall clock, or what was computed from one, is less than something."""
    for function in [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]:
        pairs = [
            pair for node in ast.walk(function) if isinstance(node, ast.Assign) for pair in assigned(node)
        ]
        times = {name.id for name, value in pairs if isinstance(name, ast.Name) and reads_clock(value, set())}
        for node in ast.walk(function):
            if isinstance(node, ast.Assert):
                compared = [one for one in ast.walk(node.test) if isinstance(one, ast.Compare)]
                yield from (node.lineno for one in compared if is_bound(one, times))


def assigned(node: ast.Assign) -> list[tuple[ast.expr, ast.expr]]:
    """(target, value), of a tuple each of its own."""
    targets, value = node.targets, node.value
    if isinstance(value, ast.Tuple) and isinstance(targets[0], ast.Tuple):
        return list(zip(targets[0].elts, value.elts, strict=True))
    return [(target, value) for target in targets]


def is_bound(compare: ast.Compare, times: set[str]) -> bool:
    sides = [compare.left, *compare.comparators]
    for left, operator, right in zip(sides, compare.ops, sides[1:], strict=False):
        less, more = (left, right) if isinstance(operator, ast.Lt | ast.LtE) else (right, left)
        ordered = isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE)
        # A deadline comes from the clock as well, and bounds how long something is waited for.
        if ordered and reads_clock(less, times) and not reads_clock(more, times):
            return True
    return False


def reads_clock(node: ast.AST, times: set[str]) -> bool:
    return any(
        (isinstance(one, ast.Call) and dotted(one.func) in CLOCKS)
        or (isinstance(one, ast.Name) and one.id in times)
        for one in ast.walk(node)
    )


def test_the_rule_finds_what_it_forbids() -> None:
    source = """
def test_a():
    start = time.monotonic()
    work()
    assert time.monotonic() - start < 5
    assert 0.9 < time.monotonic() - start
    took = time.perf_counter() - start
    assert took <= 3 and start
    assert 4 > took
    assert time.process_time() < 9
"""
    assert list(bounds(ast.parse(source))) == [5, 8, 9]
