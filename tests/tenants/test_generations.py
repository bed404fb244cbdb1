"""Asking for generations: what may be asked, what is held for it, who sees it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants.accounts import quotas
from tenants.accounts.models import Tenant
from tenants.datasets.models import Dataset
from tenants.datasets.services import create_dataset
from tenants.errors import Conflict, Invalid, NotFound, NothingKnown, NotReady, QuotaExceeded
from tenants.events.models import AuditEvent
from tenants.generation import previews, selectors, services, validation
from tenants.generation.models import Generation, GenerationOutput
from tenants.generation.validation import GenerationSpec
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope


def ask(party: Any, prompt: str = "a red cat", **more: Any) -> tuple[Generation, Job]:
    wanted = {name: more.pop(name) for name in validation.NAMES if name in more}
    with tenant_scope(party.id):
        return services.request_generation(wanted=GenerationSpec(prompt=prompt, **wanted), **more)


def held(party: Any) -> dict[str, tuple[float | None, float | None]]:
    with tenant_scope(party.id):
        summary = quotas.summary()
    return {name: (row["used"], row["reserved"]) for name, row in summary.items()}


def test_a_request_and_its_job(party) -> None:
    row, job = ask(party, "  a red cat \n", outputs=("video", "image"), actor="key:x")
    assert (row.prompt, row.outputs, row.state) == ("a red cat", ["image", "video"], "queued")
    assert (job.kind, job.state, job.arguments) == ("generate", "queued", {"generation": str(row.id)})
    assert row.mark == row.id.int & 0xFFFF_FFFF
    with tenant_scope(party.id):
        assert Dataset.objects.get(pk=row.dataset_id).name == "Generated"
        line = AuditEvent.objects.get(verb="generation.requested")
        assert (line.actor, line.target) == ("key:x", str(row.id))
        assert selectors.get_generation(row.id).seed == row.seed
    counted = held(party)
    assert counted["generations"] == (0, 1)
    assert counted["assets"] == (0, 2)
    second, _ = ask(party)
    assert second.dataset_id == row.dataset_id
    assert second.seed != row.seed


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"prompt": ""}, "/prompt"),
        ({"prompt": " \n\t "}, "/prompt"),
        ({"prompt": "x" * 2001}, "/prompt"),
        ({"prompt": "cat\x00"}, "/prompt"),
        ({"prompt": "cat\x1b[31m"}, "/prompt"),
        ({"prompt": "cat \u202etac"}, "/prompt"),
        ({"prompt": "cat \ud800"}, "/prompt"),
        ({"negative": "x" * 2001}, "/negative"),
        ({"negative": "dog\x07"}, "/negative"),
        ({"outputs": ()}, "/outputs"),
        ({"outputs": ("image", "smell")}, "/outputs"),
        ({"seed": -1}, "/seed"),
        ({"seed": 2**31}, "/seed"),
        ({"steps": 0}, "/steps"),
        ({"steps": 101}, "/steps"),
        ({"guidance": 21.0}, "/guidance"),
        ({"guidance": float("nan")}, "/guidance"),
        ({"width": 255}, "/width"),
        ({"width": 1032}, "/width"),
        ({"height": 300 + 1}, "/height"),
        ({"seconds": 0.5}, "/seconds"),
        ({"seconds": 31.0}, "/seconds"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_held(party, changes, pointer) -> None:
    with pytest.raises(Invalid) as refusal:
        ask(party, **{"prompt": "a cat", **changes})
    assert refusal.value.errors[0]["pointer"] == pointer
    with tenant_scope(party.id):
        assert not Generation.objects.exists()
        assert not Job.objects.exists()
        assert not Dataset.objects.exists()
    assert held(party)["generations"] == (0, 0)


@pytest.mark.parametrize(
    "prompt",
    [
        "一只戴帽子的猫",
        "قطة على الشاطئ",
        "<script>alert(1)</script>",
        "'; DROP TABLE asset;--",
        "🐈‍⬛ x" * 300,
    ],
)
def test_words_of_any_language_are_words(party, prompt) -> None:
    row, _ = ask(party, prompt, anyway=True)
    with tenant_scope(party.id):
        assert selectors.get_generation(row.id).prompt == prompt


@pytest.mark.parametrize(
    ("outputs", "off", "said"),
    [
        (("image",), ("image",), "GENERATOR_IMAGE"),
        (("video",), ("image",), "GENERATOR_IMAGE"),
        (("video",), ("video",), "GENERATOR_VIDEO"),
        (("image", "audio"), ("audio",), "GENERATOR_AUDIO"),
    ],
)
def test_a_kind_that_is_turned_off_says_what_to_set(party, settings, outputs, off, said) -> None:
    settings.GENERATORS = {**settings.GENERATORS, **dict.fromkeys(off, "")}
    with pytest.raises(NotReady, match=said):
        ask(party, outputs=outputs)
    assert held(party)["generations"] == (0, 0)


def test_a_clip_alone_needs_no_music(party, settings) -> None:
    settings.GENERATORS = {**settings.GENERATORS, "audio": ""}
    assert ask(party, outputs=("video",))[0].outputs == ["video"]


def test_the_plan_bounds_generations_and_what_they_may_store(make_party) -> None:
    party = make_party(plan="starter")
    Tenant.objects.filter(pk=party.id).update(exceptions={"generations": 1})
    ask(party)
    with pytest.raises(QuotaExceeded) as refusal:
        ask(party)
    assert (refusal.value.extra["resource"], refusal.value.extra["limit"]) == ("generations", 1)
    Tenant.objects.filter(pk=party.id).update(exceptions={"assets": 2})
    with pytest.raises(QuotaExceeded) as refusal:
        ask(party, outputs=("image", "audio"))
    assert refusal.value.extra["resource"] == "assets"
    assert held(party)["generations"] == (0, 1)


def test_cancelled_gives_the_quota_back_and_can_be_tried_again(party) -> None:
    row, _ = ask(party)
    with tenant_scope(party.id):
        stopped, job = services.cancel(generation_id=row.id)
        assert (stopped.state, stopped.error, job.state) == ("cancelled", None, "cancelled")
        assert stopped.finished_at is not None
        with pytest.raises(Conflict):
            services.cancel(generation_id=row.id)
    assert held(party)["generations"] == held(party)["assets"] == (0, 0)
    with tenant_scope(party.id):
        again, job = services.retry(generation_id=row.id)
        assert (again.state, again.finished_at, job.state) == ("queued", None, "queued")
        assert again.seed == row.seed
        with pytest.raises(Conflict):
            services.retry(generation_id=row.id)
    assert held(party)["generations"] == (0, 1)


def test_a_variation_keeps_everything_but_the_seed(party) -> None:
    row, _ = ask(party, negative="dogs", steps=9, width=256, outputs=("image", "audio"))
    with tenant_scope(party.id):
        other, _ = services.vary_generation(generation_id=row.id)
        named, _ = services.vary_generation(generation_id=row.id, changes={"seed": 7, "steps": 3})
        assert (other.prompt, other.negative, other.steps, other.width) == ("a red cat", "dogs", 9, 256)
        assert (other.outputs, other.variation_of_id, other.dataset_id) == (
            row.outputs,
            row.id,
            row.dataset_id,
        )
        assert other.seed != row.seed
        assert (named.seed, named.steps) == (7, 3)
        assert set(selectors.list_generations(variation_of=row.id)) == {other, named}
        services.delete_generation(generation_id=row.id)
        assert selectors.get_generation(other.id).variation_of_id is None


def test_a_remix_begins_with_the_caption(party) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
        asset = add_asset(dataset_id=dataset.id, text="a green boat").asset
        row, _ = services.request_generation(wanted=GenerationSpec(), remix_of=asset.id)
        assert (row.prompt, row.remix_of_id) == ("a green boat", asset.id)
        own, _ = services.request_generation(wanted=GenerationSpec(prompt="a blue boat"), remix_of=asset.id)
        assert own.prompt == "a blue boat"
        with pytest.raises(NotFound):
            services.request_generation(wanted=GenerationSpec(prompt="x"), remix_of=uuid.uuid4())


def test_a_dataset_that_wants_other_metadata_is_refused(party) -> None:
    with tenant_scope(party.id):
        strict = create_dataset(name="s", metadata_schema={"price": {"type": "number", "required": True}})
        with pytest.raises(Invalid) as refusal:
            services.request_generation(wanted=GenerationSpec(prompt="x"), dataset_id=strict.id)
        assert refusal.value.errors[0]["pointer"].startswith("/dataset")
        with pytest.raises(NotFound):
            services.request_generation(wanted=GenerationSpec(prompt="x"), dataset_id=uuid.uuid4())


def test_deleting_forgets_the_prompt_and_stops_the_job(party) -> None:
    row, job = ask(party)
    previews.keep(party.id, row.id, b"png")
    with tenant_scope(party.id):
        services.delete_generation(generation_id=row.id)
        assert not Generation.objects.exists()
        assert Job.objects.get(pk=job.id).state == "cancelled"
    assert previews.newest(party.id, row.id) is None
    assert held(party)["generations"] == (0, 0)


def test_another_tenant_sees_nothing(party, stranger) -> None:
    row, _ = ask(party)
    previews.keep(party.id, row.id, b"png")
    assert previews.newest(stranger.id, row.id) is None
    with tenant_scope(stranger.id):
        assert not list(selectors.list_generations())
        acts = (services.cancel, services.retry, services.vary_generation, services.delete_generation)
        for act in acts:
            with pytest.raises(NotFound):
                act(generation_id=row.id)
        with pytest.raises(NotFound):
            services.request_generation(wanted=GenerationSpec(prompt="a cat"), dataset_id=row.dataset_id)
        assert not list(selectors.marked(row.mark))
    with tenant_scope(party.id):
        assert list(selectors.marked(row.mark)) == [row]
        assert list(selectors.marked(row.mark & 0xFFFF, bits=16)) == [row]
        assert selectors.get_generation(row.id).state == "queued"


def test_a_page_costs_the_same_however_long_it_is(party) -> None:
    def statements() -> int:
        with (
            tenant_scope(party.id),
            CaptureQueriesContext(
                connection,
            ) as seen,
        ):
            rows = list(selectors.list_generations()[:50])
            made = selectors.outputs_of(rows)
            shapes = [selectors.generation_shape(row, made[row.id]) for row in rows]
        assert all(shape.results for shape in shapes)
        return len(seen)

    counts = []
    for _ in range(2):
        for _ in range(3):
            row, _ = ask(party)
            with tenant_scope(party.id):
                asset = add_asset(dataset_id=row.dataset_id, text=uuid.uuid4().hex).asset
                GenerationOutput.objects.create(
                    generation=row, kind="image", asset=asset, how="model", model="m"
                )
        counts.append(statements())
    assert counts[0] == counts[1]


# --- Words of which nothing is known ---


@pytest.mark.parametrize("outputs", [("image",), ("video",), ("image", "audio")])
def test_words_that_name_nothing_known_are_refused_before_anything_is_queued(party, outputs) -> None:
    with pytest.raises(NothingKnown) as caught:
        ask(party, "the meaning of life", outputs=outputs)
    assert (caught.value.slug, caught.value.status) == ("nothing-known", 422)
    assert caught.value.errors[0]["pointer"] == "/prompt"
    with tenant_scope(party.id):
        assert not Generation.objects.exists() and not Job.objects.exists()
    assert held(party)["generations"] == (0, 0)


def test_they_are_drawn_where_somebody_insists_and_once_more_then(party) -> None:
    row, _ = ask(party, "the meaning of life", anyway=True)
    with tenant_scope(party.id):
        again, _ = services.vary_generation(generation_id=row.id)
        assert again.prompt == row.prompt
        with pytest.raises(NothingKnown):
            services.vary_generation(generation_id=row.id, changes={"prompt": "happiness"})


def test_music_and_other_generators_take_any_words(party, settings) -> None:
    ask(party, "the meaning of life", outputs=("audio",))
    settings.GENERATORS = {**settings.GENERATORS, "image": "hf-image:/models/sdxl"}
    ask(party, "the meaning of life")
