"""Starting and deleting: what is refused, what is counted, and what another tenant may not touch."""

from __future__ import annotations

import uuid

import pytest

from tenants.accounts.models import Plan, Reservation, Tenant
from tenants.errors import Conflict, Invalid, NotFound, NotReady, QuotaExceeded
from tenants.events.models import AuditEvent
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.learning import cleanup, finetuning, selectors, services
from tenants.learning.builtin import Builtin
from tenants.learning.models import LearntModel
from tenants.retrieval import model_routing
from tenants.scope import tenant_scope
from tests.tenants.learning.world import add_pairs, new_dataset, new_model, with_files


@pytest.fixture
def dataset(party):
    with tenant_scope(party.id):
        made = new_dataset("shapes")
        add_pairs(made, 3)
        return made


def start(dataset, **options):
    return services.start_finetune(dataset_id=dataset.id, actor="key:x", **options)


def test_a_draft_tells_what_it_learns_from_and_what_it_may_cost(party, dataset):
    with tenant_scope(party.id):
        row, job = start(dataset, wanted=services.Settings(epochs=10, group_by="product"))
        assert (row.name, row.number, row.state, row.base) == ("model 1", 1, "draft", "prior:2")
        assert row.data == {"datasets": [{"id": str(dataset.id), "name": "shapes"}]}
        assert row.settings == {"epochs": 10, "seed": 0, "group_by": "product", "include_generated": False}
        assert row.estimate["pairs"] == 3
        assert row.estimate["cpu_s"] == round(30 + 3 * (0.35 + 0.02))
        assert (job.kind, job.arguments) == ("finetune", {"model": str(row.id)})
        assert Reservation.objects.get(owner=job.id).amounts == {"cpu_s": row.estimate["cpu_s"]}
        event = AuditEvent.objects.get(verb="model.training_started")
        assert (event.actor, event.target) == ("key:x", str(row.id))


def test_as_many_at_once_as_the_plan_allows_and_a_retry_counts(party, dataset):
    with tenant_scope(party.id):
        _, job = start(dataset)
        with pytest.raises(QuotaExceeded, match="allows 1 fine-tune at once, which is") as refused:
            start(dataset)
        assert refused.value.extra == {"resource": "finetunes", "limit": 1}
        assert LearntModel.objects.count() == 1
        jobs.cancel(job_id=job.id)
        start(dataset)
        with pytest.raises(QuotaExceeded):
            jobs.retry(job_id=job.id)


def test_a_name_that_somebody_chose_is_passed_over(party, dataset):
    new_model(party.id, name="model 2")
    with tenant_scope(party.id):
        assert start(dataset)[0].name == "model 3"


def test_a_plan_may_allow_two(party, dataset):
    plan = Plan.objects.create(slug=uuid.uuid4().hex[:20], name="x", limits={"finetunes": 2})
    Tenant.objects.filter(pk=party.id).update(plan=plan)
    with tenant_scope(party.id):
        names = [start(dataset)[0].name for _ in range(2)]
        with pytest.raises(QuotaExceeded):
            start(dataset)
    assert names == ["model 1", "model 2"]


def test_a_cancelled_draft_says_so_and_gives_its_reservation_back(party, dataset):
    with tenant_scope(party.id):
        row, job = start(dataset)
        jobs.cancel(job_id=job.id)
        assert LearntModel.objects.get(pk=row.pk).error["type"] == "cancelled"
        assert not Reservation.objects.filter(owner=job.id).exists()
        jobs.retry(job_id=job.id)
        assert LearntModel.objects.get(pk=row.pk).error is None


def test_what_cannot_be_started(party, stranger, dataset):
    draft = new_model(party.id, state="draft")
    theirs = new_model(stranger.id)
    with tenant_scope(party.id):
        with pytest.raises(NotFound):
            services.start_finetune(dataset_id=uuid.uuid4())
        for base in ("prior-9", "nonsense", str(uuid.uuid4()), str(theirs.id)):
            with pytest.raises(NotFound):
                start(dataset, base=base)
        with pytest.raises(NotReady):
            start(dataset, base=str(draft.id))
        with pytest.raises(Invalid):
            start(dataset, stage="full")
        with pytest.raises(Invalid):
            start(dataset, general_dataset_id=dataset.id)
        with pytest.raises(Conflict):
            start(dataset, name=draft.name)
        assert not Job.objects.filter(kind="finetune").exists()


