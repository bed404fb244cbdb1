"""A kind of job is declared once, beside its body, and everybody who works with kinds knows it from there."""

from __future__ import annotations

import ast
import errno
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.db import InterfaceError, OperationalError
from psycopg2.errors import QueryCanceled

import workers.base
from console.templatetags.console_tags import kind_name
from tenants.errors import ModelUnavailable, StorageFull, Unavailable
from tenants.jobs import kinds, retired
from tenants.jobs import services as jobs
from tenants.jobs.kinds import KINDS, job
from tenants.jobs.models import Job, JobDispatch
from tenants.jobs.notify_workers import dispatch
from tenants.scope import tenant_scope
from tests.api.conftest import Api
from tests.conftest import Party
from workers.base import declare_task, run_job, run_next

ROOT = Path(__file__).parents[2]
# A queue that no other kind uses: what runs here is the job of this test.
QUEUE = "system"


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """What a test declares goes with it."""
    known = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(known)


def enqueue(party: Party, kind: str, **arguments: Any) -> Job:
    with tenant_scope(party.id):
        return jobs.enqueue(kind=kind, arguments=arguments, reserve={})


def read(party: Party, row: Job) -> Job:
    with tenant_scope(party.id):
        return Job.objects.get(pk=row.pk)


def test_a_kind_that_one_module_declares_is_queued_run_and_shown(party: Party) -> None:
    ends: list[str] = []

    def shown(row: Job) -> None:
        ends.append(row.state)

    @job("count_letters", queue=QUEUE, label="Count letters", max_attempts=1, on_end=shown, kept=True)
    def count_letters(claimed: jobs.Claim) -> None:
        result = {"letters": len(claimed.arguments["text"])}
        jobs.succeed(claimed, result=result, cpu_s=0, gpu_s=0, used={})

    row = enqueue(party, "count_letters", text="apple")
    assert JobDispatch.objects.get(job_id=row.id).queue == QUEUE
    run_next(QUEUE)
    row = read(party, row)
    assert (row.state, row.result, ends) == ("succeeded", {"letters": 5}, [])
    assert kind_name("count_letters") == "Count letters"
    listed = Api(party.token).get("/jobs?kind=count_letters").json()["results"]
    assert [one["id"] for one in listed] == [str(row.id)]

    # Its own settings, and not those of other kinds: one attempt, and whoever shows its state is told.
    row = enqueue(party, "count_letters")
    run_next(QUEUE)
    assert (read(party, row).state, ends) == ("failed", ["failed"])
    with tenant_scope(party.id):
        jobs.retry(job_id=row.id)
        jobs.cancel(job_id=row.id)
    assert ends == ["failed", "queued", "cancelled"]


def test_a_message_of_an_earlier_release_runs_the_job_that_it_names(party: Party) -> None:
    @job("echo", queue=QUEUE, label="Echo")
    def echo(claimed: jobs.Claim) -> None:
        jobs.succeed(claimed, result=claimed.arguments, cpu_s=0, gpu_s=0, used={})

    row = enqueue(party, "echo", said="once")
    declare_task(KINDS["echo"])
    try:
        current_app.tasks["workers.echo"](str(row.id), str(party.id))
    finally:
        current_app.tasks.pop("workers.echo")
    assert read(party, row).result == {"said": "once"}
    assert [
        name for name, kind in KINDS.items() if name != "echo" and kind.task not in current_app.tasks
    ] == []


def test_a_kind_is_declared_once_and_for_a_queue_that_is_served() -> None:
    with pytest.raises(ValueError, match=r"embed_asset already, in tenants\.pipeline\.assets\.embedding"):
        job("embed_asset", queue="embed", label="Again")(KINDS["embed_asset"].body)
    with pytest.raises(ValueError, match="no queue nowhere"):
        job("another", queue="nowhere", label="Another")(print)
    assert "another" not in KINDS


