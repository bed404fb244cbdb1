"""Generating, from the request to assets that are found, on the real database, studio, marks and detectors."""

from __future__ import annotations

import datetime as dt
import io
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.utils import timezone
from PIL import Image

from ml.provenance.disclosure import PAUSE_S, read_notice
from tenants.accounts import quotas
from tenants.datasets import storage
from tenants.datasets.models import Asset, Blob, Facet
from tenants.events import endpoints
from tenants.events.models import WebhookEvent
from tenants.generation import disclosure, previews, services, validation
from tenants.generation.models import Generation, GenerationOutput
from tenants.generation.validation import GenerationSpec
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.moderation import policies
from tenants.moderation.models import Audit, AuditRequest, Evidence, Record, Review
from tenants.pipeline.assets.services import delete_dataset, update_asset
from tenants.pipeline.audits import auditing
from tenants.pipeline.care import erasure
from tenants.pipeline.generation import generating, persist_output
from tenants.retrieval.index.vectors import ModelSwitched
from tenants.retrieval.models import Vector
from tenants.retrieval.query import lexical
from tenants.scope import tenant_scope
from tests.api.conftest import Api
from tests.tenants.time_stamping import authority
from tests.workers.sketching import Chord, Sketch
from workers.base import run_job

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("sketching")]

SMALL = {"width": 256, "height": 256, "seconds": 6.0, "steps": 3}


class Killed(BaseException):
    """As `kill -9`: nothing of the worker's own code runs any more."""


def rule(name: str, when: str, then: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "when": when, "then": then, "reason": f"{name} was seen", **more}


NO_PROMPT = rule("words", 'item.modality == "text"', "block")
NO_MUSIC = rule("music", 'item.modality == "audio"', "block")
LOOK = rule("look", 'item.modality == "image"', "review")


@pytest.fixture
def enforce(party):
    def put(*rules: dict[str, Any], mode: str = "enforce", **document: Any) -> None:
        with tenant_scope(party.id):
            policy, _ = policies.create_policy(
                name=f"p-{uuid.uuid4().hex[:6]}", document={"rules": list(rules), **document}
            )
            policies.activate(policy_id=policy.id, number=1, mode=mode, ratio=1.0)

    return put


@pytest.fixture
def told(party) -> Callable[[], list[str]]:
    """The types of what a webhook was told of generations."""
    with tenant_scope(party.id):
        endpoints.create_webhook(url="https://hooks.example/in", actor="x")

    def types() -> list[str]:
        with tenant_scope(party.id):
            rows = WebhookEvent.objects.filter(type__startswith="generation.").order_by("id")
            return list(rows.values_list("type", flat=True))

    return types


def ask(party: Any, prompt: str = "a red cat", **more: Any) -> tuple[Generation, Job]:
    wanted = {**SMALL, **{name: more.pop(name) for name in validation.NAMES if name in more}}
    with tenant_scope(party.id):
        return services.request_generation(wanted=GenerationSpec(prompt=prompt, **wanted), **more)


def run(party: Any, job: Job) -> Job:
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        return Job.objects.get(pk=job.id)


def fresh(party: Any, row: Generation) -> tuple[Generation, list[GenerationOutput]]:
    with tenant_scope(party.id):
        outputs = GenerationOutput.objects.filter(generation=row).select_related("asset__blob")
        return Generation.objects.get(pk=row.pk), list(outputs.order_by("id"))


def counted(party: Any) -> dict[str, Any]:
    with tenant_scope(party.id):
        return quotas.summary()


def nothing_is_left(party: Any) -> None:
    """No asset, no file that counts, nothing used and nothing held."""
    with tenant_scope(party.id):
        assert not Asset.objects.exists()
        assert not GenerationOutput.objects.filter(asset__isnull=False).exists()
        assert not Blob.objects.filter(references__gt=0).exists()
    for name in ("generations", "assets", "bytes", "vectors"):
        assert (counted(party)[name]["used"], counted(party)[name]["reserved"]) == (0, 0), name


# --- What comes of it ------------------------------------------------------------------------------------


