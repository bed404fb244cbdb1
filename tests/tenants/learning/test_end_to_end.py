"""A model that is really trained, in this process's worker: killed once, judged, promoted, searched by, taken back."""

from __future__ import annotations

import io
import os
import signal
import threading
from pathlib import Path

import pytest

from tenants.errors import ServiceError
from tenants.jobs.models import Job
from tenants.learning import promotions, services
from tenants.learning.models import LearntModel, Promotion
from tenants.pipeline.assets.services import add_asset, delete_asset
from tenants.retrieval import model_routing
from tenants.retrieval.query.searcher import search
from tenants.retrieval.types import Query
from tenants.scope import tenant_scope
from tests.api.conftest import Api
from tests.tenants.learning.world import WORDS, add_picture, drawing, new_dataset
from tests.waiting import until
from workers.base import run_job

pytestmark = pytest.mark.slow

PAIRS = 60


@pytest.fixture
def dataset(party, settings, tmp_path):
    """Drawings with their words, embedded as uploads are."""
    settings.LEARNING_DIR = tmp_path / "learning"
    settings.LEARNING_THREADS = 1
    with tenant_scope(party.id):
        made = new_dataset("shapes")
        added = [
            add_asset(dataset_id=made.id, file=io.BytesIO(drawing(words, n)), text=words)
            for n, words in enumerate(WORDS[:PAIRS])
        ]
    for one in added:
        run_job(str(one.job.id), str(party.id))
    return made


def job_of(party, job_id):
    with tenant_scope(party.id):
        return Job.objects.get(pk=job_id)


def model_of(party, row):
    with tenant_scope(party.id):
        return LearntModel.objects.get(pk=row.pk)


def trainer_of(row) -> int | None:
    """The process that trains this model."""
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if b"ml.training" in command and str(row.pk).encode() in command:
            return int(entry.name)
    return None


def run_and_kill(party, row, job) -> None:
    """One attempt, whose trainer is killed with -9 once it has said what it makes of the data."""
    attempt = threading.Thread(target=run_job, args=(str(job.id), str(party.id)))
    attempt.start()
    until(lambda: not attempt.is_alive() or "quality" in model_of(party, row).data, 240)
    assert attempt.is_alive(), job_of(party, job.id).error
    pid = trainer_of(row)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    attempt.join(60)


def test_from_pairs_to_searches_and_back(party, dataset):
    with tenant_scope(party.id):
        row, job = services.start_finetune(
            dataset_id=dataset.id, wanted=services.Settings(epochs=12), name="shapes"
        )
    run_and_kill(party, row, job)
    assert job_of(party, job.id).state == "queued"
    assert model_of(party, row).state == "draft"
    run_job(str(job.id), str(party.id))
    job, model = job_of(party, job.id), model_of(party, row)
    assert (job.state, job.error, model.state) == ("succeeded", None, "candidate")
    shown = Api(party.token).get(f"/models/{row.id}").json()
    assert (shown["state"], shown["sha256"]) == ("candidate", model.sha256)

    # What it tells of itself.
    (quality,) = model.data["quality"].values()
    assert sum(quality["splits"].values()) <= PAIRS
    assert model.data["held_out"]
    # A prior states no curves that could be carried over.
    assert model.data["relevance"] == {"state": "none", "reason": "base"}
    epochs = [point["epoch"] for point in model.curves]
    assert epochs == sorted(set(epochs))
    assert model.cost["cpu_s"] == pytest.approx(job.cost_cpu_s, abs=0.2)
    for way in ("text>image", "image>text"):
        assert "mrr" in model.metrics["domain"]["differences"]["parent"][way]
    assert not services.folder_of(party.id, row.id).exists()

    # Into service, whatever the figures of so small a world are, and back.
    with tenant_scope(party.id):
        promotion = promotions.promote(model=model, override_reason="A test.")
    run_job(str(promotion.job_id), str(party.id))
    assert job_of(party, promotion.job_id).error is None
    with tenant_scope(party.id):
        promotion = Promotion.objects.get(pk=promotion.pk)
    assert promotion.state == "switched"
    assert promotion.report["held_out"]["queries"] == len(model.data["held_out"])
    assert answering(party) == model.space
    with tenant_scope(party.id):
        promotions.roll_back(model=model)
    assert answering(party) == model_routing.default_model()


def answering(party) -> str:
    """The model that a search names; it finds something."""
    answer = search(tenant_id=party.id, query=Query(text="a large red circle", top_k=5))
    assert len(answer.results) == 5
    named = answer.meta["model"]
    return f"{named['id']}:{named['version']}"


def test_data_from_which_nothing_can_be_learnt_fail_at_once_and_say_why(party, settings, tmp_path):
    settings.LEARNING_DIR = tmp_path / "learning"
    with tenant_scope(party.id):
        dataset = new_dataset("emptied")
        pair = add_picture(dataset, drawing(WORDS[0]), WORDS[0])
        row, job = services.start_finetune(dataset_id=dataset.id)
        delete_asset(asset_id=pair.id)
    run_job(str(job.id), str(party.id))
    job = job_of(party, job.id)
    assert (job.state, job.attempts, job.error["type"]) == ("failed", 1, "no-pairs")
    assert model_of(party, row).error == job.error
    with tenant_scope(party.id), pytest.raises(ServiceError):
        promotions.promote(model=model_of(party, row))
