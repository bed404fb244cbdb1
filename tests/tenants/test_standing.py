"""Standing queries: what arrives is told once, by the same rules as a search finds it; models, pauses, people."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ml.alignment.relevance import Curve, Relevance
from ml.standing import Arrived, QueryTable
from ml.standing import StandingQuery as Entry
from standalone import demo
from tenants.clock import shared_now
from tenants.datasets.models import Asset
from tenants.datasets.services import create_dataset
from tenants.errors import Conflict, Invalid
from tenants.events import endpoints, webhooks
from tenants.events.models import WebhookDelivery, WebhookEvent
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import add_asset, delete_asset
from tenants.pipeline.upkeep.periodic import _tend
from tenants.retrieval import model_routing, saved, standing
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.models import (
    StandingAlert,
    StandingArrival,
    StandingQuery,
    StandingVector,
)
from tenants.retrieval.query import encoding, lexical
from tenants.scope import Narrowing, narrowed, tenant_scope
from tests.conftest import ROOT, Party
from tests.relevance import RELEVANCE, WORDS, at_score
from tests.tenants.second_model import keep_turned
from workers.base import run_job

WHO = saved.Who("key:x")
Put = Callable[..., uuid.UUID]


@pytest.fixture(autouse=True)
def _calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding.space(), "relevance", RELEVANCE)


@pytest.fixture
def dataset(party: Party) -> uuid.UUID:
    with tenant_scope(party.id):
        return create_dataset(name="d").id


@pytest.fixture
def put(party: Party, dataset: uuid.UUID) -> Put:
    """Make an asset ready with one vector that has a score for WORDS, as `make_ready` does; its id."""

    def put(score: float, kind: str = "image", said: str = "", place: Any = None, **given: Any) -> uuid.UUID:
        with tenant_scope(party.id):
            added = add_asset(dataset_id=place or dataset, text=said or uuid.uuid4().hex, **given).asset
            Asset.objects.filter(pk=added.id).update(modality=kind, status="ready")
            asset = Asset.objects.get(pk=added.id)
            vector = NewVector(kind, at_score(score, seed=asset.id.int % 2**32), {"start_s": 1, "end_s": 2})
            replace_vectors(asset=asset, model=encoding.model_id(), vectors=[vector])
            if said:
                lexical.index_texts([lexical.Entry(asset.id, asset.dataset_id, kind, said)])
            standing.note_arrivals([asset.id])
        return asset.id

    return put


def ask(
    party: Party, query: dict[str, Any] | None = None, min_score: float | None = None, **given: Any
) -> uuid.UUID:
    prepared = standing.prepare(tenant_id=party.id, query=query or {"text": WORDS}, min_score=min_score)
    with tenant_scope(party.id):
        return standing.create_standing(who=WHO, name="apples", prepared=prepared, **given).id


def run_all(party: Party) -> list[dict[str, Any]]:
    """Run what is queued, as workers do; the results."""
    with tenant_scope(party.id):
        waiting = list(Job.objects.filter(kind=standing.JOB, state="queued").values_list("pk", flat=True))
    for job in waiting:
        run_job(str(job), str(party.id))
    with tenant_scope(party.id):
        return list(Job.objects.filter(pk__in=waiting).values_list("result", flat=True))


def alerts(party: Party) -> list[tuple[uuid.UUID, uuid.UUID]]:
    with tenant_scope(party.id):
        rows = StandingAlert.objects.order_by("id")
        return list(rows.values_list("standing_query_id", "asset_id"))


# --- What is told --------------------------------------------------------------------------------------------


def test_what_is_likely_enough_is_told_once_and_what_was_there_is_not(party: Party, put: Put) -> None:
    put(0.3)
    query = ask(party)
    assert run_all(party) == []
    found, _weak = put(0.25), put(0.1)
    assert run_all(party) == [{"assets": 2, "alerts": 1}]
    assert alerts(party) == [(query, found)]
    with tenant_scope(party.id):
        row = standing.list_alerts(WHO).get()
        shape = standing.alert_shape(row)
        assert (round(shape.score or 0, 3), shape.relevance, shape.read) == (0.25, 0.8808, False)
        assert (shape.matched.modality, shape.matched.segment) == ("image", {"start_s": 1, "end_s": 2})
        # Embedded anew, it is no news.
        standing.note_arrivals([found])
    assert run_all(party) == [{"assets": 1, "alerts": 0}]
    assert alerts(party) == [(query, found)]
    with tenant_scope(party.id):
        assert not StandingArrival.objects.exists()


def test_a_demo_tenant_has_one_before_its_files(party: Party, put: Put) -> None:
    for _ in range(2):
        demo.stand(party.tenant, party.owner, WORDS)
    found = put(0.3)
    run_all(party)
    with tenant_scope(party.id):
        row = StandingQuery.objects.get()
        assert (row.name, row.owner.user) == (WORDS.capitalize(), party.owner)
        assert alerts(party) == [(row.pk, found)]


def test_a_text_that_holds_all_words_is_as_likely_as_words_make_it(party: Party, put: Put) -> None:
    query = ask(party)
    held, _some = put(0.3, "text", "apples are ripe, two of them"), put(0.3, "text", "ripe apples")
    run_all(party)
    assert alerts(party) == [(query, held)]
    with tenant_scope(party.id):
        assert StandingAlert.objects.get().relevance == RELEVANCE.words


def test_filters_datasets_kinds_and_named_assets_hold_as_in_a_search(
    party: Party, put: Put, dataset: uuid.UUID
) -> None:
    with tenant_scope(party.id):
        other = create_dataset(name="other").id
    red = ask(party, {"text": WORDS, "filter": {"colour": "red"}})
    there = ask(party, {"text": WORDS, "datasets": [str(other)]})
    films = ask(party, {"text": WORDS, "modalities": ["video"]})
    alone = ask(party, {"filter": {"colour": {"in": ["red", "blue"]}}})
    one, two = put(0.3, values={"colour": "red"}), put(0.3, "video", place=other)
    three = put(-0.2, values={"colour": "blue"})
    run_all(party)
    assert set(alerts(party)) == {(red, one), (alone, one), (alone, three), (there, two), (films, two)}
    with tenant_scope(party.id):
        assert StandingAlert.objects.get(asset=three).score is None


def test_what_was_made_here_is_told_where_it_is_asked_for(party: Party, put: Put) -> None:
    usual = ask(party)
    both, only = (ask(party, {"text": WORDS, "generated": which}) for which in ("include", "only"))
    any_made = ask(party, {"generated": "only"})
    made, other = put(0.3), put(0.31)
    with tenant_scope(party.id):
        Asset.objects.filter(pk=made).update(generation_id=uuid.uuid4())
    run_all(party)
    wanted = {(usual, other), (both, made), (both, other), (only, made), (any_made, made)}
    assert set(alerts(party)) == wanted


def test_what_is_not_wanted_leaves_relevance_unknown(party: Party, put: Put) -> None:
    unlike = {"text": WORDS, "unlike": {"text": "pears"}}
    with pytest.raises(Invalid, match="send min_score instead of min_relevance"):
        ask(party, {**unlike, "min_relevance": 0.5})
    query = ask(party, unlike, min_score=-1.0)
    found = put(0.3)
    run_all(party)
    with tenant_scope(party.id):
        assert list(StandingAlert.objects.values_list("standing_query", "asset", "relevance")) == [
            (query, found, None)
        ]


def test_likeness_asks_by_a_score_and_leaves_out_what_it_names(party: Party, put: Put) -> None:
    named = put(0.9)
    with pytest.raises(Invalid, match="too few assets"):
        ask(party, {"like": {"assets": [str(named)]}})
    with pytest.raises(Invalid, match="min_score"):
        ask(party, {"like": {"assets": [str(named)]}, "min_relevance": 0.5})
    query = ask(party, {"like": {"assets": [str(named)]}}, min_score=0.6)
    near, _far = put(0.88), put(0.1)
    with tenant_scope(party.id):
        standing.note_arrivals([named])
    run_all(party)
    assert alerts(party) == [(query, near)]
    for _ in range(9):
        put(0.2)
    usual = ask(party, {"like": {"assets": [str(near)]}})
    with tenant_scope(party.id):
        vector = StandingVector.objects.get(standing_query=usual)
        assert (vector.asked, 0 < vector.least < 0.6) == ("", True)


def test_paused_ones_are_told_nothing_and_muted_ones_tell_no_webhook(party: Party, put: Put) -> None:
    with tenant_scope(party.id):
        endpoints.create_webhook(
            url="https://hooks.example/", events=["standing_query.matched"], actor="key:x"
        )
    loud, quiet, paused = ask(party), ask(party, muted=True), ask(party)
    with tenant_scope(party.id):
        standing.change_standing(who=WHO, standing_id=paused, state="paused")
    asset = put(0.3)
    run_all(party)
    assert set(alerts(party)) == {(loud, asset), (quiet, asset)}
    with tenant_scope(party.id):
        event = WebhookEvent.objects.get()
        row = StandingAlert.objects.get(standing_query=loud)
        assert event.id == row.id
        assert json.loads(event.body)["data"] == {
            "alert": str(row.id),
            "standing_query": str(loud),
            "asset": str(asset),
            "dataset": str(row.asset.dataset_id),
            "score": row.score,
            "relevance": round(row.relevance, 4),
            "matched": {"modality": "image", "segment": {"start_s": 1, "end_s": 2}},
        }
        assert WebhookDelivery.objects.get().event_id == row.id
        standing.change_standing(who=WHO, standing_id=paused, state="active")
        standing.note_arrivals([asset])
    run_all(party)
    # It arrived once more after the pause; what came while it was paused alone is not told.
    assert (paused, asset) in alerts(party)


def test_the_alerts_of_an_hour_are_told_once_and_together(
    party: Party, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tenant_scope(party.id):
        endpoints.create_webhook(
            url="https://hooks.example/",
            events=["standing_query.matched", "standing_query.digest"],
            actor="key:x",
        )
    monkeypatch.setattr(standing, "IN_DIGEST", 2)
    hourly, quiet = ask(party, frequency="hourly"), ask(party, frequency="hourly")
    assets = [put(0.3) for _ in range(3)]
    blocked = put(0.3)
    run_all(party)
    with tenant_scope(party.id):
        standing.change_standing(who=WHO, standing_id=quiet, muted=True)
        Asset.objects.filter(pk=blocked).update(moderation="block")
        # Its hour goes on.
        assert (standing.send_digests(), WebhookEvent.objects.count()) == (0, 0)
        until = shared_now().replace(minute=0, second=0, microsecond=0)
        StandingAlert.objects.update(created_at=until - dt.timedelta(minutes=1))
        assert [standing.send_digests(), standing.send_digests()] == [1, 0]
        event = WebhookEvent.objects.get()
        assert (event.id, event.type) == (uuid.uuid5(hourly, until.isoformat()), "standing_query.digest")
        said = json.loads(event.body)["data"]
        assert (said["standing_query"], said["count"]) == (str(hourly), 3)
        assert (said["until"], said["alerts"][0]["at"]) == (
            webhooks.moment(until),
            webhooks.moment(until - dt.timedelta(minutes=1)),
        )
        assert [one["asset"] for one in said["alerts"]] == [str(one) for one in assets[:0:-1]]
        assert not StandingAlert.objects.filter(digest=True).exists()
    # What is stored late for an hour that was told goes with the next.
    late = put(0.3)
    run_all(party)
    with tenant_scope(party.id):
        StandingAlert.objects.filter(asset=late).update(created_at=until - dt.timedelta(minutes=1))
        assert standing.send_digests() == 0
        StandingQuery.objects.update(digested=until - dt.timedelta(hours=1))
        WebhookEvent.objects.all().delete()
    _tend([party.id], 0)
    with tenant_scope(party.id):
        assert json.loads(WebhookEvent.objects.get().body)["data"]["alerts"][0]["asset"] == str(late)


def test_what_is_not_for_the_inbox_is_read_from_the_beginning(party: Party, put: Put) -> None:
    ask(party, inbox=False)
    put(0.3)
    run_all(party)
    with tenant_scope(party.id):
        assert (standing.count_unread(WHO, 9), standing.list_alerts(WHO, read=True).count()) == (0, 1)


def test_what_is_held_back_or_gone_is_not_told(party: Party, put: Put) -> None:
    ask(party)
    blocked, gone = put(0.3), put(0.3)
    with tenant_scope(party.id):
        Asset.objects.filter(pk=blocked).update(moderation="quarantined")
        delete_asset(asset_id=gone, actor="key:x")
    run_all(party)
    assert alerts(party) == []
    shown = put(0.3)
    run_all(party)
    with tenant_scope(party.id):
        Asset.objects.filter(pk=shown).update(moderation="block")
        assert StandingAlert.objects.count() == 1
        assert not standing.list_alerts(WHO).exists()


def test_a_query_that_was_deleted_or_changed_meanwhile_is_asked_as_it_is(party: Party, put: Put) -> None:
    gone, changed = ask(party), ask(party)
    put(0.3)
    run_all(party)
    assert len(alerts(party)) == 2
    other = standing.prepare(tenant_id=party.id, query={"text": WORDS, "min_relevance": 0.99})
    with tenant_scope(party.id):
        standing.delete_standing(who=WHO, standing_id=gone)
        standing.change_standing(who=WHO, standing_id=changed, prepared=other)
    put(0.3)
    run_all(party)
    assert len(alerts(party)) == 1
    likely = put(0.4)
    run_all(party)
    assert alerts(party)[1:] == [(changed, likely)]


def test_one_job_waits_however_much_arrives(party: Party, put: Put) -> None:
    put(0.3)
    with tenant_scope(party.id):
        assert not Job.objects.filter(kind=standing.JOB).exists()
    ask(party)
    for _ in range(3):
        put(0.3)
    with tenant_scope(party.id):
        assert Job.objects.filter(kind=standing.JOB).count() == 1
        # A message that got lost is found by upkeep.
        Job.objects.filter(kind=standing.JOB).update(state="failed")
    _tend([party.id], 0)
    assert run_all(party) == [{"assets": 3, "alerts": 3}]


# --- Models ------------------------------------------------------------------------------------------------


def test_a_new_model_asks_the_same_queries_from_its_switch_on(
    party: Party, put: Put, tmp_path, monkeypatch
) -> None:
    before = ask(party)
    model = keep_turned(party.id, tmp_path)
    space = model_routing.space(model, party.id)
    monkeypatch.setattr(space, "relevance", RELEVANCE)
    with tenant_scope(party.id):
        model_routing.begin_dual_write(model)
    after = ask(party)
    with tenant_scope(party.id):
        assert model_routing.unasked(model) == 1
        with pytest.raises(model_routing.Missing, match="1 standing query is not encoded"):
            model_routing.switch(model)
    assert standing.encode_missing(party.id, model, is_over=lambda: False)
    with tenant_scope(party.id):
        model_routing.switch(model)
        rows = StandingVector.objects.filter(model=model)
        assert set(rows.values_list("standing_query_id", flat=True)) == {before, after}
        turned = {bytes(data) for data in rows.values_list("data", flat=True)}
        assert turned == {space.embed_texts([WORDS])[0].astype("<f4").tobytes()}
        assert set(rows.values_list("asked", "least")) == {("text", RELEVANCE.line)}
        assert not StandingQuery.objects.exclude(problem="").exists()


def test_a_model_without_relevance_asks_for_what_is_as_alike_as_the_best_ten(
    party: Party, put: Put, tmp_path
) -> None:
    query = ask(party)
    model = keep_turned(party.id, tmp_path)
    with tenant_scope(party.id):
        model_routing.begin_dual_write(model)
    assert standing.encode_missing(party.id, model, is_over=lambda: False)
    with tenant_scope(party.id):
        model_routing.switch(model)
        row = StandingQuery.objects.get(pk=query)
        assert "too few assets" in row.problem
        assert row.state == "active"
        model_routing.roll_back()
        assert StandingQuery.objects.get(pk=query).problem == ""
    found = put(0.3)
    run_all(party)
    assert alerts(party) == [(query, found)]


def test_an_asset_that_a_query_asks_by_takes_its_vector_with_it(party: Party, put: Put) -> None:
    named = put(0.9)
    query = ask(party, {"like": {"assets": [str(named)]}}, min_score=0.6)
    with tenant_scope(party.id):
        delete_asset(asset_id=named, actor="key:x")
        standing.tidy()
        row = StandingQuery.objects.get(pk=query)
        assert (row.state, row.problem) == ("paused", "An asset that it asks by was deleted.")
        assert bytes(StandingVector.objects.get().data) == b""
        with pytest.raises(Conflict, match="Change its search first"):
            standing.change_standing(who=WHO, standing_id=query, state="active")


# --- People ------------------------------------------------------------------------------------------------


def test_who_is_narrowed_sees_alerts_of_their_datasets_alone(
    party: Party, put: Put, dataset: uuid.UUID
) -> None:
    with tenant_scope(party.id):
        other = create_dataset(name="other").id
    everywhere, here = ask(party), ask(party, {"text": WORDS, "datasets": [str(dataset)]})
    seen, hidden = put(0.3), put(0.3, place=other)
    run_all(party)
    assert set(alerts(party)) == {(everywhere, seen), (everywhere, hidden), (here, seen)}
    with narrowed(Narrowing((dataset,))), tenant_scope(party.id):
        assert list(standing.list_standing(WHO).values_list("pk", flat=True)) == [here]
        assert list(standing.list_alerts(WHO).values_list("asset_id", flat=True)) == [seen]
        assert standing.mark_read(WHO) == 1
    with narrowed(Narrowing((other,))), tenant_scope(party.id):
        assert not standing.list_standing(WHO).exists()
        assert not standing.list_alerts(WHO).exists()
    with tenant_scope(party.id):
        assert standing.count_unread(WHO, 100) == 2


# --- Killed ------------------------------------------------------------------------------------------------

WORKER = """
import os, signal, sys, django
django.setup()
from django.conf import settings
settings.DEFAULT_MODEL = "prior:2"
from tests.relevance import RELEVANCE
from tenants.retrieval import standing_matching as matching
from tenants.retrieval.query import encoding
from tenants.events import webhooks
from workers.base import run_job
encoding.space().relevance = RELEVANCE
matching.ASSETS = 4
place, left = sys.argv[3], int(sys.argv[4])
def dying(module, name):
    kept = getattr(module, name)
    def call(*given, **named):
        global left
        found = kept(*given, **named)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    setattr(module, name, call)
