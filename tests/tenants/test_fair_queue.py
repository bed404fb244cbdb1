"""Fair share: whose job a worker gets next."""

from __future__ import annotations

import secrets
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from tenants.jobs import fair_queue
from tenants.jobs import services as jobs
from tenants.jobs.models import Job, JobDispatch, JobTurn

LOW, NORMAL, HIGH = Job.Priority.values


@pytest.fixture
def queue():
    """A queue of its own, as other tests leave jobs in those of the product."""
    name = f"q-{secrets.token_hex(6)}"
    yield name
    JobDispatch.objects.filter(queue=name).delete()
    JobTurn.objects.filter(queue=name).delete()


class Line:
    """Jobs by a name such as a3: the third of tenant a."""

    def __init__(self, queue: str) -> None:
        self.queue, self.names = queue, {}
        self.tenants: dict[str, uuid.UUID] = {}
        self.begun = timezone.now()

    def put(self, *names: str, priority: int = NORMAL) -> None:
        for name in names:
            tenant = self.tenants.setdefault(name[0], uuid.uuid4())
            job = Job(kind="embed_asset", tenant_id=tenant, priority=priority)
            self.names[job.id] = name
            fair_queue.enqueue(job, self.queue, since=self.begun + timedelta(milliseconds=len(self.names)))

    def take(self, count: int = 1) -> list[str]:
        taken = [fair_queue.dequeue(self.queue) for _ in range(count)]
        return [self.names[one.job_id] for one in taken if one]

    def end(self, name: str) -> None:
        found = next(job for job, known in self.names.items() if known == name)
        JobDispatch.objects.filter(job_id=found).delete()

    def row(self, name: str) -> JobDispatch:
        return JobDispatch.objects.get(job_id=next(j for j, known in self.names.items() if known == name))


@pytest.fixture
def line(queue) -> Line:
    return Line(queue)


def test_an_empty_queue_has_no_turn(queue) -> None:
    assert fair_queue.dequeue(queue) is None


def test_one_tenant_is_served_in_order(line) -> None:
    line.put("a1", "a2", "a3")
    assert line.take(4) == ["a1", "a2", "a3"]


def test_a_small_tenant_comes_in_between(line) -> None:
    line.put(*(f"a{n}" for n in range(1, 10)))
    assert line.take(3) == ["a1", "a2", "a3"]
    line.put("b1", "b2", "b3")
    assert line.take(6) == ["b1", "a4", "b2", "a5", "b3", "a6"]


def test_three_tenants_share_alike(line) -> None:
    line.put(*(f"{tenant}{n}" for tenant in "abc" for n in range(1, 31)))
    assert Counter(name[0] for name in line.take(30)) == {"a": 10, "b": 10, "c": 10}


def test_a_tenant_that_comes_back_again_and_again_starves_nobody(line) -> None:
    """Two that always have one waiting, and forget nothing: the third is served in turn."""
    line.put("a1", "a2", "a3", "b1", "d1")
    served = []
    for number in range(2, 12):
        served += line.take()
        line.end(served[-1])
        if served[-1][0] in "bd":
            line.put(f"{served[-1][0]}{number}")
    assert [served.index(name) < 9 for name in ("a1", "a2", "a3")] == [True] * 3


def test_priority_orders_the_jobs_of_a_tenant(line) -> None:
    line.put("a1", "a2")
    line.put("a3", priority=LOW)
    line.put("a4")
    line.put("a5", priority=HIGH)
    assert line.take(5) == ["a5", "a1", "a2", "a4", "a3"]


def test_priority_takes_nothing_from_another_tenant(line) -> None:
    line.put("a1", "b1", "b2")
    line.put(*(f"a{n}" for n in range(2, 6)), priority=HIGH)
    assert line.take(4) == ["a2", "b1", "a3", "b2"]
    # The overtaken ones still have their tenant's turns.
    line.put("b3")
    assert Counter(name[0] for name in line.take(4)) == {"a": 3, "b": 1}


def test_low_is_late_and_not_never(line) -> None:
    line.put("a1", priority=LOW)
    line.begun += fair_queue.STEP + timedelta(seconds=1)
    line.put("a2")
    assert line.take(2) == ["a1", "a2"]


