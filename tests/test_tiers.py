"""Tiers and guards are what tests/tiers.toml and tests/guards.toml say, and what runs them tells no failure away."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import run, tiers
from tests.tiers import Collection


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> Collection:
    """Every test there is: what this run collected, if it was asked for all."""
    asked = {Path(each.partition("::")[0]).resolve() for each in request.config.args}
    return request.config.stash[tiers.FOUND] if asked == {tiers.FOLDER} else tiers.collect()


@pytest.mark.guard
def test_every_pattern_matches_a_test_and_gives_a_reason(found: Collection) -> None:
    functions = {tiers.function_of(test) for test in found.tiers}
    for tier in tiers.tiers().values():
        assert tier.about
        for pattern, reason in tier.tests.items():
            assert reason, pattern
            assert any(tiers.matches(pattern, function) for function in functions), (
                f"{pattern} matches nothing"
            )


@pytest.mark.guard
def test_no_test_is_in_two_tiers(found: Collection) -> None:
    placed = {function: tiers.patterns_of(function) for function in map(tiers.function_of, found.tiers)}
    assert {function: several for function, several in placed.items() if len(several) > 1} == {}


@pytest.mark.guard
def test_guards_are_required_and_none_is_missing(found: Collection) -> None:
    agreed = tiers.agreed_guards()
    assert sum(agreed.values()) > 1_000
    fewer = {
        name: found.guards.get(name, 0) for name, cases in agreed.items() if found.guards.get(name, 0) < cases
    }
    assert fewer == {}, "guards that are gone or have fewer cases; if that is meant, make update"
    unlisted = set(found.guards) - set(agreed)
    assert unlisted == set(), "make update"
    assert {name: tiers.tier_of(name) for name in found.guards if tiers.tier_of(name) != tiers.REQUIRED} == {}


def test_files_that_are_chained_are_required(found: Collection) -> None:
    for path in tiers.written()["chained"]:
        assert tiers.tier_of(path) == tiers.REQUIRED
        assert any(test.startswith(f"{path}::") for test in found.tiers), path


def test_of_a_table_the_first_case_may_stay_required(monkeypatch: pytest.MonkeyPatch) -> None:
    table = "test_a.py::test_t"
    monkeypatch.setattr(
        tiers, "patterns_of", lambda name: [("slow", f"{table}{tiers.REST}")] if name == table else []
    )
    placed = tiers.placed_of([f"{table}[a]", f"{table}[b]", f"{table}[c]", "test_a.py::test_other"])
    assert list(placed.values()) == ["required", "slow", "slow", "required"]
    assert tiers.matches(f"{table}{tiers.REST}", table)


# --- Running: each of these starts pytest on a file of its own, without services --------------------------

Runs = Callable[..., run.Run]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Runs a file of tests with the given options; a second time with the name of a test only."""
    monkeypatch.setenv("CROSSLIGHT_TEST_SERVICES", "off")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    guard: as there\n")
    count = iter(range(100))

    def once(*arguments: str, seconds: float = 120, source: str = "") -> run.Run:
        if source:
            (tmp_path / "test_it.py").write_text(textwrap.dedent(source))
        options = [
            "-c",
            str(tmp_path / "pytest.ini"),
            "-p",
            "tests.tiers",
            "-p",
            "no:django",
            "--rootdir",
            str(tmp_path),
        ]
        chosen = [str(tmp_path / each) if each.startswith("test_") else each for each in arguments]
        return run.one_run([*options, *chosen], tmp_path / str(next(count)), time.monotonic() + seconds)

    return once


def again(runs: Runs) -> Callable[[list[str], Path, float], run.Run]:
    return lambda arguments, folder, deadline: runs(*arguments)


FAILS_ONCE = """
    from pathlib import Path

    SEEN = Path(__file__).with_suffix(".seen")

    def test_fails_once():
        seen = SEEN.exists()
        SEEN.touch()
        assert seen

    def test_passes():
        pass
"""


