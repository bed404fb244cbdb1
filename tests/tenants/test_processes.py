"""The child process of a job: what it says, what it took, and that it never outlives who follows it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tenants.jobs import processes


def python(code: str) -> list[str]:
    return [sys.executable, "-u", "-c", code]


def test_objects_are_told_and_other_lines_are_not() -> None:
    code = "print('{\"a\": 1}'); print('a library speaks'); print('[1]'); print('{\"b\": 2}')"
    with processes.running(python(code)) as child:
        told = [line for line in child.lines() if line]
    assert told == [{"a": 1}, {"b": 2}]
    assert (child.status, child.peak_mb > 1) == (0, True)


def test_while_it_says_nothing_somebody_looks() -> None:
    with processes.running(python("import sys; sys.stdin.read()")) as child:
        assert next(child.lines()) is None
        child.kill()
    assert child.status == -9


def test_what_it_took_is_its_own() -> None:
    with processes.running(python("import time\nwhile time.process_time() < .5: pass")) as child:
        assert [line for line in child.lines() if line] == []
    assert 0.4 < child.cpu_s < 5


def test_it_ends_with_whoever_follows_it(tmp_path: Path) -> None:
    note = repr(str(tmp_path / "pid"))
    code = f"import os, time; open({note}, 'w').write(str(os.getpid())); print('{{}}'); time.sleep(600)"
    with pytest.raises(KeyError), processes.running(python(code)) as child:
        assert next(child.lines()) == {}
        raise KeyError
    assert child.status == -9
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_ending_twice_is_ending_once() -> None:
    with processes.running(python("import time; time.sleep(600)")) as child:
        child.end()
        child.end()
    assert child.status == -9


def test_a_command_that_is_none_is_told() -> None:
    with pytest.raises(FileNotFoundError), processes.running(["/nowhere/at-all"]):
        pass