def test_a_place_can_be_changed(line) -> None:
    line.put("a1", "a2", "a3")
    fair_queue.reprioritise(Job(id=line.row("a3").job_id), steps=1)
    fair_queue.reprioritise(Job(id=line.row("a1").job_id), steps=-1)
    assert line.take(3) == ["a3", "a2", "a1"]


def test_a_worker_that_dies_before_its_claim_loses_nothing(line, settings) -> None:
    settings.JOB_RESEND_S = 0
    line.put("a1", "a2")
    assert line.take() == ["a1"]
    assert fair_queue.dequeue(line.queue) is not None
    assert fair_queue.dequeue(line.queue) is None
    fair_queue.requeue_due(limit=1_000_000)
    assert line.take(3) == ["a1", "a2"]


def test_what_wakes_together_is_spread_over_the_turns(line) -> None:
    line.put(*(f"a{n}" for n in range(1, 6)))
    past = timezone.now() - timedelta(seconds=1)
    JobDispatch.objects.filter(queue=line.queue).update(waiting=False, due_at=past)
    fair_queue.requeue_due(limit=1_000_000)
    line.put("b1", "b2")
    assert line.take(4) == ["a1", "b1", "a2", "b2"]


def test_what_sleeps_is_not_taken(line) -> None:
    line.put("a1")
    fair_queue.hide(line.row("a1").job_id, timezone.now() + timedelta(minutes=5))
    fair_queue.requeue_due(limit=1_000_000)
    assert line.take() == []


def test_a_worker_hears_whether_more_waits(line) -> None:
    line.put("a1", "b1")
    assert [fair_queue.dequeue(line.queue).more for _ in range(2)] == [True, False]


def test_workers_beside_each_other_never_get_the_same_job(line) -> None:
    line.put(*(f"{tenant}{n}" for tenant in "abcdefgh" for n in range(1, 31)))

    def work(_: int) -> list[str]:
        try:
            return line.take(35)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        taken = [name for names in pool.map(work, range(8)) for name in names]
    assert sorted(taken) == sorted(line.names.values())


def test_a_take_waits_for_nobody_who_holds_a_row(line) -> None:
    """Whoever cancels a job locks it and then its row; a worker must go past."""
    line.put("a1", "a2")

    def take(_: int) -> list[str]:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '2s'")
            return line.take()
        finally:
            connection.close()

    with jobs.transaction.atomic(), ThreadPoolExecutor(1) as pool:
        JobDispatch.objects.select_for_update().get(pk=line.row("a1").pk)
        assert list(pool.map(take, [0])) == [["a2"]]


def test_a_duplicate_row_is_one_row(line) -> None:
    line.put("a1")
    job = Job(id=line.row("a1").job_id, kind="embed_asset", tenant_id=line.tenants["a"])
    fair_queue.enqueue(job, line.queue, since=timezone.now())
    assert line.take(2) == ["a1"]


# With the queue and the tenant as values.
STATEMENTS = {
    "take": "SELECT * FROM job_take(%(queue)s, interval '15 s')",
    "put": "SELECT job_put(gen_random_uuid(), %(big)s, 'embed_asset', %(queue)s, now())",
}


def test_a_hundred_thousand_rows_and_thousands_of_tenants_cost_index_look_ups(line) -> None:
    values = {"big": uuid.uuid4(), "queue": line.queue}
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO job_dispatch (job_id, tenant_id, kind, queue, waiting, turn, place, due_at)
            SELECT gen_random_uuid(), CASE WHEN n %% 20 > 0 THEN %(big)s::uuid ELSE gen_random_uuid() END,
                   'embed_asset', %(queue)s, true, n, now() + n * interval '1 ms', now()
            FROM generate_series(1, 100000) n""",
            values,
        )
        for _ in range(8):
            # Later ones are planned once for all.
            assert fair_queue.dequeue(line.queue)
        touched = {name: _pages(cursor, statement, values) for name, statement in STATEMENTS.items()}
    assert {name: pages for name, pages in touched.items() if pages > 150} == {}


def _pages(cursor, statement: str, values: dict[str, object]) -> int:
    """How many pages it touches: some thousands where no index fits."""
    cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", values)
    buffers = next(row[0] for row in cursor.fetchall() if "Buffers:" in row[0])
    return sum(int(part.partition("=")[2]) for part in buffers.split() if part.startswith(("hit=", "read=")))