dying(*{"matched": (matching, "_match"), "stored": (webhooks, "emit_all"), "ended": (matching.jobs, "progress")}[place])
run_job(sys.argv[1], sys.argv[2])
"""


def test_a_worker_that_is_killed_loses_and_doubles_nothing(party: Party, put: Put) -> None:
    """Kill -9 while it compares, once it has stored, and between two batches. STANDING_KILLS=50 for more."""
    kills = int(os.environ.get("STANDING_KILLS", "3"))
    with tenant_scope(party.id):
        endpoints.create_webhook(
            url="https://hooks.example/", events=["standing_query.matched"], actor="key:x"
        )
    queries = {ask(party) for _ in range(2)}
    assets = {put(0.3) for _ in range(6 + 8 * kills)}
    with tenant_scope(party.id):
        job = Job.objects.get(kind=standing.JOB)
    for number in range(kills):
        with tenant_scope(party.id):
            Job.objects.filter(pk=job.pk).update(state="queued", lease_until=None, attempts=0)
        place = ("matched", "stored", "ended")[number % 3]
        ended = subprocess.run(
            [sys.executable, "-c", WORKER, str(job.pk), str(party.id), place, str(1 + number % 2)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"},
            check=False,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    with tenant_scope(party.id):
        Job.objects.filter(pk=job.pk).update(state="queued", lease_until=None, attempts=0)
    run_job(str(job.pk), str(party.id))
    wanted = {(query, asset) for query in queries for asset in assets}
    assert len(alerts(party)) == len(wanted)
    assert set(alerts(party)) == wanted
    with tenant_scope(party.id):
        events = set(WebhookEvent.objects.values_list("pk", flat=True))
        assert events == set(StandingAlert.objects.values_list("pk", flat=True))
        assert WebhookDelivery.objects.count() == len(wanted)


# --- One product over all of them --------------------------------------------------------------------------


def test_the_product_finds_what_comparing_each_with_each_finds() -> None:
    draw = np.random.default_rng(7)
    foreign = {("text", "image"): Curve(30.0, 0.4), ("text", "text"): Curve(15.0, 0.5)}
    relevance = replace(RELEVANCE, foreign=foreign)
    curves = {"text": relevance, "image": relevance}

    def unit(count: int) -> np.ndarray:
        rows = draw.standard_normal((count, 32)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    vectors, asked = unit(3_000), ["text", "image", ""]
    entries = [
        Entry(uuid.UUID(int=n), vectors[n], asked[n % 3], [0.5, 0.4, 0.45][n % 3], familiar=n % 7 / 6)
        for n in range(3_000)
    ]
    table = QueryTable(32)
    table.put(entries)
    # One again, in its place.
    table.put(entries[:10])
    new = [Arrived(unit(1 + n % 3), (["image", "text", "video"] * 2)[: 1 + n % 3]) for n in range(32)]
    found = {(one.query.int, one.asset) for one in table.match(new, curves)}
    assert len(table) == 3_000
    assert found == _one_by_one(entries, new, relevance)
    assert len(found) > 100


def _one_by_one(entries: list[Entry], new: list[Arrived], curve: Relevance) -> set[tuple[int, int]]:
    found = set()
    for place, asset in enumerate(new):
        for entry in entries:
            scores = asset.vectors.astype(np.float64) @ entry.vector.astype(np.float64)
            part = int(scores.argmax())
            if entry.asked:
                reached = curve.at(entry.familiar).of(entry.asked, asset.kinds[part], float(scores[part]))
            else:
                reached = float(scores[part])
            if reached is not None and reached >= entry.least:
                found.add((entry.id.int, place))
    return found
