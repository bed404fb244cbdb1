"""The job of a training, with a trainer that does not learn: what is kept, and how it ends badly."""

from __future__ import annotations

import pytest
from django.db.models import F

from ml.alignment.space import JointSpace
from tenants.datasets import storage
from tenants.events.models import AuditEvent
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.learning import cleanup, scratch, services, trainer
from tenants.learning.models import LearntModel
from tenants.learning.trainer import Trained, TrainingRefused
from tenants.retrieval import model_routing
from tenants.scope import tenant_scope
from tests.tenants.learning.world import Space, add_pairs, new_dataset, write_space
from tests.waiting import until
from workers.base import run_job

METRICS = {"domain": {"model": {"text>image": {"r1": 0.5}}}}


@pytest.fixture
def dataset(party):
    with tenant_scope(party.id):
        made = new_dataset("shapes")
        add_pairs(made, 6)
        return made


@pytest.fixture
def space(monkeypatch, settings, tmp_path):
    settings.LEARNING_DIR = tmp_path / "learning"
    fake = Space()
    monkeypatch.setattr(model_routing, "space", lambda model, tenant_id: fake)
    return fake


@pytest.fixture
def trains(monkeypatch):
    """What the trainer is asked, and what it does (by default: it learns)."""

    class Trains:
        asked = []
        events = []
        error = None

        def __call__(self, folder, recipe, told, in_vain):
            self.asked.append(recipe)
            for event in self.events:
                told(event)
            if self.error:
                in_vain(7.0)
                raise self.error
            made = folder / "space"
            write_space(made, recipe["space"]["id"], recipe["space"]["version"])
            done = {"space": str(made), "metrics": METRICS, "held_out": ["a"], "cpu_s": 3.0, "gpu_s": 0.5}
            return Trained({**done, "wall_s": 2.0, "busy": 0.97}, peak_mb=100)

    fake = Trains()
    fake.asked = []
    monkeypatch.setattr(trainer, "train", fake)
    return fake


@pytest.fixture
def started(party, dataset):
    with tenant_scope(party.id):
        wanted = services.Settings(epochs=3, seed=5)
        return services.start_finetune(dataset_id=dataset.id, wanted=wanted)


def run(party, started):
    row, job = started
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        return LearntModel.objects.get(pk=row.pk), Job.objects.get(pk=job.pk)


def test_what_was_learnt_is_a_candidate_with_everything_known_of_it(party, started, space, trains):
    trains.events = [
        {"event": "quality", "phase": "adapt", "items": 6},
        {"event": "curve", "phase": "adapt", "epoch": 0, "validation": {"primary": 0.1}},
    ]
    row, job = run(party, started)
    assert (row.state, row.error, row.metrics) == ("candidate", None, METRICS)
    assert row.data["quality"] == {"adapt": {"items": 6}}
    assert (row.data["datasets"][0]["pairs"], row.data["held_out"]) == (6, ["a"])
    assert [one["epoch"] for one in row.curves] == [0]
    assert (job.state, job.result["model"], job.cost_gpu_s) == ("succeeded", str(row.id), 0.5)
    assert row.cost["cpu_s"] == pytest.approx(job.cost_cpu_s, abs=0.1)
    assert row.cost["cpu_s"] >= 3
    assert row.trained_at is not None
    assert not services.folder_of(party.id, row.id).exists()
    with tenant_scope(party.id):
        assert AuditEvent.objects.filter(verb="model.trained", target=str(row.id)).exists()


def test_the_space_is_kept_under_the_models_own_name(party, started, trains, settings, tmp_path, monkeypatch):
    settings.LEARNING_DIR = tmp_path / "learning"
    with monkeypatch.context() as patched:
        patched.setattr(model_routing, "space", lambda model, tenant_id: Space())
        row, _ = run(party, started)
    kept = model_routing.space(row.space, party.id)
    assert isinstance(kept, JointSpace)
    assert f"{kept.id}:{kept.version}" == row.space
    assert (row.sha256, row.bytes > 1_000_000) == (kept.manifest["sha256"], True)


def test_the_trainer_is_asked_for_what_was_wanted(party, started, space, trains):
    row, _ = run(party, started)
    (recipe,) = trains.asked
    folder = services.folder_of(party.id, row.id)
    assert recipe["data"] == [str(folder / "0" / "pairs")]
    assert (recipe["general"], recipe["epochs"], recipe["seed"]) == ([], 3, 5)
    assert (recipe["stage"], recipe["method"], recipe["unreadable"]) == ("adapt", "heads", 0)
    assert recipe["base"]["folder"].endswith("prior-2")
    assert recipe["space"] == {"id": f"cman-{row.id}", "version": "1"}


def test_a_refusal_is_final_and_tells_what_to_do(party, started, space, trains):
    trains.error = TrainingRefused("too_few_pairs", "6 pairs are left; about 20 are needed.")
    row, job = run(party, started)
    assert (job.state, job.attempts) == ("failed", 1)
    assert job.error == {"type": "too-few-pairs", "detail": "6 pairs are left; about 20 are needed."}
    assert (row.state, row.error) == ("draft", job.error)
    assert job.cost_cpu_s >= 7


def test_after_a_death_the_next_attempt_looks_at_nothing_twice(party, started, space, trains):
    trains.error = RuntimeError("the trainer ended with status -9")
    row, job = run(party, started)
    assert (job.state, row.state, row.error) == ("queued", "draft", None)
    assert space.seen == 6
    trains.error = None
    row, job = run(party, started)
    assert (job.state, row.state) == ("succeeded", "candidate")
    assert space.seen == 6
    assert trains.asked[0] == trains.asked[1]