def test_a_model_is_a_base_and_a_full_training_names_both_datasets(party, dataset):
    base = new_model(party.id)
    with tenant_scope(party.id):
        general = new_dataset("general")
        row, _ = start(dataset, base=str(base.id), stage="full", general_dataset_id=general.id, name="mine")
        assert (row.name, row.base, row.parent_id) == ("mine", base.space, base.id)
        assert [one["name"] for one in row.data["datasets"]] == ["shapes", "general"]
        assert selectors.model_shape(row, None).parent == str(base.id)


def test_a_base_that_is_deleted_while_the_job_waits_is_told(party, dataset, tmp_path):
    base = new_model(party.id)
    with tenant_scope(party.id):
        row, _ = start(dataset, base=str(base.id))
        services.delete_model(model=base)
        row = LearntModel.objects.get(pk=row.pk)
        assert (row.parent, row.base) == (None, base.space)
    with pytest.raises(finetuning.BaseDeleted):
        finetuning.fetch_base(party.id, row, tmp_path / "base")


def test_a_base_of_the_tenants_own_is_copied_whole(party, dataset, tmp_path):
    base = with_files(new_model(party.id), tmp_path)
    row = new_model(party.id, base=base.space)
    folder = finetuning.fetch_base(party.id, row, tmp_path / "base")
    assert {"manifest.json", "space.safetensors"} <= {path.name for path in folder.iterdir()}
    assert finetuning.fetch_base(party.id, row, folder) == folder


def test_what_serves_learns_or_is_promoted_stays(party, dataset):
    live = new_model(party.id, state="live")
    with tenant_scope(party.id):
        draft, job = start(dataset)
        for row in (live, draft):
            with pytest.raises(Conflict):
                services.delete_model(model=row)
        jobs.cancel(job_id=job.id)
        services.delete_model(model=draft)
        assert list(LearntModel.objects.values_list("pk", flat=True)) == [live.pk]


def test_upkeep_removes_files_of_deleted_models_and_folders_of_ended_trainings(
    party, dataset, settings, tmp_path
):
    settings.LEARNING_DIR = tmp_path / "learning"
    kept, gone = (with_files(new_model(party.id), tmp_path) for _ in range(2))
    with tenant_scope(party.id):
        row, _ = start(dataset)
        services.delete_model(model=gone)
    busy, idle = (services.folder_of(party.id, pk) for pk in (row.pk, uuid.uuid4()))
    for folder in (busy, idle):
        folder.mkdir(parents=True)
    with tenant_scope(party.id):
        assert cleanup.remove_leftovers() == 2
    assert (busy.exists(), idle.exists()) == (True, False)
    assert model_routing.space(kept.space, party.id).id == kept.space.rpartition(":")[0]
    with pytest.raises(Exception, match=r"missing|available"):
        model_routing.space(gone.space, party.id)


def test_a_fine_tune_starts_from_the_space_on_a_tower(party, dataset, monkeypatch):
    monkeypatch.setattr(Builtin, "missing_weights", "")
    with tenant_scope(party.id):
        row, _ = start(dataset, base="open-1")
        assert (row.base, row.parent) == ("open:1", None)


def test_it_does_not_where_the_tower_is_missing(party, dataset, monkeypatch):
    monkeypatch.setattr(Builtin, "missing_weights", "clip-vit-b16")
    with tenant_scope(party.id), pytest.raises(NotReady, match=r"clip-vit-b16.*requirements-weights\.txt"):
        start(dataset, base="open-1")


def test_lora_is_refused_wherever_the_first_base_was_a_tower(party, dataset, monkeypatch):
    monkeypatch.setattr(Builtin, "missing_weights", "")
    own = new_model(party.id, base="open:1")
    with tenant_scope(party.id):
        for base in ("open-1", str(own.id)):
            with pytest.raises(Invalid, match="Choose heads") as refused:
                start(dataset, base=base, method="lora")
            assert refused.value.errors[0]["pointer"] == "/method"
        assert not LearntModel.objects.exclude(pk=own.pk).exists()
