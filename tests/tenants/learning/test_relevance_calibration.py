"""Relevance corrected by labels: learnt by a job, taken only where it does better, used by searches, given up."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest

from tenants.datasets.models import Asset, Blob, Dataset
from tenants.datasets.services import create_dataset
from tenants.errors import Conflict, NotReady
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.learning import relevance_calibration as calibration
from tenants.learning.models import ResultLabel
from tenants.learning.result_labels import key_of
from tenants.retrieval import Query, search
from tenants.retrieval.index.vectors import NewVector, add_vectors
from tenants.retrieval.models import RelevanceCorrection
from tenants.retrieval.query import encoding
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.relevance import RELEVANCE, WORDS, at_score

MEMBERS = ("ann", "ben")


@pytest.fixture(autouse=True)
def _calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding.space(), "relevance", RELEVANCE)


def near(query: np.ndarray, score: float, rng: np.random.Generator) -> np.ndarray:
    """A vector of norm 1 with this score for a query."""
    other = rng.normal(size=len(query)).astype(np.float32)
    other -= (other @ query) * query
    return (score * query + np.sqrt(1 - score**2) * other / np.linalg.norm(other)).astype(np.float32)


def agree(queries: int, shift: float) -> None:
    """Five pictures a query, agreed to be right as often as the curves say, `shift` in log odds apart. In a scope."""
    rng, dataset = np.random.default_rng(2), create_dataset(name=uuid.uuid4().hex)
    texts = [f"thing number {number}" for number in range(queries)]
    vectors = encoding.space().embed_texts(texts)
    made, labels = [], []
    for text, vector in zip(texts, vectors, strict=True):
        for odds in rng.normal(0, 2, 5):
            asset = picture_of(dataset)
            made.append((asset, [NewVector("image", near(vector, 0.2 + float(odds) / 40, rng))]))
            right = bool(rng.random() < 1 / (1 + np.exp(-(odds + shift))))
            labels += [
                ResultLabel(key=key_of(text), text=text, asset=asset, right=right, created_by=who)
                for who in MEMBERS
            ]
    add_vectors(model=encoding.model_id(), vectors=made)
    ResultLabel.objects.bulk_create(labels)


def picture_of(dataset: Dataset) -> Asset:
    blob = Blob.objects.create(sha256=uuid.uuid4().hex * 2, bytes=1, media_type="image/png")
    return Asset.objects.create(dataset=dataset, blob=blob, modality="image", status="ready")


def run(party: Party) -> dict[str, Any]:
    with tenant_scope(party.id):
        job = calibration.start_calibration(actor="key:x")
    claimed = jobs.claim(job_id=job.id, tenant_id=party.id)
    assert claimed is not None
    calibration.calibrate_relevance(claimed)
    with tenant_scope(party.id):
        result: dict[str, Any] = Job.objects.get(pk=job.id, state="succeeded").result
    return result


def chance_of(party: Party, asset: Asset) -> tuple[float | None, bool]:
    answer = search(tenant_id=party.id, query=Query(text=WORDS, top_k=200))
    [found] = [hit.relevance for one, hit in answer.results if one.id == asset.id]
    return found, answer.meta["relevance_corrected"]


def test_searches_say_what_the_labels_say_until_it_is_given_up(party: Party, stranger: Party) -> None:
    with tenant_scope(party.id):
        agree(40, shift=-2.0)
        shown = picture_of(create_dataset(name="shown"))
        add_vectors(model=encoding.model_id(), vectors=[(shown, [NewVector("image", at_score(0.25))])])
    assert chance_of(party, shown) == (pytest.approx(0.88, abs=0.01), False)
    result = run(party)
    assert (result["taken"], result["labels"], result["queries"]) == (True, 200, 40)
    assert -2 <= result["shift"] < -1
    with tenant_scope(party.id):
        row = calibration.live_correction()
        assert row is not None and (row.number, row.model, row.report) == (1, encoding.model_id(), result)
    corrected, is_corrected = chance_of(party, shown)
    assert is_corrected and corrected is not None and corrected < 0.8
    with tenant_scope(stranger.id):
        assert calibration.live_correction() is None and not RelevanceCorrection.objects.exists()
        calibration.retire_correction()
    assert chance_of(party, shown)[1]
    with tenant_scope(party.id):
        calibration.retire_correction(actor="key:x")
    assert chance_of(party, shown) == (pytest.approx(0.88, abs=0.01), False)


def test_what_does_not_do_better_is_not_taken(party: Party) -> None:
    with tenant_scope(party.id):
        agree(30, shift=0.0)
    assert run(party)["taken"] is False
    with tenant_scope(party.id):
        assert not RelevanceCorrection.objects.exists()


def test_a_correction_is_of_its_model_alone(party: Party) -> None:
    with tenant_scope(party.id):
        shown = picture_of(create_dataset(name="shown"))
        add_vectors(model=encoding.model_id(), vectors=[(shown, [NewVector("image", at_score(0.25))])])
        RelevanceCorrection.objects.create(number=1, live=True, model="other:1", steepness=1, shift=-2)
        assert calibration.live_correction() is None
    assert chance_of(party, shown) == (pytest.approx(0.88, abs=0.01), False)


def test_too_few_labels_and_two_at_once(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    with tenant_scope(party.id), pytest.raises(NotReady, match="60 results"):
        calibration.start_calibration()
    with tenant_scope(party.id):
        agree(13, shift=0.0)
        job = calibration.start_calibration()
    with tenant_scope(party.id), pytest.raises(Conflict, match="being calibrated"):
        calibration.start_calibration()
    claimed = jobs.claim(job_id=job.id, tenant_id=party.id)
    assert claimed is not None
    # Enough results, of too few queries.
    with pytest.raises(NotReady, match="20 queries"):
        calibration.calibrate_relevance(claimed)
    monkeypatch.setattr(encoding.space(), "relevance", None)
    with pytest.raises(NotReady, match="states no relevance"):
        calibration.calibrate_relevance(claimed)
    with tenant_scope(party.id):
        assert not RelevanceCorrection.objects.exists()