def test_a_picture_and_music_become_assets_that_are_found_and_known_as_made_here(party, told) -> None:
    row, job = ask(party, outputs=("image", "audio"))
    ended = run(party, job)
    assert ended.state == "succeeded", ended.error
    row, outputs = fresh(party, row)
    assert (row.state, row.error, [one.kind for one in outputs]) == ("succeeded", None, ["image", "audio"])
    assert row.made_by == {"image": "sketch 1", "audio": "chord 1"}
    picture, music = outputs
    assert len(picture.scores) == 2
    assert picture.score == max(picture.scores)
    assert (picture.how, music.how) == ("model", "rules")
    assert picture.provenance["c2pa"]["own"] is True
    assert picture.provenance["watermark"]["payload"] == f"{row.mark:08x}"
    assert (picture.audit_id, picture.decision) == (None, "")
    for one in outputs:
        assert (one.asset.generation_id, one.asset.labels) == (row.id, ["ai-generated"])
        assert one.asset.metadata == {"generated": True}
        # What it was made from is no caption: no vector is of it, and no word finds it.
        assert (one.asset.prompt, one.asset.captions) == ("a red cat", [])
        with tenant_scope(party.id):
            assert "text" not in set(
                Vector.objects.filter(asset_id=one.asset_id).values_list("modality", flat=True)
            )
            assert one.asset_id not in dict(lexical.matching("red cat", 10))
        assert one.asset.blob.references == 1
    assert ended.result == {
        "generation": str(row.id),
        "assets": [str(picture.asset_id), str(music.asset_id)],
        "score": row.score,
    }
    assert ended.cost_cpu_s > 0
    used = counted(party)
    assert used["generations"] == {"used": 1, "reserved": 0, "limit": 100_000}
    assert used["assets"]["used"] == 2
    assert used["bytes"]["used"] == picture.asset.blob.bytes + music.asset.blob.bytes
    assert told() == ["generation.finished"]
    assert previews.newest(party.id, row.id) is None
    assert (used["vectors"]["used"], used["vectors"]["reserved"]) == (vectors_of(party), 0)
    for one in outputs:
        assert (one.asset.status, one.asset.error) == ("ready", None)
        assert Api(party.token).get(f"/assets/{one.asset_id}/content").status_code == 200
        assert Api(party.token).get(f"/assets/{one.asset_id}/thumbnail").status_code == 200
    # Music without words has nothing that is compared.
    for asked in {"filter": {"generated": True}}, {"generated": "only"}, {"generated": "include"}:
        answer = Api(party.token).post("/search", {"text": "a red cat", **asked}).json()
        assert [one["asset"]["id"] for one in answer["results"]] == [str(picture.asset_id)]
        assert answer["results"][0]["matched"]["modality"] == "image"
    for asked in {"filter": {"generated": False}}, {}:
        assert Api(party.token).post("/search", {"text": "a red cat", **asked}).json()["results"] == []
    # Everything of it is done.
    with tenant_scope(party.id):
        assert not Job.objects.exclude(pk=job.id).exists()


def vectors_of(party: Any) -> int:
    with tenant_scope(party.id):
        return Vector.objects.count()


def test_another_model_that_begins_to_answer_meanwhile_holds_nothing_up(party, monkeypatch) -> None:
    """What was made is embedded again for it, under one job."""
    row, job = ask(party)
    real, tries = persist_output.make_ready, []

    def switched_once(*args: Any) -> int:
        tries.append(args)
        if len(tries) == 1:
            raise ModelSwitched("other:1")
        return real(*args)

    monkeypatch.setattr(persist_output, "make_ready", switched_once)
    ended = run(party, job)
    assert (ended.state, ended.attempts, len(tries)) == ("succeeded", 1, 2)
    _, [picture] = fresh(party, row)
    assert picture.asset.status == "ready"
    assert Api(party.token).get(f"/assets/{picture.asset_id}/content").status_code == 200
    used = counted(party)
    assert (used["assets"]["used"], used["vectors"]["used"]) == (1, vectors_of(party))


def test_cancelled_while_it_is_embedded_keeps_nothing(party, monkeypatch) -> None:
    row, job = ask(party)
    real = generating.prepare

    def cancelled(*args: Any) -> Any:
        with tenant_scope(party.id):
            services.cancel(generation_id=row.id)
        return real(*args)

    monkeypatch.setattr(generating, "prepare", cancelled)
    assert run(party, job).state == "cancelled"
    nothing_is_left(party)


def test_the_file_as_released_is_known_by_an_audit(party, enforce) -> None:
    row, job = ask(party)
    run(party, job)
    row, [picture] = fresh(party, row)
    with tenant_scope(party.id):
        from tenants.pipeline.audits import audit_requests

        asked = audit_requests.request_audit(asset_id=picture.asset_id)
    run_job(str(asked.job.id), str(party.id))
    with tenant_scope(party.id):
        document = Evidence.objects.get(audit_id=asked.request.id).document
    found = document["provenance"]
    assert (found["c2pa"]["own"], found["c2pa"]["ai"]) == (True, True)
    assert (found["watermark"]["state"], found["watermark"]["payload"]) == ("present", f"{row.mark:08x}")
    assert document["authenticity"]["verdict"] == "likely_synthetic"


