"""A tenant of a running stack whom two clients keep busy, and what lies behind the API: its index's rows and files."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg2
from celery import Celery

from ml.indexes.generation import open_generation
from standalone.stack import Stack
from tests.flows.client import Client
from tests.flows.ledger import Ledger, Searcher, Writer, text_of
from tests.waiting import answers, until

ROOT = Path(__file__).resolve().parents[2]
# A hundred vectors make an index here; what has more than EXACT_MAX is not searched without one.
FLAT_MAX, EXACT_MAX, LARGE = 80, 450, 480
ROWS = 200
ENV = {
    "JOB_LEASE_S": "4",
    "JOB_RESEND_S": "2",
    "JOB_SWEEP_S": "1",
    "INDEX_FLAT_MAX": str(FLAT_MAX),
    "INDEX_EXACT_MAX": str(EXACT_MAX),
    # Indexes do not care whose vectors they hold, and it is loaded and encodes sooner.
    "DEFAULT_MODEL": "prior-2",
}
# Numbers given out since a generation ends that make the next one due.
DUE = 50
PATIENCE_S = 60


class Workspace:
    """A tenant of the stack: its client, and what lies behind the API."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.slug = stack, f"t-{secrets.token_hex(6)}"
        printed = self.manage(
            "create_tenant", self.slug, "--owner", f"o@{self.slug}.example", "--plan", "demo"
        )
        token = next(line.split()[-1] for line in printed.splitlines() if line.startswith("api key"))
        self.client = Client(stack.base_url, token)
        self.dataset = self.client.dataset("faults")
        self.id = self._query("SELECT id::text FROM tenant WHERE slug = %s", self.slug, tenant="")[0][0]

    def manage(self, *arguments: str) -> str:
        env = {**os.environ, **self.stack.env, **ENV, "DATA_DIR": str(self.stack.data_dir)}
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fill(self, count: int) -> None:
        """Import so many texts."""
        rows = [{"id": str(n), "text": text_of(n), "n": n} for n in range(count)]
        content = "\n".join(map(json.dumps, rows)).encode()
        path = f"/datasets/{self.dataset}/imports"
        answer = self.client.json("POST", path, 202, files={"file": ("rows.jsonl", content)})
        job = self.client.wait(answer["job"], PATIENCE_S)
        assert (job["state"], job["result"]["imported"]) == ("succeeded", count), job

    def between(self, low: int, high: int) -> dict[str, int]:
        """All that a search with a filter finds, and its number, for numbers from `low` to below `high`."""
        found: dict[str, int] = {}
        for start in range(low, high, 200):
            only = {"n": {"gte": start, "lt": min(start + 200, high)}}
            answer = self.client.search(text="anything", filter=only, top_k=200)
            for result in answer["results"]:
                found[result["asset"]["id"]] = result["asset"]["metadata"]["n"]
        return found

    def _query(self, statement: str, *values: object, tenant: str | None = None) -> list[tuple]:
        connection = psycopg2.connect(self.stack.env["DATABASE_URL"])
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(
                    "SELECT set_config('app.tenant', %s, true)", [self.id if tenant is None else tenant]
                )
                cursor.execute(statement, values)
                return cursor.fetchall()
        finally:
            connection.close()

    def query(self, statement: str, *values: object) -> list[tuple]:
        """Of the tenant's own rows; waits for a database that is just starting."""
        rows: list[tuple] = []

        def ask() -> None:
            rows[:] = self._query(statement, *values)

        until(answers(ask, psycopg2.OperationalError), message=f"no answer to {statement}")
        return rows

    # --- The index ---------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        return self.stack.data_dir / "indexes" / str(self.id)

    def pointer(self) -> tuple[str | None, str | None]:
        """The generation that answers and the one before it."""
        rows = self.query("SELECT current_id::text, previous_id::text FROM index_pointer")
        return rows[0] if rows else (None, None)

    def current(self) -> str | None:
        return self.pointer()[0]

    def job(self, job_id: str) -> tuple[str, int]:
        return self.query("SELECT state, attempts FROM job WHERE id = %s", job_id)[0]

    def unfinished(self) -> list[tuple]:
        return self.query("SELECT id FROM job WHERE kind = 'build_index' AND state IN ('queued', 'running')")

    def await_index(self, other_than: str | None = None) -> str:
        """Wait until no build is due or under way and a generation answers, and another one than that."""
        until(
            lambda: self.current() not in (None, other_than) and not self.unfinished(),
            PATIENCE_S,
            lambda: f"no index: {self.told()}",
        )
        return str(self.current())

    def told(self) -> str:
        jobs = self.query(
            "SELECT state, attempts, error::text, result::text FROM job WHERE kind = 'build_index' ORDER BY id"
        )
        rows = self.query("SELECT id, state, reason FROM index_generation ORDER BY created_at")
        log = self.stack.log_tail("worker-general")
        return f"jobs {jobs}\ngenerations {rows}\npointer {self.pointer()}\nchanges {self.changed()}\n{log}"

    def upkeep(self) -> None:
        """What the scheduler does every five minutes, now."""
        app = Celery(broker=self.stack.env["BROKER_URL"], set_as_current=False)
        app.send_task("workers.collect_garbage", queue="system")

    def builders(self) -> list[psutil.Process]:
        """Processes that build an index of this tenant."""
        with suppress(psutil.NoSuchProcess, TypeError):
            children = psutil.Process(self.stack.pid("worker-general")).children(recursive=True)
            return [child for child in children if str(self.folder) in " ".join(_arguments(child))]
        return []

    def changed(self) -> int:
        """Numbers given out since the generation that answers ends."""
        return self.query(
            "SELECT max(c.last - g.seq) FROM vector_clock c, index_pointer p, index_generation g"
            " WHERE g.id = p.current_id"
        )[0][0]

    def caught(self) -> psutil.Process:
        """A builder, stopped in the middle of its work."""
        builders = until(self.builders, message=lambda: f"nothing is built: {self.told()}", every_s=0.002)
        builders[0].suspend()
        return builders[0]

    @contextmanager
    def building(self) -> Iterator[tuple[str, psutil.Process]]:
        """A build that is due, kept from getting further until the end of the block: its job and its builder."""
        # Several requests and a job each, on a machine that may be busy.
        until(lambda: self.changed() > DUE, 180, lambda: f"nobody writes: {self.told()}")
        self.upkeep()
        builder = self.caught()
        try:
            yield str(self.unfinished()[0][0]), builder
        finally:
            with suppress(psutil.NoSuchProcess):
                builder.resume()


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


