"""A job has `succeeded` only when what it was for can be fetched, for every kind of job there is.

No other worker runs here: what a job leaves to another one is not there when it has ended, and is noticed.
"""

from __future__ import annotations

import inspect
import io
import json
import math
import uuid
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.base import ContentFile

from tenants.jobs.kinds import kind_names
from tenants.jobs.services import enqueue
from tenants.learning import dataset_versions, relevance_calibration
from tenants.moderation import known_content
from tenants.moderation.policies import recalibration
from tenants.pipeline import live
from tenants.pipeline.streams import brokers, consuming
from tenants.retrieval import dataset_health, model_routing
from tenants.retrieval.index import lifecycle
from tenants.retrieval.query import encoding
from tenants.scope import tenant_scope
from tenants.valkey import client as valkey
from tests.api.conftest import Api, picture
from tests.conftest import Party
from tests.ml.documents.pdf_files import Page, pdf
from tests.ml.test_recalibration import pairs
from tests.relevance import RELEVANCE
from tests.tenants import kafka_in_a_file, test_maps
from tests.tenants.learning import test_end_to_end, test_relevance_calibration, world
from tests.tenants.policy_world import evidence, new_audit, new_policy, rule
from tests.tenants.reviewing import make_world, seen
from tests.tenants.test_gate_training import chosen, stored, towards
from tests.tenants.test_index_lifecycle import Library
from tests.tenants.test_recalibration import decided, enforced
from workers.base import run_job

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("sketching")]


@dataclass
class Place:
    """A workspace, its API, and a folder for files."""

    party: Party
    folder: Path
    settings: Any
    monkeypatch: Any

    @property
    def api(self) -> Api:
        return Api(self.party.token)

    def dataset(self) -> str:
        return self.post("/datasets", {"name": uuid.uuid4().hex})["id"]

    def add(self, dataset: str, fields: dict[str, Any]) -> dict[str, Any]:
        """The asset; its job has ended."""
        answer = self.api.form(f"/datasets/{dataset}/assets", fields)
        assert answer.status_code == 202, answer.content
        self.run(answer.json()["job"]["id"])
        return answer.json()["asset"]

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.api.post(path, body)
        assert answer.status_code in (200, 201, 202), (path, answer.content)
        return answer.json()

    def run(self, job: object) -> dict[str, Any]:
        """Run a job as a worker does; returns it once it has succeeded."""
        run_job(str(job), str(self.party.id))
        ended = self.get(f"/jobs/{job}")
        assert (ended["state"], ended.get("error")) == ("succeeded", None)
        return ended

    def get(self, path: str) -> Any:
        answer = self.api.get(path)
        assert answer.status_code == 200, (path, answer.content)
        return answer.json()

    def content(self, path: str) -> bytes:
        answer = self.api.get(path)
        assert answer.status_code == 200, (path, answer.content if not answer.streaming else "")
        return answer.getvalue()

    def status(self, path: str) -> int:
        return self.api.get(path).status_code

    def find(self, text: str, **more: Any) -> dict[str, Any]:
        return self.post("/search", {"text": text, **more})

    def found(self, text: str, **more: Any) -> list[str]:
        return [hit["asset"]["id"] for hit in self.find(text, **more)["results"]]


WORKED_ON = frozenset(kind_names(lambda kind: not kind.retired))
CASES: dict[str, Callable[[Place], None]] = {}
# Whose processes take long: tests that run one anyway, and where these fetch what it was for.
ELSEWHERE = {
    "finetune": (test_end_to_end.test_from_pairs_to_searches_and_back, '.get(f"/models/{row.id}")'),
    "project_map": (test_maps.test_a_map_by_umap_is_drawn_by_its_job, '.get(f"/maps/{row.id}/points")'),
}


def results_of(kind: str) -> Callable[[Callable[[Place], None]], Callable[[Place], None]]:
    def keep(case: Callable[[Place], None]) -> Callable[[Place], None]:
        CASES[kind] = case
        return case

    return keep