def test_a_cancel_ends_it_at_the_next_line(party, started, space, trains):
    class Cancelling(list):
        def __iter__(self):
            with tenant_scope(party.id):
                jobs.cancel(job_id=started[1].id)
            yield {"event": "progress", "done": 1, "total": 2}

    trains.events = Cancelling()
    row, job = run(party, started)
    assert (job.state, row.state, row.error["type"]) == ("cancelled", "draft", "cancelled")
    assert not (services.folder_of(party.id, row.id) / "space").exists()


def test_another_worker_that_took_over_is_not_written_over(party, started, space, trains):
    class Late(list):
        def __iter__(self):
            with tenant_scope(party.id):
                Job.objects.filter(pk=started[1].pk).update(fence=99)
            yield {"event": "curve", "phase": "adapt", "epoch": 0}

    trains.events = Late()
    row, job = run(party, started)
    assert (job.state, row.state, row.curves) == ("running", "draft", [])


def test_a_model_that_was_deleted_fails_its_job(party, started, space, trains):
    with tenant_scope(party.id):
        LearntModel.objects.filter(pk=started[0].pk).delete()
    run_job(str(started[1].id), str(party.id))
    with tenant_scope(party.id):
        job = Job.objects.get(pk=started[1].pk)
        assert (job.state, job.error["type"]) == ("failed", "not-found")
        with pytest.raises(Exception, match="was deleted"):
            jobs.retry(job_id=job.id)


# --- On several hosts ---


@pytest.fixture
def checkpointed(bucket, trains, party, started, monkeypatch, settings, tmp_path):
    """An attempt that was killed on one host after a checkpoint, which was kept; then this is another host."""
    monkeypatch.setattr(scratch, "PERIOD_S", 0.0)
    learn = trains.__class__.__call__

    def attempt(self, folder, recipe, told, in_vain):
        checkpoint = folder / "checkpoints/000001/state.safetensors"
        if self.error:
            checkpoint.parent.mkdir(parents=True)
            checkpoint.write_bytes(b"weights")

            def is_kept():
                told({"event": "checkpoint"})
                return "checkpoints/000001/state.safetensors" in scratch._newest(place)

            until(is_kept)
        self.checkpoints.append(checkpoint.read_bytes() if checkpoint.exists() else None)
        return learn(self, folder, recipe, told, in_vain)

    place = scratch.place_of(party.id, started[0].id)
    monkeypatch.setattr(trains.__class__, "__call__", attempt)
    trains.checkpoints, trains.error = [], RuntimeError("the trainer ended with status -9")
    row, job = run(party, started)
    assert (job.state, row.state) == ("queued", "draft")
    settings.LEARNING_DIR = tmp_path / "another-host"
    trains.error = None
    return place


def test_another_host_goes_on_from_the_last_checkpoint(bucket, party, started, space, trains, checkpointed):
    # A list that a killed host has half written counts for nothing.
    newest = scratch._numbers(checkpointed)[-1]
    storage.put(scratch._list_path(checkpointed, newest + 1), b"{")
    row, job = run(party, started)
    assert (job.state, row.state, job.error) == ("succeeded", "candidate", None)
    assert trains.checkpoints == [b"weights", b"weights"]
    assert space.seen == 6, "pairs were looked at twice"
    assert list(storage.files_below(f"{party.id}/{scratch.KIND}")) == []


def test_files_that_are_not_whole_are_not_gone_on_with(bucket, party, started, space, trains, checkpointed):
    sha = scratch._newest(checkpointed)["checkpoints/000001/state.safetensors"]
    storage.drop(f"{checkpointed}/{sha}")
    storage.put(f"{checkpointed}/{sha}", b"weighty")
    row, job = run(party, started)
    assert (job.state, row.state) == ("succeeded", "candidate")
    assert trains.checkpoints == [b"weights", None]
    assert space.seen == 12


def test_what_was_kept_goes_with_a_training_that_is_cancelled(bucket, party, started):
    row, job = started
    storage.put(f"{scratch.place_of(party.id, row.id)}/x", b"kept")
    with tenant_scope(party.id):
        assert cleanup.remove_leftovers() == 0, "its job is to go on"
        jobs.cancel(job_id=job.id)
        assert cleanup.remove_leftovers() == 1
    assert list(storage.files_below(f"{party.id}/{scratch.KIND}")) == []


def test_only_the_holder_of_the_job_says_what_is_kept(bucket, party, started, monkeypatch, tmp_path):
    row, job = started
    claimed = jobs.claim(job_id=job.id, tenant_id=party.id)
    (tmp_path / "file").write_bytes(b"of this attempt")
    attempt = scratch.Scratch(claimed, row.id, tmp_path)
    attempt.keep()
    before = scratch._newest(scratch.place_of(party.id, row.id))
    with tenant_scope(party.id):
        Job.objects.filter(pk=job.pk).update(fence=F("fence") + 1)
    (tmp_path / "file").write_bytes(b"of a host that was cut off")
    with pytest.raises(jobs.LeaseLost):
        attempt.keep()
    assert scratch._newest(scratch.place_of(party.id, row.id)) == before


def test_a_folder_of_this_host_alone_gets_no_copies(party, started, space, trains, monkeypatch):
    monkeypatch.setattr(scratch, "PERIOD_S", 0.0)
    trains.events = [{"event": "checkpoint"}]
    trains.error = RuntimeError("the trainer ended with status -9")
    run(party, started)
    assert not scratch.is_shared()
    assert list(storage.files_below(f"{party.id}/{scratch.KIND}")) == []