def test_the_same_seed_makes_the_same_picture_and_another_one_another(party) -> None:
    first, job = ask(party, seed=5)
    run(party, job)
    with tenant_scope(party.id):
        second, job = services.vary_generation(generation_id=first.id, changes={"seed": 5})
        third, other = services.vary_generation(generation_id=first.id)
    run(party, job)
    run(party, other)
    one, two, three = (pixels(fresh(party, row)[1][0].asset) for row in (first, second, third))
    # But for the mark, which names each generation.
    assert difference(one, two) < 6 < difference(one, three)


def pixels(asset: Asset) -> Image.Image:
    with storage.open_blob(storage.path_of(asset.tenant_id, asset.blob.sha256)) as stream:
        return Image.open(io.BytesIO(stream.read())).convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> float:
    small = (np.asarray(image.resize((64, 64)), np.float32) for image in (one, other))
    return float(np.abs(next(small) - next(small)).mean())


def test_nobody_makes_it_look_like_something_else(party) -> None:
    row, job = ask(party)
    run(party, job)
    _, [picture] = fresh(party, row)
    with tenant_scope(party.id):
        update_asset(asset_id=picture.asset_id, values={"generated": False, "title": "mine"})
        asset = Asset.objects.get(pk=picture.asset_id)
        assert asset.metadata == {"generated": True, "title": "mine"}
        assert Facet.objects.filter(asset=asset, key="generated").count() == 1


def test_previews_are_seen_while_it_is_drawn(party, sketching) -> None:
    row, job = ask(party)
    seen: list[bytes | None] = []
    sketching(image=Sketch(lambda step: seen.append(previews.newest(party.id, row.id))))
    run(party, job)
    assert seen[0] is None
    assert seen[1] is not None
    assert Image.open(io.BytesIO(seen[1])).format == "PNG"


# --- The policy ------------------------------------------------------------------------------------------


def test_a_prompt_that_the_policy_blocks_makes_nothing(party, enforce, told, sketching) -> None:
    enforce(NO_PROMPT)
    drawn = Sketch()
    sketching(image=drawn)
    row, job = ask(party, "a red cat", negative="dogs")
    ended = run(party, job)
    assert (ended.state, ended.error["type"], ended.attempts) == ("failed", "prompt-blocked", 1)
    row, outputs = fresh(party, row)
    assert (row.state, row.error["type"], outputs) == ("blocked", "prompt-blocked", [])
    assert "words" in row.error["detail"]
    assert drawn.seeds == []
    with tenant_scope(party.id):
        audit = Audit.objects.get()
        assert (audit.id, audit.source, audit.decision) == (row.prompt_audit_id, "prompt", "block")
        assert [line.audit for line in Record.objects.filter(kind="audit")] == [audit.id]
    assert told() == ["generation.failed"]
    nothing_is_left(party)


def test_what_the_policy_blocks_is_kept_out_and_said(party, enforce, told) -> None:
    enforce(NO_MUSIC)
    row, job = ask(party, outputs=("image", "audio"))
    ended = run(party, job)
    assert (ended.state, ended.result["blocked"], len(ended.result["assets"])) == ("succeeded", 1, 1)
    row, [picture, music] = fresh(party, row)
    assert (picture.decision, picture.asset.moderation) == ("allow", "allow")
    assert (music.decision, music.asset) == ("block", None)
    assert picture.asset.labels == ["ai-generated"]
    with tenant_scope(party.id):
        assert Asset.objects.count() == 1
        by_id = {audit.id: audit for audit in Audit.objects.all()}
        assert (by_id[music.audit_id].decision, by_id[music.audit_id].item) == ("block", None)
        assert by_id[picture.audit_id].item == picture.asset_id
        assert sorted(audit.source for audit in by_id.values()) == ["output", "output", "prompt"]
        assert set(Record.objects.filter(kind="audit").values_list("audit", flat=True)) == set(by_id)
    assert counted(party)["assets"]["used"] == 1
    assert told() == ["generation.finished"]