@pytest.mark.parametrize("kind", sorted(WORKED_ON - ELSEWHERE.keys()))
def test_what_a_job_was_for_can_be_fetched_once_it_has_succeeded(
    kind: str, party: Party, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kind in CASES, f"A new kind of job: add a case that fetches what a {kind} job was for."
    CASES[kind](Place(party, tmp_path, settings, monkeypatch))


def test_every_kind_has_a_case_here_or_elsewhere() -> None:
    assert {*CASES, *ELSEWHERE} == WORKED_ON
    for test, fetched in ELSEWHERE.values():
        assert fetched in inspect.getsource(test)


# --- Assets ----------------------------------------------------------------------------------------------


@results_of("embed_asset")
def _(place: Place) -> None:
    fields = {"file": io.BytesIO(picture()), "text": "a plain red card"}
    answer = place.api.form(f"/datasets/{place.dataset()}/assets", fields).json()
    asset, job = answer["asset"]["id"], answer["job"]["id"]
    assert place.status(f"/assets/{asset}/content") == 409
    assert place.run(job)["kind"] == "embed_asset"
    assert place.content(f"/assets/{asset}/content").startswith(b"\x89PNG")
    assert place.content(f"/assets/{asset}/thumbnail").startswith(b"\xff\xd8")
    assert place.get(f"/assets/{asset}")["status"] == "ready"
    assert place.found("a plain red card") == [asset]


@results_of("live_stream")
def _(place: Place) -> None:
    ticket = live.read_ticket(place.post("/live", {"purpose": "transcribe"})["ticket"])
    live.open_stream(ticket)
    pipe, silence = live.Pipe(place.party.id, ticket.stream), np.zeros(live.RATE, "<i2").tobytes()
    valkey().xadd(pipe.sound, {"d": silence}, id=f"{live.RATE}-0")
    valkey().xadd(pipe.sound, {"end": b"1"}, id=f"{live.RATE}-1")
    run_job(str(ticket.stream), str(place.party.id))
    told = {"purpose": "transcribe", "duration_s": 1.0, "utterances": 0, "reason": "end"}
    assert place.get(f"/jobs/{ticket.stream}")["result"] == told


@results_of("match_standing")
def _(place: Place) -> None:
    dataset = place.dataset()
    query = place.post("/standing-queries", {"name": "cards", "query": {"modalities": ["text"]}})["id"]
    asset = place.add(dataset, {"text": "a plain red card"})["id"]
    [job] = place.get("/jobs?kind=match_standing")["results"]
    assert place.run(job["id"])["result"] == {"assets": 1, "alerts": 1}
    [alert] = place.get("/alerts?read=false")["results"]
    assert (alert["standing_query"], alert["asset"]) == (query, asset)


@results_of("merge_copies")
def _(place: Place) -> None:
    dataset, captions = place.dataset(), ["a plain red card", "a scarlet sheet of paper"]
    first, _ = (place.add(dataset, {"file": io.BytesIO(picture()), "text": text}) for text in captions)
    plan = place.post(f"/datasets/{dataset}/merges")["job"]["id"]
    assert place.run(plan)["result"]["assets"] == 1
    place.run(place.post(f"/datasets/{dataset}/merges", {"plan": plan})["job"]["id"])
    assert place.get(f"/assets/{first['id']}")["captions"] == captions
    assert place.found(captions[1], datasets=[dataset]) == [first["id"]]


@results_of("examine_dataset")
def _(place: Place) -> None:
    dataset = uuid.UUID(place.dataset())
    for n in range(2):
        place.add(str(dataset), {"text": "a plain red card", "external_id": str(n)})
    with tenant_scope(place.party.id):
        job = dataset_health.examine(dataset_id=dataset).id
    assert place.run(job)["result"]["counts"]["duplicate"] == 2
    with tenant_scope(place.party.id):
        assert dataset_health.found(dataset, dataset_health.DUPLICATE).count() == 2


@results_of("make_dataset_version")
def _(place: Place) -> None:
    dataset = uuid.UUID(place.dataset())
    asset = place.add(str(dataset), {"text": "a plain red card"})["id"]
    place.monkeypatch.setattr(dataset_versions, "AT_ONCE", 0)
    with tenant_scope(place.party.id):
        version, job = dataset_versions.make_version(dataset_id=dataset, name="first")
    assert job is not None
    assert place.run(str(job.id))["result"]["assets"] == 1
    listed = place.get(f"/datasets/{dataset}/versions/{version.id}/assets")["results"]
    assert [one["id"] for one in listed] == [asset]


@results_of("embed_media")
def _(place: Place) -> None:
    sink = io.BytesIO()
    with wave.open(sink, "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
        sound.writeframes(np.int16(9_000 * np.sin(np.arange(16_000) * math.tau * 440 / 16_000)).tobytes())
    asset = place.add(place.dataset(), {"file": io.BytesIO(sink.getvalue()), "text": "a long steady tone"})
    assert place.content(f"/assets/{asset['id']}/content") == sink.getvalue()
    assert place.content(f"/assets/{asset['id']}/thumbnail").startswith(b"RIFF")
    assert place.get(f"/assets/{asset['id']}/transcript")["segments"] == []
    assert place.found("a long steady tone") == [asset["id"]]


@results_of("embed_document")
def _(place: Place) -> None:
    page = Page().text(72, 700, "Fasten the lid before the kettle is lifted.")
    asset = place.add(place.dataset(), {"file": ContentFile(pdf([page]), "kettle.pdf")})
    assert place.get(f"/assets/{asset['id']}")["document"]["pages"] == 1
    assert place.content(f"/assets/{asset['id']}/pages/1").startswith(b"\xff\xd8\xff")
    assert place.content(f"/assets/{asset['id']}/thumbnail").startswith(b"\xff\xd8\xff")
    assert (
        place.get(f"/assets/{asset['id']}/document")["text"] == "Fasten the lid before the kettle is lifted."
    )
    assert place.found("fasten the lid of the kettle") == [asset["id"]]


@results_of("import_assets")
def _(place: Place) -> None:
    table = io.BytesIO(b"text,price\na blue kettle,20\na green teapot,25\n")
    table.name = "kettles.csv"
    started = place.api.form(f"/datasets/{place.dataset()}/imports", {"file": table}).json()
    assert place.run(started["job"]["id"])["result"]["imported"] == 2
    path = f"/imports/{started['import']['id']}"
    assert place.get(path)["state"] == "succeeded"
    assert len(place.content(f"{path}/receipt").decode().splitlines()) == 3
    kettle, teapot = place.found("a blue kettle")
    assert place.content(f"/assets/{kettle}/content") == b"a blue kettle"
    assert place.found("something", filter={"price": {"gt": 22}}) == [teapot]


@results_of("read_stream")
def _(place: Place) -> None:
    place.settings.STREAM_ALLOW_PLAIN = True
    place.monkeypatch.setattr(brokers, "AioKafka", kafka_in_a_file.client_of(place.folder))
    kafka_in_a_file.Topic(place.folder).append(b'{"id": "a", "text": "a plain red card"}')
    fields = {"name": "s", "kind": "kafka", "url": "kafka://broker.example", "topic": "t"}
    source = place.post("/stream-sources", {**fields, "dataset": place.dataset()})
    store = consuming.Reading._store

    def paused_then(*given: Any) -> bool:
        """It ends once it is paused."""
        place.post(f"/stream-sources/{source['id']}/pause")
        return store(*given)

    place.monkeypatch.setattr(consuming.Reading, "_store", paused_then)
    assert place.run(source["job"])["result"] == {"source": source["id"], "read": 1}
    assert place.get(f"/stream-sources/{source['id']}")["stored"] == 1
    [asset] = place.found("a plain red card")
    assert place.get(f"/assets/{asset}")["external_id"] == "a"


def classified(place: Place) -> tuple[str, dict[str, Any]]:
    """A trained classifier, and the job that promotes it."""
    dataset = place.dataset()
    texts = [f"a broken {n}" for n in ("lamp", "cup", "chair")] + ["a red apple", "green grass", "a blue sky"]
    assets = [place.add(dataset, {"text": text})["id"] for text in texts]
    row = place.post("/classifiers", {"name": "broken"})["id"]
    labels = [{"asset": asset, "label": n < 3} for n, asset in enumerate(assets)]
    place.post(f"/classifiers/{row}/examples", {"examples": labels})
    place.run(place.post(f"/classifiers/{row}/train")["job"]["id"])
    return row, place.post(f"/classifiers/{row}/versions/1/promote")["job"]


@results_of("train_classifier")
def _(place: Place) -> None:
    row, _ = classified(place)
    (version,) = place.get(f"/classifiers/{row}")["versions"]
    assert (version["report"]["n"], version["tier"]) == (6, "estimated, not calibrated")
    assert version["report"]["figures"]["auc"]["n"] == 6


@results_of("score_assets")
def _(place: Place) -> None:
    row, job = classified(place)
    assert place.run(job["id"])["result"]["scored"] == 6
    assert place.get(f"/classifiers/{row}")["state"] == "live"
    likely = place.find("something", filter={"classifier.broken.probability": {"gte": 0.0}})
    assert len(likely["results"]) == 6


@results_of("forget_scores")
def _(place: Place) -> None:
    row, job = classified(place)
    place.run(job["id"])
    assert place.api.call("DELETE", f"/classifiers/{row}").status_code == 204
    (job,) = place.get("/jobs?kind=forget_scores")["results"]
    assert place.run(job["id"])["result"] == {"facets": 6}
    assert place.status(f"/classifiers/{row}") == 404


@results_of("reindex_metadata")
def _(place: Place) -> None:
    dataset = place.dataset()
    asset = place.add(dataset, {"text": "a lamp", "metadata": json.dumps({"size": "12"})})
    changed = place.api.call(
        "PATCH", f"/datasets/{dataset}", {"metadata_schema": {"size": {"type": "number"}}}
    )
    assert changed.status_code == 200, changed.content
    place.run(place.get("/jobs?kind=reindex_metadata")["results"][0]["id"])
    assert place.found("a lamp", filter={"size": {"gt": 11}}) == [asset["id"]]
    assert place.found("a lamp", filter={"size": {"gt": 12}}) == []


@results_of("generate")
def _(place: Place) -> None:
    wanted = {"prompt": "a red cat", "outputs": ["image", "audio"], "width": 256, "height": 256, "steps": 3}
    asked = place.post("/generations", wanted)
    job = place.run(asked["job"]["id"])
    made = place.get(f"/generations/{asked['generation']['id']}")
    assert made["state"] == "succeeded"
    assert [result["asset"] for result in made["results"]] == job["result"]["assets"]
    for asset in job["result"]["assets"]:
        assert place.get(f"/assets/{asset}")["status"] == "ready"
        assert place.content(f"/assets/{asset}/content")
        assert place.content(f"/assets/{asset}/thumbnail")
    # Music without words has nothing that is compared.
    (picture,) = (result["asset"] for result in made["results"] if result["kind"] == "image")
    assert place.found("a red cat", generated="only") == [picture]
    assert place.found("a red cat") == []


# --- Care of data ----------------------------------------------------------------------------------------


@results_of("delete_dataset")
def _(place: Place) -> None:
    dataset = place.dataset()
    asset = place.add(dataset, {"text": "a lamp"})["id"]
    answer = place.api.call("DELETE", f"/datasets/{dataset}")
    place.run(answer.json()["job"]["id"])
    (receipt,) = place.get(f"/erasures?target={dataset}")["results"]
    assert receipt["finished_at"]
    assert (place.status(f"/datasets/{dataset}"), place.status(f"/assets/{asset}")) == (404, 404)
    assert place.found("a lamp") == []
    assert place.get("/me")["quotas"]["assets"]["used"] == 0


@results_of("erase_subject")
def _(place: Place) -> None:
    dataset = place.dataset()
    asset = place.add(dataset, {"text": "a letter of hers", "metadata": json.dumps({"customer": "42"})})["id"]
    asked = place.post("/erasures", {"filter": {"customer": "42"}})
    place.run(asked["job"]["id"])
    receipt = place.get(f"/erasures/{asked['erasure']['id']}")
    assert (bool(receipt["finished_at"]), receipt["removed"]["assets"]) == (True, 1)
    assert place.status(f"/assets/{asset}") == 404


@results_of("export_tenant")
def _(place: Place) -> None:
    place.add(place.dataset(), {"text": "a lamp"})
    asked = place.post("/exports", {})
    path = f"/exports/{asked['export']['id']}"
    assert place.status(f"{path}/content") == 409
    place.run(asked["job"]["id"])
    assert place.get(path)["ready"] is True
    assert place.content(f"{path}/content").startswith(b"PK")


@results_of("export_dataset_version")
def _(place: Place) -> None:
    dataset = place.dataset()
    place.add(dataset, {"text": "a lamp"})
    version = place.post(f"/datasets/{dataset}/versions", {"name": "first"})["version"]["id"]
    asked = place.post("/exports", {"dataset": dataset, "version": version})
    place.run(asked["job"]["id"])
    assert place.get(f"/exports/{asked['export']['id']}")["version"]["name"] == "first"
    assert place.content(f"/exports/{asked['export']['id']}/content").startswith(b"PK")


# --- Indexes and maps ------------------------------------------------------------------------------------


def indexed(place: Place) -> Library:
    place.settings.INDEX_FLAT_MAX = 20
    library = Library(place.party)
    library.fill(40)
    return library


def build(place: Place) -> dict[str, Any]:
    with tenant_scope(place.party.id):
        job = lifecycle.build(model=model_routing.live())
    assert job is not None
    return place.run(job.id)


@results_of("build_index")
def _(place: Place) -> None:
    indexed(place)
    job = build(place)
    index = place.find("anything")["index"]
    assert (index["generation"], index["kind"]) == (job["result"]["generation"], job["result"]["kind"])


# --- Auditing --------------------------------------------------------------------------------------------


@results_of("audit_item")
def _(place: Place) -> None:
    asked = place.post("/audits", {"text": "write to ann.lee@gmail.com"})
    place.run(asked["job"]["id"])
    audit = place.get(f"/audits/{asked['audit']['id']}")
    assert (audit["state"], audit["decision"]) == ("done", "allow")
    assert audit["categories"]["personal_data"]["flagged"] is True


@results_of("backtest_policy")
def _(place: Place) -> None:
    with tenant_scope(place.party.id):
        new_audit(evidence(), "allow")
        policy = new_policy(rule("all", "true", "block"))
    asked = place.post(f"/policies/{policy.id}/backtest", {"version": 1})
    job = place.run(asked["job"]["id"])
    assert (job["result"]["audits"], job["result"]["changed"]) == (1, 1)


@results_of("recalibrate_policy")
def _(place: Place) -> None:
    world = enforced(place.party)
    decided(world, *pairs(200)[:2])
    with tenant_scope(place.party.id):
        job = recalibration.start_recalibration(recalibration.Wanted(world.version.policy_id))
    result = place.run(str(job.id))["result"]
    version = place.get(f"/policies/{world.version.policy_id}/versions/{result['version']}")
    assert (
        version["document"]["thresholds"]["abuse"]
        == result["categories"]["abuse"]["found"]["threshold"]["after"]
    )


@results_of("match_again")
def _(place: Place) -> None:
    audits = make_world(place.party)
    prints = {"pdq": "d8f8f0cce0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22", "pdq_quality": 90}
    bad, copy = (audits.audit([], evidence=seen(fingerprints={**prints, "pdq_turned": []})) for _ in range(2))
    with tenant_scope(place.party.id):
        known_content.add_asset_copies(asset_id=bad.item, list_id=None, note="", actor="")
    job = place.run(place.get("/jobs?kind=match_again")["results"][0]["id"])
    assert job["result"]["blocked"] == 1
    assert place.get(f"/assets/{copy.item}")["moderation"] == "block"


# --- Learning --------------------------------------------------------------------------------------------


@results_of("train_gate")
def _(place: Place) -> None:
    with tenant_scope(place.party.id):
        chosen(60, right_part="text", asset=stored("text", towards(1)))
    asked = place.post("/gate/train")
    job = place.run(asked["job"]["id"])
    assert job["result"]["taken"] is True
    gate = place.get("/gate")
    assert (gate["source"], gate["report"]) == ("own", job["result"])


@results_of("calibrate_relevance")
def _(place: Place) -> None:
    place.monkeypatch.setattr(encoding.space(), "relevance", RELEVANCE)
    with tenant_scope(place.party.id):
        test_relevance_calibration.agree(40, shift=-2.0)
        job = relevance_calibration.start_calibration()
    result = place.run(job.id)["result"]
    assert result["taken"] is True
    with tenant_scope(place.party.id):
        row = relevance_calibration.live_correction()
        assert row is not None and row.report == result


@results_of("embed_shard")
def _(place: Place) -> None:
    dataset = place.dataset()
    ids = [place.add(dataset, {"text": text})["id"] for text in ("a lamp", "a chair", "a bed")]
    row = world.with_files(world.new_model(place.party.id), place.folder)
    with tenant_scope(place.party.id):
        model_routing.begin_dual_write(row.space)
        arguments = {"model": row.space, "above": str(model_routing.FIRST), "until": ids[1]}
        job = enqueue(kind="embed_shard", arguments=arguments, total=2, reserve={})
    assert place.run(job.id)["result"]["assets"] == 2
    with tenant_scope(place.party.id):
        assert model_routing.some_missing(row.space, above=model_routing.FIRST, count=9) == [
            uuid.UUID(ids[2])
        ]


@results_of("embed_beside")
def _(place: Place) -> None:
    asset = place.add(place.dataset(), {"text": "a lamp"})["id"]
    row = world.with_files(world.new_model(place.party.id), place.folder)
    asked = place.post(f"/models/{row.id}/promote", {"override": True, "reason": "A test."})
    place.run(asked["job"]["id"])
    assert place.get(f"/models/{row.id}")["state"] == "live"
    answer = place.find("a lamp")
    assert [hit["asset"]["id"] for hit in answer["results"]] == [asset]
    assert answer["model"]["id"] == str(row.id)