def test_a_tier_is_run_although_a_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else pytest takes that folder for what is to be run, and knows no option `--tier`."""
    monkeypatch.setenv("CROSSLIGHT_TEST_SERVICES", "off")
    assert (run.ROOT / "docs").is_dir()
    only = ["-o", "testpaths=tests/flows", "--collect-only", "-qq"]
    found = run.pytest(tiers.tiers()["docs"], 1, only, tmp_path, time.monotonic() + 120)
    assert found.found and "docs" in found.found.tiers.values()


def test_what_passes_by_itself_is_flaky(runs: Runs, tmp_path: Path) -> None:
    first = runs("test_it.py", source=FAILS_ONCE)
    assert (first.status, first.is_whole) == (1, True)
    assert first.outcomes.ended == {
        "test_it.py::test_fails_once": "failed",
        "test_it.py::test_passes": "passed",
    }
    assert run.look_again(first, tmp_path, time.monotonic() + 100, again(runs)) == [
        "test_it.py::test_fails_once"
    ]


def test_what_fails_by_itself_has_failed(runs: Runs, tmp_path: Path) -> None:
    first = runs("test_it.py", source="def test_fails(): assert 0")
    assert first.outcomes.failed == ["test_it.py::test_fails"]
    assert run.look_again(first, tmp_path, time.monotonic() + 100, again(runs)) == []


def test_a_guard_gets_no_second_run(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "agreed_guards", lambda: {"test_it.py::test_fails_once": 1})
    first = runs("test_it.py", source=FAILS_ONCE)
    assert run.look_again(first, tmp_path, time.monotonic() + 100, again(runs)) == []


def test_of_many_failures_none_gets_a_second_run(runs: Runs, tmp_path: Path) -> None:
    many = "import pytest\n@pytest.mark.parametrize('n', range(6))\ndef test_fails(n): assert 0"
    first = runs("test_it.py", source=many)
    assert len(first.outcomes.failed) == 6
    assert run.look_again(first, tmp_path, time.monotonic() + 100, again(runs)) == []


def test_a_failed_teardown_is_a_failed_test(runs: Runs) -> None:
    source = """
        import pytest

        @pytest.fixture
        def breaks():
            yield
            assert 0

        def test_it(breaks): pass
        @pytest.mark.skip
        def test_skipped(): pass
    """
    ended = runs("test_it.py", source=source).outcomes.ended
    assert ended == {"test_it.py::test_it": "failed", "test_it.py::test_skipped": "skipped"}


def test_a_file_that_cannot_be_read_is_no_success(runs: Runs) -> None:
    broken = runs("test_it.py", source="import nothing_of_this_name")
    assert (broken.is_whole, broken.outcomes.broken) == (False, ["test_it.py"])


def test_a_run_that_hangs_ends_and_says_where(runs: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    source = """
        import time
        def test_passes(): pass
        def test_hangs(): time.sleep(1000)
        def test_waits(): pass
    """
    late = runs("test_it.py", source=source, seconds=25)
    assert (late.late, late.is_whole) == (True, False)
    assert late.outcomes.ended == {"test_it.py::test_passes": "passed"}
    assert late.missing == ["test_it.py::test_hangs", "test_it.py::test_waits"]
    told = "".join(capfd.readouterr())
    assert "in test_hangs" in told and "1 passed" in told


def test_what_hears_no_signal_ends_its_process_and_the_others_go_on(runs: Runs, tmp_path: Path) -> None:
    """As code in C does that holds the interpreter."""
    source = """
        import ctypes
        def test_hangs(): ctypes.PyDLL(None).sleep(1000)
        def test_passes(): pass
    """
    limits = ["-o", "faulthandler_timeout=2", "-o", "faulthandler_exit_on_timeout=true", "-n", "1"]
    ended = runs("test_it.py", *limits, source=source).outcomes.ended
    assert ended == {"test_it.py::test_hangs": "failed", "test_it.py::test_passes": "passed"}