def test_where_everything_is_kept_out_the_quota_comes_back(party, enforce, told) -> None:
    enforce(NO_MUSIC)
    row, job = ask(party, outputs=("audio",))
    ended = run(party, job)
    assert (ended.state, ended.error["type"]) == ("failed", "output-blocked")
    row, [music] = fresh(party, row)
    assert (row.state, music.asset_id, music.decision) == ("blocked", None, "block")
    assert told() == ["generation.failed"]
    nothing_is_left(party)
    with tenant_scope(party.id):
        policies.activate(policy_id=policies.in_force().policy_id, number=1, mode="off")
        row, job = services.retry(generation_id=row.id)
    assert run(party, job).state == "succeeded"
    assert [one.decision for one in fresh(party, row)[1]] == [""]


def test_a_review_holds_back_what_a_policy_quarantines(party, enforce) -> None:
    enforce(LOOK, quarantine=True)
    row, job = ask(party)
    ended = run(party, job)
    row, [picture] = fresh(party, row)
    assert (row.state, picture.decision, picture.asset.moderation) == ("succeeded", "review", "quarantined")
    assert (ended.result["held"], picture.asset.status, vectors_of(party)) == (1, "pending", 0)
    with tenant_scope(party.id):
        assert not Job.objects.filter(kind="embed_asset").exists()
        assert Review.objects.get().audit_id == picture.audit_id


def test_a_prompt_for_people_to_look_at_sends_what_came_of_it_to_them(party, enforce) -> None:
    enforce(rule("words", 'item.modality == "text"', "review"))
    row, job = ask(party)
    run(party, job)
    row, [picture] = fresh(party, row)
    assert (picture.decision, picture.asset.moderation) == ("review", "review")
    with tenant_scope(party.id):
        flags = dict(Review.objects.values_list("audit_id", "asset_id"))
        assert flags == {row.prompt_audit_id: None, picture.audit_id: picture.asset_id}
        # The words are kept for whoever looks.
        assert AuditRequest.objects.get(source="prompt").blob is not None


def test_a_shadowed_policy_changes_nothing(party, enforce) -> None:
    enforce(NO_PROMPT, LOOK, mode="shadow")
    row, job = ask(party)
    assert run(party, job).state == "succeeded"
    _, [picture] = fresh(party, row)
    assert (picture.decision, picture.asset.moderation) == ("", "")
    with tenant_scope(party.id):
        assert set(Audit.objects.values_list("mode", flat=True)) == {"shadow"}


# --- What goes wrong -------------------------------------------------------------------------------------


def test_cancelled_in_the_middle_keeps_nothing(party, sketching, told) -> None:
    row, job = ask(party)

    def stop(step: int) -> None:
        if step == 1:
            with tenant_scope(party.id):
                services.cancel(generation_id=row.id)

    drawn = Sketch(stop)
    sketching(image=drawn)
    ended = run(party, job)
    row, _ = fresh(party, row)
    assert (ended.state, row.state, row.error) == ("cancelled", "cancelled", None)
    assert ended.progress_done < ended.progress_total
    assert previews.newest(party.id, row.id) is None
    assert told() == []
    nothing_is_left(party)
    with tenant_scope(party.id):
        row, job = services.retry(generation_id=row.id)
    sketching()
    assert run(party, job).state == "succeeded"


def out_of_memory(step: int) -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("act", "kind"),
    [(out_of_memory, "out-of-memory"), (lambda step: 1 / 0, "failed")],
)
def test_a_generator_that_fails_says_so_once(party, sketching, told, act, kind) -> None:
    sketching(image=Sketch(act))
    row, job = ask(party)
    ended = run(party, job)
    assert (ended.state, ended.error["type"], ended.attempts) == ("failed", kind, 1)
    assert fresh(party, row)[0].error == ended.error
    assert told() == ["generation.failed"]
    nothing_is_left(party)


def test_the_generation_or_its_dataset_goes_meanwhile(party, sketching) -> None:
    def gone(act: Callable[[Generation], Any]) -> Job:
        row, job = ask(party)

        def once(step: int) -> None:
            if step == 0:
                with tenant_scope(party.id):
                    act(row)

        sketching(image=Sketch(once))
        return run(party, job)

    ended = gone(lambda row: services.delete_generation(generation_id=row.id))
    assert ended.state == "cancelled"
    ended = gone(lambda row: erasure.erase_generation(generation_id=row.id))
    assert ended.state == "cancelled"
    ended = gone(lambda row: delete_dataset(dataset_id=row.dataset_id))
    assert (ended.state, ended.error["type"]) == ("failed", "not-found")
    nothing_is_left(party)


