"""What searches leave behind, and a tenant's gate that learns from it."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest

from ml.alignment.gating import INPUTS, PARTS, Part
from tenants.datasets.models import Asset, Blob
from tenants.datasets.services import create_dataset
from tenants.errors import Conflict, Invalid, NotReady
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.models import Feedback, SearchGate
from tenants.retrieval.query import encoding, feedback, fusion_weights
from tenants.retrieval.query.feedback import Evidence
from tenants.retrieval.query.fusion_weights import BUILT_IN, Task
from tenants.retrieval.types import Query
from tenants.scope import tenant_scope
from tests.conftest import Party

SHARP, BLURRED = {"sharpness": 7.0, "best_class": -0.2}, {"sharpness": 1.0, "best_class": -4.0}


def towards(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(256).astype(np.float32)
    return vector / np.linalg.norm(vector)


def stored(modality: str, values: np.ndarray) -> Asset:
    dataset = create_dataset(name=uuid.uuid4().hex)
    blob = Blob.objects.create(sha256=uuid.uuid4().hex * 2, bytes=1, media_type="text/plain")
    asset = Asset.objects.create(dataset=dataset, blob=blob, modality=modality, status="ready")
    replace_vectors(asset=asset, model=encoding.model_id(), vectors=[NewVector(modality, values)])
    return asset


# --- Weights -----------------------------------------------------------------------------------------------


def parts(**signs: dict[str, float]) -> dict[str, Part]:
    return {name: Part(towards(at), told) for at, (name, told) in enumerate(signs.items())}


def weigh(
    party: Party, given: dict[str, Part], words: str = "", task: Task = BUILT_IN["general"], **weights: float
):
    return fusion_weights.weigh(party.id, given, Query(weights=dict(weights)), task, words)


def test_the_gate_corrects_the_prior_and_is_told_with_it(party: Party) -> None:
    sharp, blurred = (weigh(party, parts(text={"words": 2.0}, image=told)) for told in (SHARP, BLURRED))
    assert blurred.weights["image"] < sharp.weights["image"]
    assert sharp.prior == {"text": 0.5, "image": 0.5}
    assert sharp.gate == "gate"
    assert sum(sharp.weights.values()) == pytest.approx(1)


def test_weights_in_the_request_win_and_fixed_tasks_stay_fixed(party: Party) -> None:
    given = parts(text={}, image=BLURRED)
    asked = weigh(party, given, image=3.0)
    assert (asked.weights, asked.gate) == ({"text": 0.25, "image": 0.75}, "")
    fixed = Task("mine", "", {"text": 1, "image": 4}, dynamic=False)
    assert weigh(party, given, task=fixed).weights == {"text": 0.2, "image": 0.8}
    assert weigh(party, parts(text={})).weights == {"text": 1.0}
    with pytest.raises(Invalid):
        weigh(party, given, text=0.0, image=0.0)


def test_a_nodule_lifts_the_picture_in_medical_diagnosis() -> None:
    medical = BUILT_IN["medical"]
    plain, word = medical.prior(["text", "image"], "is this film normal")
    assert (plain, word) == ({"text": 0.4, "image": 0.6}, None)
    for words in ("a Nodule in the left lung", "two nodules"):
        assert medical.prior(["text", "image"], words) == ({"text": 0.2, "image": 0.8}, "nodule")
    assert medical.prior(["text"], "pneumodule")[1] is None


def test_rules_find_words_of_languages_without_spaces_and_the_first_one_counts() -> None:
    task = Task(
        "mine",
        "",
        {"text": 1.0, "image": 3.0},
        (fusion_weights.Rule(("结节",), {"image": 5.0}), fusion_weights.Rule(("left",), {"image": 7.0})),
    )
    assert task.prior(["text", "image"], "左肺有结节 left") == ({"text": 1.0, "image": 5.0}, "结节")
    assert task.prior(["image", "audio"], "on the left") == ({"image": 7.0, "audio": 4.0}, "left")


# --- Evidence ----------------------------------------------------------------------------------------------


def test_evidence_holds_scores_and_neither_words_nor_vectors(party: Party) -> None:
    with tenant_scope(party.id):
        shown = [stored("text", towards(1)), stored("image", towards(2))]
        lost = uuid.uuid4()
        given = {"text": Part(towards(1), {"words": 1.0}), "image": Part(towards(2), SHARP)}
    weighed = weigh(party, given)
    search_id = str(uuid.uuid4())
    fusion_weights.keep_trace(
        party.id,
        search_id,
        model=encoding.model_id(),
        weighed=weighed,
        parts=given,
        shown=[*(asset.id for asset in shown), lost],
        end=3,
    )
    trace = feedback.trace_of(party.id, uuid.UUID(search_id))
    with tenant_scope(party.id):
        row, new = feedback.record_feedback(
            search_id=uuid.UUID(search_id), trace=trace, asset_id=shown[1].id, kind="click"
        )
    assert (new, row.rank, row.task) == (True, 2, "general")
    found = Evidence.unpack(bytes(row.evidence))
    assert found.scores.shape == (len(PARTS), 3)
    assert found.scores[0, 0] == pytest.approx(1, abs=1e-3)
    assert found.scores[1, 1] == pytest.approx(1, abs=1e-3)
    assert (found.scores[:, 2] == -9).all()
    assert found.prior.tolist() == [0.5, 0.5, 0.0]
    assert found.inputs[INPUTS.index("image_sharpness")] == 7.0
    assert len(row.evidence) < 1_000, "two vectors alone would be 2 kB"


def test_a_search_of_one_part_leaves_no_evidence(party: Party) -> None:
    with tenant_scope(party.id):
        asset = stored("text", towards(1))
    given = {"text": Part(towards(1))}
    search_id = uuid.uuid4()
    fusion_weights.keep_trace(
        party.id,
        str(search_id),
        model=encoding.model_id(),
        weighed=weigh(party, given),
        parts=given,
        shown=[asset.id],
        end=1,
    )
    trace = feedback.trace_of(party.id, search_id)
    with tenant_scope(party.id):
        row, _ = feedback.record_feedback(search_id=search_id, trace=trace, asset_id=asset.id, kind="click")
        assert row.evidence == b""
        assert feedback.usable() == 0


# --- Training ----------------------------------------------------------------------------------------------


def chosen(count: int, *, right_part: str, asset: Asset) -> None:
    """Searches in which people chose what the words, or the picture, found: whatever the picture looks like."""
    random = np.random.default_rng(4)
    for _ in range(count):
        inputs = np.full(len(INPUTS), np.nan, np.float32)
        inputs[[INPUTS.index("has_text"), INPUTS.index("has_image")]] = 1
        inputs[INPUTS.index("image_sharpness")] = random.normal(5, 1)
        scores = random.uniform(0, 0.4, (len(PARTS), 8)).astype(np.float32)
        scores[2] = 0
        place = int(random.integers(8))
        scores[PARTS.index(right_part), place] = 0.55
        evidence = Evidence(inputs, np.array([0.5, 0.5, 0], np.float32), scores).pack()
        Feedback.objects.create(
            search_id=uuid.uuid4(),
            asset=asset,
            kind="click",
            rank=place + 1,
            task="general",
            model="prior:1",
            evidence=evidence,
        )


def run(party: Party) -> dict[str, Any]:
    with tenant_scope(party.id):
        job = feedback.start_training(actor="key:x")
    claimed = jobs.claim(job_id=job.id, tenant_id=party.id)
    assert claimed is not None
    feedback.train_gate(claimed)
    with tenant_scope(party.id):
        done = Job.objects.get(pk=job.id)
    assert done.state == "succeeded"
    result: dict[str, Any] = done.result
    return result


def test_a_gate_learns_which_part_these_people_trust(party: Party) -> None:
    with tenant_scope(party.id):
        chosen(200, right_part="text", asset=stored("text", towards(1)))
    before = weigh(party, parts(text={}, image={"sharpness": 5.0})).weights["text"]
    result = run(party)
    quality = result["mean_reciprocal_rank"]
    assert (result["taken"], result["searches"]) == (True, 200)
    assert quality["own"] > max(quality["built_in"], quality["fixed"])
    after = weigh(party, parts(text={}, image={"sharpness": 5.0}))
    assert after.weights["text"] > before
    with tenant_scope(party.id):
        row = SearchGate.objects.get(live=True)
    assert (row.number, after.gate, row.report) == (1, str(row.id), result)
    assert run(party)["taken"], "again: the newest serves"
    with tenant_scope(party.id):
        assert SearchGate.objects.get(live=True).number == 2


def test_a_gate_that_does_worse_is_not_taken(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    with tenant_scope(party.id):
        chosen(80, right_part="text", asset=stored("text", towards(1)))
    worse = fusion_weights.built_in().network.arrays() | {"outer_bias": np.array([-9, 9, 0], np.float32)}
    network = type(fusion_weights.built_in().network)(**worse)
    monkeypatch.setattr(feedback.gate_fitting, "fit", lambda *_: network)
    result = run(party)
    assert not result["taken"]
    with tenant_scope(party.id):
        assert not SearchGate.objects.exists()
    assert fusion_weights.serving_gate(party.id).id == "gate"


def test_too_little_feedback_and_two_at_once(party: Party) -> None:
    with tenant_scope(party.id):
        asset = stored("text", towards(1))
        chosen(feedback.NEEDED - 1, right_part="text", asset=asset)
        with pytest.raises(NotReady, match=f"there are {feedback.NEEDED - 1}"):
            feedback.start_training()
        chosen(1, right_part="text", asset=asset)
        feedback.start_training()
        with pytest.raises(Conflict):
            feedback.start_training()


def test_clicks_far_down_are_worth_more_and_judgements_are_not(party: Party) -> None:
    worth = [
        feedback._worth(Feedback(kind=kind, rank=rank))
        for kind, rank in (("click", 1), ("click", 10), ("click", 10_000), ("relevant", 10))
    ]
    assert worth == pytest.approx([1.0, 10**0.7, feedback.MOST_WORTH, 1.0])
