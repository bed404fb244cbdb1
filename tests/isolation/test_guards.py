"""What each guard between tenants forbids, one by one; and that removing some of them is noticed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client

from tenants.accounts import watchers
from tenants.datasets import storage, upload_bytes
from tenants.generation import previews
from tenants.retrieval import map_points, model_store
from tenants.retrieval.cache import async_writer
from tenants.retrieval.index import generation_files
from tenants.retrieval.query.result_page import encode_cursor
from tenants.scope import Narrowing, TenantModel, narrowed, tenant_scope
from tests.api.conftest import Api, refused
from tests.conftest import new_party
from tests.isolation.guards import EDITS, edited, narrowed_tables
from tests.isolation.world import TEXTS, World, tenant_tables

ROOT = Path(__file__).resolve().parents[2]


class Undone(Exception):
    """Ends a transaction whose changes are not wanted."""


@pytest.mark.parametrize("table", list(tenant_tables()))
def test_raw_sql_reaches_no_row_of_another_tenant(table: str, victim: World, attacker: World) -> None:
    with (
        pytest.raises(Undone),
        transaction.atomic(),
        tenant_scope(attacker.id),
        connection.cursor() as cursor,
    ):
        cursor.execute(f'SELECT count(*) FROM "{table}" WHERE tenant_id <> %s', [attacker.id])
        seen = cursor.fetchone()[0]
        written = 0
        cursor.execute("SELECT has_table_privilege(%s, 'UPDATE')", [table])
        if cursor.fetchone()[0]:
            cursor.execute(f'UPDATE "{table}" SET tenant_id = tenant_id WHERE tenant_id = %s', [victim.id])
            written = cursor.rowcount
        cursor.execute(
            "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = %s::regclass", [table]
        )
        bound = cursor.fetchone()[0]
        raise Undone
    assert (seen, written, bound) == (0, 0, True)


@pytest.mark.parametrize(("table", "policy"), narrowed_tables())
def test_raw_sql_reaches_no_row_that_a_narrowing_hides(table: str, policy: str, victim: World) -> None:
    """To a dataset and a queue in which nothing is."""
    elsewhere = (uuid.uuid4(),)
    to = Narrowing(elsewhere) if policy == "dataset_narrowing" else Narrowing(None, ("no such rule",))
    counted = f'SELECT count(*) FROM "{table}"'
    with tenant_scope(victim.id), connection.cursor() as cursor:
        cursor.execute(counted)
        held = cursor.fetchone()[0]
        with narrowed(to):
            cursor.execute(counted)
            seen = cursor.fetchone()[0]
    assert held > 0
    assert seen == 0


@pytest.mark.parametrize(("table", "model"), tenant_tables().items(), ids=list(tenant_tables()))
def test_a_manager_reaches_no_row_of_another_tenant(
    table: str, model: type[TenantModel], victim: World, attacker: World
) -> None:
    with tenant_scope(attacker.id):
        assert set(model.objects.values_list("tenant_id", flat=True)) <= {attacker.id}
        assert f'"{table}"."tenant_id" = ' in str(model.objects.all().query)


def test_a_search_of_another_tenant_takes_no_feedback(victim: World, attacker: World) -> None:
    found = victim.api.post("/search", {"text": TEXTS[0]}).json()
    async_writer.flush()
    body = {"search_id": found["search_id"], "asset": attacker.ids["asset"][0], "kind": "click"}
    refused(attacker.api.post("/feedback", body), 404, "not-found")
    # In its own workspace the search is known.
    shown = found["results"][0]["asset"]["id"]
    assert victim.api.post("/feedback", {**body, "asset": shown}).status_code == 201


def test_a_cursor_of_another_tenant_is_as_good_as_a_made_up_one(victim: World, attacker: World) -> None:
    asked = {"text": TEXTS[0], "top_k": 1}
    theirs = victim.api.post("/search", asked).json()["next"]
    async_writer.flush()
    made_up = encode_cursor(str(uuid.uuid4()), 1)
    told = [attacker.api.post("/search", {"cursor": one}) for one in (theirs, made_up)]
    problems = [
        refused(answer, answer.status_code, answer.json()["type"].rpartition(":")[2]) for answer in told
    ]
    assert told[0].status_code == told[1].status_code >= 400
    assert problems[0]["detail"] == problems[1]["detail"]
    assert victim.api.post("/search", {"cursor": theirs}).status_code == 200


def test_counts_of_a_search_are_its_tenants(victim: World) -> None:
    """An empty workspace finds nothing, whatever another one has just searched through in this process."""
    empty = new_party()
    for body in ({"text": TEXTS[0]}, {"text": TEXTS[0], "exact": True}, {"text": TEXTS[1], "hybrid": True}):
        assert victim.api.post("/search", body).json()["total_candidates"] > 0
        answer = Api(empty.token).post("/search", body).json()
        assert (answer["results"], answer["total_candidates"]) == ([], 0)


def test_paths_name_their_tenant(victim: World) -> None:
    """Of equal content, too; so nothing that is removed or found by a path is another tenant's."""
    sha, row = "ab" * 32, uuid.uuid4()
    paths = [
        *(storage.path_of(victim.id, sha, kind) for kind in storage.KINDS),
        storage.import_path(victim.id, row),
        generation_files.path_of(victim.id, row),
        str(generation_files.folder_of(victim.id, row)),
        map_points.path_of(victim.id, row),
        model_store.path_of(victim.id, f"cman-{row}:1"),
        str(upload_bytes.Folder().path(victim.id, row)),
    ]
    assert [path for path in paths if str(victim.id) not in path] == []
    assert list(storage.files_below(str(victim.id)))


def test_a_session_watches_no_stream_of_another_tenant(victim: World, attacker: World) -> None:
    http = Client()
    http.force_login(attacker.party.owner)
    watcher = watchers.by_session(str(http.session.session_key))
    assert watchers.may_watch(watcher, attacker.id)
    assert not watchers.may_watch(watcher, victim.id)


def test_a_preview_is_its_tenants(victim: World, attacker: World) -> None:
    generation = uuid.uuid4()
    previews.keep(victim.id, generation, b"picture")
    assert previews.newest(victim.id, generation) == b"picture"
    assert previews.newest(attacker.id, generation) is None


def test_an_idempotency_key_is_bound_to_its_path(attacker: World) -> None:
    api: Any = Api(attacker.party.token)
    key = uuid.uuid4().hex
    made = api.post("/datasets", {"name": key}, Idempotency_Key=key)
    assert made.status_code == 201
    other = api.post("/classifiers", {"name": key}, Idempotency_Key=key)
    refused(other, 422, "invalid")


def test_each_guard_of_the_source_stands_where_it_is_said_to_stand() -> None:
    # Else the command that takes it away would be the first to notice that it has moved.
    for module, name, old, new, _tests in EDITS:
        with edited(module, name, old, new):
            pass


@pytest.mark.slow
def test_removing_a_guard_is_noticed() -> None:
    """A few of those that `make isolation-mutations` removes; in a session of its own, as these tests are in it."""
    env = {**os.environ, "MUTATIONS": "sample", "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"}
    for name in (
        "DATA_DIR",
        "DATABASE_URL",
        "REDIS_URL",
        "OPERATOR_DATABASE_URL",
        "MIGRATION_DATABASE_URL",
        "SECRET_KEY",
    ):
        env.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.isolation.mutating"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-2_000:]
    counted = re.search(r"^all +(\d+) +(\d+)", done.stdout, re.MULTILINE)
    assert counted is not None, done.stdout[-2_000:]
    assert counted.groups() == ("7", "7")