def test_deleted_with_what_it_made_leaves_nothing_but_its_count(party) -> None:
    row, job = ask(party, outputs=("image", "audio"))
    run(party, job)
    _, outputs = fresh(party, row)
    search = {"text": "a red cat", "filter": {"generated": True}}
    assert len(Api(party.token).post("/search", search).json()["results"]) == 1
    with tenant_scope(party.id):
        receipts = erasure.erase_generation(generation_id=row.id)
    assert {one.target for one in receipts} == {output.asset_id for output in outputs}
    assert Api(party.token).post("/search", search).json()["results"] == []
    for output in outputs:
        assert not default_storage.exists(storage.path_of(party.id, output.asset.blob.sha256))
    used = counted(party)
    assert used["generations"]["used"] == 1
    for name in ("assets", "bytes", "vectors"):
        assert (used[name]["used"], used[name]["reserved"]) == (0, 0), name


def test_a_full_workspace_stores_nothing(party, monkeypatch) -> None:
    row, job = ask(party)
    from tenants.accounts.models import Tenant

    Tenant.objects.filter(pk=party.id).update(exceptions={"vectors": 0})
    ended = run(party, job)
    assert (ended.state, ended.error["type"]) == ("failed", "quota-exceeded")
    assert fresh(party, row)[0].state == "failed"
    nothing_is_left(party)


# --- Killed ----------------------------------------------------------------------------------------------


def lease_over(party: Any, job: Job) -> None:
    with tenant_scope(party.id):
        Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


@pytest.mark.parametrize("moment", ["drawing", "examined", "stored", "recorded"])
def test_killed_at_any_moment_it_is_made_once(party, enforce, sketching, monkeypatch, moment) -> None:
    enforce(rule("nothing", 'item.modality == "video"', "block"))
    row, job = ask(party, outputs=("image", "audio"), seed=11)

    def die(*args: Any, **kwargs: Any) -> None:
        raise Killed

    if moment == "drawing":
        sketching(image=Sketch(die))
    elif moment == "examined":
        monkeypatch.setattr(generating, "persist_output", die)
    elif moment == "stored":
        monkeypatch.setattr(persist_output, "_end", die)
    else:
        monkeypatch.setattr(persist_output.auditing, "append", die_after(auditing.append, 1))
    with pytest.raises(Killed):
        run(party, job)
    with tenant_scope(party.id):
        assert not Asset.objects.exists()
        assert not GenerationOutput.objects.exists()
        assert not AuditRequest.objects.filter(source="output").exists()
    monkeypatch.undo()
    sketching()
    lease_over(party, job)
    assert run(party, job).state == "succeeded"
    _, outputs = fresh(party, row)
    assert [one.kind for one in outputs] == ["image", "audio"]
    with tenant_scope(party.id):
        assert Asset.objects.count() == 2
        assert sorted(Audit.objects.values_list("source", flat=True)) == ["output", "output", "prompt"]
        assert set(Asset.objects.values_list("status", flat=True)) == {"ready"}
    used = counted(party)
    assert (used["generations"]["used"], used["assets"]["used"], used["assets"]["reserved"]) == (1, 2, 0)


def die_after(call: Callable[..., None], times: int) -> Callable[..., None]:
    """The first call is the prompt's."""
    left = [times]

    def dying(*args: Any) -> None:
        call(*args)
        if not left[0]:
            raise Killed
        left[0] -= 1

    return dying


def test_a_worker_that_was_thought_dead_stores_nothing(party, sketching) -> None:
    _, job = ask(party)

    def overtake(step: int) -> None:
        if step == 1:
            lease_over(party, job)
            assert jobs.claim(job_id=job.id, tenant_id=party.id) is not None

    sketching(image=Sketch(overtake))
    ended = run(party, job)
    # Its successor holds it.
    assert (ended.state, ended.fence) == ("running", 2)
    with tenant_scope(party.id):
        assert not Asset.objects.exists()


def test_music_alone_needs_no_picture(party, sketching) -> None:
    drawn = Sketch()
    sketching(image=drawn, audio=Chord())
    row, job = ask(party, outputs=("audio",))
    assert run(party, job).state == "succeeded"
    assert drawn.seeds == []
    assert [one.kind for one in fresh(party, row)[1]] == ["audio"]


# --- What people see and hear ----------------------------------------------------------------------------


