"""A space that was added is offered to every workspace, promoted beside as any other, and removed when unused."""

from __future__ import annotations

import io
import secrets
import shutil
from collections.abc import Iterator

import pytest
from django.core.management import CommandError, call_command

from ml.alignment.installed import added_dir
from standalone.doctor import processing
from standalone.doctor.findings import Options
from tenants.errors import Conflict, Invalid, ModelUnavailable, NotFound, NotReady
from tenants.jobs.models import Job
from tenants.learning import promotions, selectors, services
from tenants.learning.added import remove_added_space, users_of
from tenants.learning.models import Promotion
from tenants.retrieval import model_routing
from tenants.retrieval.query.result_page import HYDRATED
from tenants.retrieval.query.searcher import search
from tenants.retrieval.types import Query
from tenants.scope import tenant_scope
from tests.ml.added_spaces import WIDTH, write_added
from tests.tenants.learning.world import add_picture, drawing, embed, new_dataset, unit
from workers.base import run_job


@pytest.fixture
def name() -> str:
    """As in an installation, no name comes twice: what a process remembers of one stays right."""
    return f"t{secrets.token_hex(4)}"


@pytest.fixture
def slug(name: str) -> Iterator[str]:
    """Added a moment ago, and gone afterwards."""
    yield (slug := write_added(name))
    shutil.rmtree(added_dir() / slug, ignore_errors=True)


@pytest.fixture
def pictures(party):
    with tenant_scope(party.id):
        dataset = new_dataset()
        made = [
            add_picture(dataset, drawing(f"large {colour} square", n))
            for n, colour in enumerate(("red", "blue"))
        ]
        for asset, values in zip(made, (unit(1), unit(0, 1)), strict=True):
            embed(asset, model_routing.default_model(), values)
    return made


def promote(party, slug, **options):
    with tenant_scope(party.id):
        row = promotions.promote(model=selectors.find_model(slug), actor="key:x", **options)
    run_job(str(row.job_id), str(party.id))
    with tenant_scope(party.id):
        job = Job.objects.get(pk=row.job_id)
        assert job.error is None
        return Promotion.objects.get(pk=row.pk)


def test_it_is_seen_at_once_promoted_and_answers_in_its_own_dimension(party, pictures, name, slug) -> None:
    with tenant_scope(party.id):
        listed = {one.id: one for one in selectors.list_builtin()}
    assert (listed[slug].state, listed[slug].space, listed[slug].built_in) == ("candidate", f"{name}:1", True)
    promote(party, slug, override_reason="We want it.")
    with tenant_scope(party.id):
        assert model_routing.live() == f"{name}:1"
        assert selectors.describe(selectors.find_model(slug)).state == "live"
    for colour, asset in zip(("red", "blue"), pictures, strict=True):
        found = search(tenant_id=party.id, query=Query(text=f"a {colour} thing", top_k=1), read=HYDRATED)
        assert [one.id for one, _ in found.results] == [str(asset.id)]
    assert model_routing.space(f"{name}:1").dimension == WIDTH


def test_one_that_reads_no_chinese_needs_a_reason(party, pictures, name, slug) -> None:
    shutil.rmtree(added_dir() / slug)
    write_added(name, languages=("en",))
    with tenant_scope(party.id), pytest.raises(promotions.WorseModel, match="Chinese"):
        promotions.promote(model=selectors.find_model(slug))


def test_it_stays_while_a_workspace_uses_it(party, pictures, name, slug) -> None:
    promote(party, slug, override_reason="We want it.")
    assert users_of(f"{name}:1") == [party.tenant.slug]
    with pytest.raises(CommandError, match=party.tenant.slug):
        call_command("remove_space", slug)
    with tenant_scope(party.id):
        promotions.roll_back(model=selectors.find_model(slug))
        model_routing.end_dual_write(f"{name}:1")
    with pytest.raises(Conflict):
        remove_added_space(slug)
    assert model_routing.forget_retired(party.id) == len(pictures)
    out = io.StringIO()
    call_command("remove_space", slug, stdout=out)
    assert out.getvalue() == f"{slug} is removed\n"
    assert not list(added_dir().glob(f"*{slug}"))
    with tenant_scope(party.id), pytest.raises(NotFound):
        selectors.find_model(slug)


def test_one_that_somebody_takes_meanwhile_is_put_back(party, pictures, slug, monkeypatch) -> None:
    from tenants.learning import added

    answers = iter([[], [party.tenant.slug]])
    monkeypatch.setattr(added, "users_of", lambda space: next(answers))
    with pytest.raises(Conflict):
        remove_added_space(slug)
    with tenant_scope(party.id):
        assert selectors.find_model(slug).slug == slug


def test_what_ships_and_what_is_not_there_is_not_removed() -> None:
    with pytest.raises(CommandError, match="comes with the product"):
        call_command("remove_space", "open-1")
    with pytest.raises(CommandError, match="This model does not exist"):
        call_command("remove_space", "../prior-1")


def test_no_fine_tune_starts_from_it(party, slug) -> None:
    with tenant_scope(party.id):
        dataset = new_dataset()
        with pytest.raises(Invalid, match="cannot be fine-tuned"):
            services.start_finetune(dataset_id=dataset.id, base=slug)


def test_the_doctor_checks_its_digests(slug) -> None:
    assert processing.added_spaces(Options()).verdict == "ok"
    assert slug in processing.added_spaces(Options()).what
    with (added_dir() / slug / "image" / "model.onnx").open("ab") as file:
        file.write(b"x")
    found = processing.added_spaces(Options())
    assert (found.verdict, slug in found.what) == ("fail", True)


def test_one_whose_files_are_gone_is_not_promoted(party, pictures, name, slug) -> None:
    (added_dir() / slug / "image" / "model.onnx").unlink()
    with tenant_scope(party.id), pytest.raises(NotReady, match="not whole"):
        promotions.promote(model=selectors.find_model(slug))
    (added_dir() / slug / "space.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        model_routing.space(f"{name}:1")