class World(Workspace):
    """A tenant whom two clients keep busy."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        self.ledger = Ledger()
        self.fill(ROWS)
        self.ledger.kept = self.between(0, ROWS)
        self.upkeep()
        self.await_index()
        self.writer = Writer(self.client, self.ledger, self.dataset, ROWS)
        self.searcher = Searcher(self.client, self.ledger, seed=2)

    def check(self) -> None:
        """What the clients were told is what is there, in an index that is whole, and nothing else is left."""
        with self.writer.still, self.searcher.still:
            self.writer.settle(PATIENCE_S)
            assert not self.ledger.pending, self.told()
            self._check_answers()
        self._check_index()

    def _check_answers(self) -> None:
        found = self.between(0, self.writer.number + 1)
        kept, deleted = self.ledger.kept, self.ledger.deleted
        assert kept and deleted, self.ledger.answers
        assert sorted(kept.keys() - found.keys()) == []
        assert sorted(found.keys() & deleted.keys()) == []
        assert (
            self.client.search(text="anything")["index"]["size"]
            == self.query("SELECT count(*) FROM vector")[0][0]
        )
        assert self.ledger.wrong == []

    def _check_index(self) -> None:
        current = self.await_index()
        assert open_generation(self.folder / current).manifest.recall >= 0.99
        self.upkeep()
        until(self._is_tidy, message=lambda: f"{list(self.folder.iterdir())}, {self.told()}")
        # What an answer came from was published, or was no generation.
        ready = {
            row[0] for row in self.query("SELECT id::text FROM index_generation WHERE ready_at IS NOT NULL")
        }
        assert {one for one in self.ledger.generations if not one.isdigit()} <= ready

    def _is_tidy(self) -> bool:
        building = self.query("SELECT count(*) FROM index_generation WHERE state = 'building'")[0][0]
        names = {path.name for path in self.folder.iterdir()}
        current, previous = self.pointer()
        # The one before is here unless this host lost it: it is fetched when somebody goes back to it.
        return not building and {current} <= names <= {current, previous}