def test_a_picture_shows_the_icon_and_music_begins_with_the_notice_where_the_workspace_wants_it(
    party, settings
) -> None:
    settings.GENERATION_ICON, settings.GENERATION_NOTICE = "on", "off"
    settings.GENERATION_CANDIDATES = 1
    made = {}
    for name, chosen in (("installed", {}), ("turned", {"icon": False, "notice": True})):
        with tenant_scope(party.id):
            disclosure.change_disclosure(actor="x", changes=chosen)
        row, job = ask(party, outputs=("image", "audio"), seed=7)
        assert run(party, job).state == "succeeded"
        made[name] = fresh(party, row)[1]
    said = [[sorted({"icon", "notice"} & one.provenance.keys()) for one in ones] for ones in made.values()]
    assert said == [[["icon"], []], [[], ["notice"]]]
    assert all(one.provenance["c2pa"]["own"] for ones in made.values() for one in ones)
    # Of the same seed: what differs is the corner alone, and the notice comes before the music.
    with_icon, without = (np.asarray(pixels(ones[0].asset), np.int16) for ones in made.values())
    differs = np.abs(with_icon - without).mean(axis=2)
    assert differs[232:248, 222:246].mean() > 40 and differs[:200].mean() < 15
    lasts = [ones[1].asset.blob.bytes / (2 * 2 * 44_100) for ones in made.values()]
    assert lasts[1] - lasts[0] == pytest.approx(read_notice().seconds + PAUSE_S, abs=0.1)


def test_what_the_operator_enforces_stays_and_what_cannot_be_drawn_makes_nothing(
    party, settings, tmp_path
) -> None:
    with tenant_scope(party.id):
        disclosure.change_disclosure(actor="x", changes={"icon": False})
    settings.GENERATION_ICON = "enforced"
    row, job = ask(party)
    run(party, job)
    assert fresh(party, row)[1][0].provenance["icon"] == {"text": "AI", "corner": "bottom-right"}
    settings.GENERATION_ICON_FILE = str(tmp_path / "none.png")
    row, job = ask(party)
    ended = run(party, job)
    assert (ended.state, ended.error["type"]) == ("failed", "not-installed")
    assert fresh(party, row)[1] == []


# --- Time stamps -----------------------------------------------------------------------------------------


def test_what_is_released_has_a_time_stamp_and_an_audit_tells_it(party, enforce, settings, tmp_path) -> None:
    enforce(LOOK)
    with authority(tmp_path / "tsa") as (tsa, url):
        settings.GENERATION_TSA_URL, settings.GENERATION_TSA_CA = url, str(tsa.root)
        settings.GENERATION_TSA_PORTS = ("1024-65535",)
        settings.GENERATION_TSA_ALLOWED_NETWORKS = ("127.0.0.0/8",)
        row, job = ask(party)
        assert run(party, job).state == "succeeded"
        _, [picture] = fresh(party, row)
        # One of the two candidates is kept, and stamped.
        assert tsa.answers == 1
        stamp = picture.provenance["c2pa"]["time_stamp"]
        assert (stamp["state"], stamp["authority"]) == ("trusted", "TSA of the tests")
        assert abs(dt.datetime.fromisoformat(stamp["at"]) - timezone.now()) < timedelta(minutes=2)
        with tenant_scope(party.id):
            evidence = Evidence.objects.get(audit_id=picture.audit_id)
        assert evidence.document["provenance"]["c2pa"]["time_stamp"] == stamp
        # One that is away: signed without, once for all that is made; both say so.
        tsa.refuses = True
        row, job = ask(party, outputs=("image", "audio"))
        assert run(party, job).state == "succeeded"
        for one in fresh(party, row)[1]:
            assert one.provenance["c2pa"]["own"] is True
            assert one.provenance["c2pa"]["time_stamp"] == {
                "state": "unavailable",
                "why": "The time stamp authority answered 503.",
            }


@pytest.mark.parametrize("networks", [(), ("192.0.2.0/24",)])
def test_an_authority_inside_is_not_asked_unless_the_operator_allows_it(
    party, settings, tmp_path, networks
) -> None:
    with authority(tmp_path / "tsa") as (tsa, url):
        settings.GENERATION_TSA_URL, settings.GENERATION_TSA_CA = url, str(tsa.root)
        settings.GENERATION_TSA_PORTS = ("1024-65535",)
        settings.GENERATION_TSA_ALLOWED_NETWORKS = networks
        row, job = ask(party)
        assert run(party, job).state == "succeeded"
        stamp = fresh(party, row)[1][0].provenance["c2pa"]["time_stamp"]
        assert (stamp["state"], tsa.answers) == ("unavailable", 0)
        assert "The host has an address that is not called from here." in stamp["why"]