def declared() -> Iterator[tuple[str, str]]:
    """Name and module of each `@job("name", …)` in the product; the name may be a constant of the module."""
    for path in sorted((ROOT / "tenants").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            for one in node.decorator_list:
                if isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id == "job":
                    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                    name = ast.unparse(one.args[0])
                    yield eval(name, vars(import_module(module))), module


def test_every_kind_stands_in_one_place_and_workers_name_none() -> None:
    found = list(declared())
    assert Counter(name for name, _ in found).most_common(1)[0][1] == 1
    assert dict(found) == {name: kind.body.__module__ for name, kind in KINDS.items() if not kind.retired}
    for path in (ROOT / "workers").glob("*.py"):
        strings = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
        assert strings & {name for kind in KINDS.values() for name in (kind.name, kind.task)} == set(), path


def test_nothing_is_called_by_a_dotted_path() -> None:
    callers = [
        str(path.relative_to(ROOT))
        for part in ("tenants", "workers")
        for path in (ROOT / part).rglob("*.py")
        if "import_string" in path.read_text()
    ]
    assert callers == []


# --- Kinds that are gone ---------------------------------------------------------------------------------


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> str:
    """A kind that an earlier release had."""
    old = retired.Retired("fold_paper", QUEUE, "Fold paper", note="Paper is not folded any more.")
    monkeypatch.setattr(retired, "RETIRED", (*retired.RETIRED, old))
    retired.declare()
    return old.name


def left(party: Party, kind: str, **values: Any) -> Job:
    """A row as a database of the earlier release has it."""
    with tenant_scope(party.id):
        row = Job.objects.create(kind=kind, arguments={"model": "of old"}, **values)
        dispatch(row)
    return row


def test_what_waits_of_a_retired_kind_ends_and_says_why(party: Party, gone: str) -> None:
    row = left(party, gone)
    run_next(QUEUE)
    row = read(party, row)
    assert (row.state, row.result) == ("succeeded", {"note": "Paper is not folded any more."})
    assert not JobDispatch.objects.filter(job_id=row.id).exists()
    assert Api(party.token).get(f"/jobs/{row.id}").json()["kind"] == gone


def test_what_ran_or_failed_under_the_earlier_release_ends_too(party: Party, gone: str) -> None:
    running = left(party, gone, state=Job.State.RUNNING, attempts=1, fence=1)
    run_job(str(running.id), str(party.id))
    failed = left(party, gone, state=Job.State.FAILED, attempts=3)
    with tenant_scope(party.id):
        jobs.retry(job_id=failed.id)
    run_next(QUEUE)
    assert [read(party, row).state for row in (running, failed)] == ["succeeded", "succeeded"]


def test_nothing_of_a_retired_kind_is_queued_any_more(party: Party, gone: str) -> None:
    with pytest.raises(ValueError, match="nothing does fold_paper"):
        enqueue(party, gone)
    with tenant_scope(party.id):
        assert not Job.objects.exists()


def test_every_retired_kind_ends_and_is_one_of_no_module(party: Party) -> None:
    names = kinds.kind_names(lambda kind: kind.retired)
    assert not set(names) & {name for name, _ in declared()}
    for name in names:
        row = left(party, name)
        run_job(str(row.id), str(party.id))
        assert read(party, row).result == {"note": _note(name)}


def _note(name: str) -> str:
    return next(one.note for one in retired.RETIRED if one.name == name)


def too_slow() -> OperationalError:
    error = OperationalError("canceling statement due to statement timeout")
    error.__cause__ = QueryCanceled()
    return error


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (OperationalError("server closed the connection"), 0),
        (InterfaceError("connection already closed"), 0),
        (StorageFull(), 0),
        (OSError(errno.ENOSPC, "No space left on device"), 0),
        (OSError(errno.EACCES, "Permission denied"), 1),
        (Unavailable("The store does not answer."), 0),
        (ModelUnavailable("Its files are gone."), 1),
        (too_slow(), 1),
        (ValueError("a fault of ours"), 1),
    ],
)
def test_what_is_away_for_a_while_is_no_try_of_the_job(party: Party, error: Exception, attempts: int) -> None:
    @job("meets", queue=QUEUE, label="Meets a fault")
    def meets(claimed: jobs.Claim) -> None:
        raise error

    row = enqueue(party, "meets")
    run_job(str(row.id), str(party.id))
    row = read(party, row)
    assert (row.state, row.attempts) == ("queued", attempts)


def test_how_an_attempt_failed_is_told_again_while_the_database_is_away(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, fail, rests = [OperationalError(), InterfaceError()], jobs.fail, []

    def told(claimed: jobs.Claim, **more: Any) -> bool:
        if away:
            raise away.pop()
        return fail(claimed, **more)

    @job("breaks", queue=QUEUE, label="Breaks", max_attempts=1)
    def breaks(claimed: jobs.Claim) -> None:
        raise ValueError

    monkeypatch.setattr(jobs, "fail", told)
    monkeypatch.setattr(workers.base.time, "sleep", rests.append)
    row = enqueue(party, "breaks")
    run_job(str(row.id), str(party.id))
    assert (read(party, row).state, rests) == ("failed", [1, 1])
