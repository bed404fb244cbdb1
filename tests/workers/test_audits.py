"""Audits from upload to effect, on the real database, detectors and examining processes, without a broker between."""

from __future__ import annotations

import io
import uuid
import zipfile
from typing import Any

import pytest
from django.utils import timezone
from PIL import Image, PngImagePlugin

from ml.media.process import Child
from tenants.accounts import metering
from tenants.datasets.models import Asset, Blob
from tenants.datasets.services import create_dataset
from tenants.errors import Invalid, NotFound
from tenants.events import endpoints
from tenants.events.models import WebhookEvent
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.moderation import policies
from tenants.moderation.audits import evidence, proofs, selectors
from tenants.moderation.audits import standing as standing_audits
from tenants.moderation.models import Audit, AuditRequest, Evidence, Record, Review, Strike
from tenants.pipeline.assets import services, uploads
from tenants.pipeline.audits import audit_requests, auditing
from tenants.pipeline.care import erasure
from tenants.retrieval import saved, standing
from tenants.retrieval.models import StandingAlert, Vector
from tenants.retrieval.query.searcher import Query, search
from tenants.scope import tenant_scope
from tenants.shapes import UNSET
from tests.flows.pictures import jpeg
from tests.ml.provenance_files import declared_and_expired, declared_by_a_stranger, tampered
from workers.base import run_job

pytestmark = pytest.mark.slow

FORBIDDEN = "buy cheap meds now"


def rule(name: str, when: str, then: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "when": when, "then": then, "reason": f"{name} was seen", **more}


MARKED = rule("ai", "provenance.declared.ai", "label", labels=["ai-generated"])


@pytest.fixture
def dataset(party):
    with tenant_scope(party.id):
        return create_dataset(name="d")


@pytest.fixture
def enforce(party):
    """Put a policy of these rules in force."""

    def put(*rules: dict[str, Any], mode: str = "enforce", ratio: float = 1.0, **document: Any) -> Any:
        with tenant_scope(party.id):
            policy, _ = policies.create_policy(
                name=f"p-{uuid.uuid4().hex[:6]}",
                document={"rules": list(rules), "audit_uploads": True, **document},
            )
            policies.activate(policy_id=policy.id, number=1, mode=mode, ratio=ratio)
            return policy

    return put


def finish(party: Any, job: Job) -> Job:
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        return Job.objects.get(pk=job.id)


def add(party: Any, dataset: Any, **what: Any) -> services.Added:
    with tenant_scope(party.id):
        return services.add_asset(dataset_id=dataset.id, **what)


def ask(party: Any, **what: Any) -> audit_requests.RequestedAudit:
    with tenant_scope(party.id):
        return audit_requests.request_audit(**what)


def text(words: str) -> uploads.Upload:
    return uploads.check_upload(None, words)


def generated(size: int = 300) -> bytes:
    """A PNG that says which generator made it."""
    sink = io.BytesIO()
    info = PngImagePlugin.PngInfo()
    info.add_text(
        "parameters", "a castle, Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Model: sd_xl_base_1.0"
    )
    Image.open(io.BytesIO(jpeg(3, size))).save(sink, "PNG", pnginfo=info)
    return sink.getvalue()


def found(party: Any, words: str) -> set[uuid.UUID]:
    answer = search(party.id, Query(text=words, limit=50))
    return {result.asset_id for result in answer.results} if hasattr(answer, "results") else set()


def embed(party: Any, job: Job) -> None:
    run_job(str(job.id), str(party.id))


def embedding_of(party: Any, asset: Asset) -> Job:
    with tenant_scope(party.id):
        return Job.objects.filter(kind="embed_asset", arguments__asset=str(asset.id), state="queued").latest(
            "id"
        )


def fresh(party: Any, asset: Asset) -> Asset:
    with tenant_scope(party.id):
        return Asset.objects.get(pk=asset.pk)


def vectors(party: Any, asset: Asset) -> int:
    with tenant_scope(party.id):
        return Vector.objects.filter(asset_id=asset.pk).count()


def test_an_audit_that_meets_a_standing_query_is_an_alert_once(party, dataset, enforce) -> None:
    enforce(rule("meds", "item.metadata.bad == true", "block"))
    who = saved.Who("key:x", moderates=True)

    def stand(**query: Any) -> uuid.UUID:
        with tenant_scope(party.id):
            prepared = standing_audits.prepare(query)
            return standing.create_standing(who=who, name="blocked ones", prepared=prepared).id

    with tenant_scope(party.id):
        elsewhere = str(create_dataset(name="elsewhere").id)
        endpoints.create_webhook(
            url="https://hooks.example/", events=["standing_query.matched"], actor="key:x"
        )
    blocked = stand(audit={"decision": ["block"], "when": "item.modality == 'text'"})
    fired = stand(audit={"rules": ["meds", "other"]}, datasets=[str(dataset.id)])
    stand(audit={"decision": ["review"]})
    stand(audit={"when": "item.modality == 'image'"})
    stand(audit={"rules": ["meds"]}, datasets=[elsewhere])
    with tenant_scope(party.id):
        standing.change_standing(who=who, standing_id=stand(audit={"decision": ["block"]}), state="paused")
    bad = add(party, dataset, text="listing one", values={"bad": True})
    add(party, dataset, text="listing two", values={"bad": False})
    for _ in range(2):
        with tenant_scope(party.id):
            waiting = list(Job.objects.filter(kind="audit_item", state="queued"))
        for job in waiting:
            finish(party, job)
        # Audited again, it is no news.
        ask(party, asset_id=bad.asset.id)
    with tenant_scope(party.id):
        rows = StandingAlert.objects.order_by("standing_query")
        assert [(row.standing_query_id, row.asset_id) for row in rows] == [
            (blocked, bad.asset.id),
            (fired, bad.asset.id),
        ]
        assert {row.audit for row in rows} == {Audit.objects.filter(item=bad.asset.id).earliest("id").id}
        assert set(WebhookEvent.objects.values_list("id", flat=True)) == {row.id for row in rows}
        # The item is blocked, and who may not moderate hears nothing of it.
        assert standing.list_alerts(who).count() == 2
        assert not standing.list_alerts(saved.Who("key:y")).exists()
        assert not standing.list_standing(saved.Who("key:y")).exists()


# --- Asked for -------------------------------------------------------------------------------------------


def test_without_a_policy_an_audit_tells_and_does_nothing(party) -> None:
    asked = ask(party, upload=text("You are all wonderful people"))
    assert finish(party, asked.job).state == "succeeded"
    with tenant_scope(party.id):
        shown = selectors.audit_shape(selectors.get_request(asked.request.id))
        assert (shown.state, shown.decision, shown.mode) == ("done", "allow", "off")
        assert shown.categories["nudity"] == {
            **shown.categories["nudity"],
            "state": "not_examined",
            "score": None,
        }
        assert shown.categories["abuse"]["state"] == "examined"
        # The content was kept only to be looked at.
        assert not Blob.objects.exists()
        document = Evidence.objects.get().document
        assert Audit.objects.get().evidence_digest == evidence.digest(document)
        assert [line.kind for line in Record.objects.order_by("sequence")] == ["audit"]


def test_rules_over_facts_decide_and_leave_a_proof(party, enforce) -> None:
    enforce(
        rule("short-and-rude", "facts.short_and_rude.holds", "block"),
        facts_rules='short(A) :- words(A, "text", N), N < 6.\n'
        'short_and_rude(A) :- short(A), category(A, "abuse") @ 0.6.\n',
    )
    decided = {}
    for said in ("You stupid idiot, fuck off", "You stupid idiot, fuck off and never come back here again"):
        asked = ask(party, upload=text(said))
        decided[said] = finish(party, asked.job).result["decision"]
    assert list(decided.values()) == ["block", "allow"]
    with tenant_scope(party.id):
        blocked = Audit.objects.get(decision="block")
        told = proofs.get_proof(blocked.id)
        assert (told.mismatch, told.evidence_digest) == (None, blocked.evidence_digest)
        assert told.read == {"short-and-rude": ["short_and_rude"]}
        assert {"fact": ["words", "item", "text", 5], "confidence": 1.0, "source": "text"} in told.proof[
            "facts"
        ]
        assert [one.mismatch for one in proofs.replay(party.id)] == ["", ""]


def test_without_a_policy_a_file_that_cannot_be_read_is_let_be(party) -> None:
    """Nobody asked for a decision; what could not look is told all the same."""
    asked = ask(party, upload=uploads.check_upload(io.BytesIO(jpeg(7, 300)[:500]), ""))
    assert finish(party, asked.job).result["decision"] == "allow"
    with tenant_scope(party.id):
        shown = selectors.audit_shape(Audit.objects.get())
        assert (shown.mode, shown.decision, shown.rules_fired) == ("off", "allow", [])
        assert shown.severity == 0
        assert "decoding" in shown.could_not_look
        assert not Review.objects.exists()


def test_without_a_policy_an_audit_that_failed_for_good_allows(party, dataset) -> None:
    asset = add(party, dataset, text="never looked at").asset
    asked = ask(party, asset_id=asset.id)
    with tenant_scope(party.id):
        Job.objects.filter(pk=asked.job.id).update(state="failed")
        assert auditing.settle_failed() == 1
        audit = Audit.objects.get()
        assert (audit.mode, audit.decision, audit.rules) == ("off", "allow", [])
        assert Evidence.objects.get().document["could_not_look"] == ["everything"]


@pytest.mark.parametrize("starter", ["clinic", "marketplace", "newsroom"])
def test_what_declares_itself_generated_is_labelled_by_a_starter(party, dataset, starter: str) -> None:
    """As OpenAI signs: a signer whom nobody here knows, whose certificate may have expired since."""
    with tenant_scope(party.id):
        document = {"detectors": ["c2pa", "declared"]}
        policy, _ = policies.create_policy(name=starter, starter=starter, document=document)
        policies.activate(policy_id=policy.id, number=1, mode="enforce")

    def audited(content: bytes) -> tuple[str, list[str], list[str]]:
        added = add(party, dataset, file=io.BytesIO(content))
        with tenant_scope(party.id):
            job = Job.objects.get(kind="audit_item", state="queued")
        finish(party, job)
        with tenant_scope(party.id):
            audit = Audit.objects.get(item=added.asset.id)
        return audit.decision, audit.rules, fresh(party, added.asset).labels

    unknown, (expired, _) = declared_by_a_stranger(), declared_and_expired()
    labelled = ("label", ["ai-generated"], ["ai-generated"])
    assert [audited(content) for content in (unknown, expired, generated())] == [labelled] * 3
    changed = audited(tampered(expired))
    assert (changed[0], changed[2]) == ("review", ["ai-generated"])
    assert set(changed[1]) == {"changed-after-signing", "ai-generated"}


def test_a_declared_generator_is_found_and_labelled(party, dataset, enforce) -> None:
    enforce(MARKED)
    added = add(party, dataset, file=io.BytesIO(generated()))
    with tenant_scope(party.id):
        job = Job.objects.get(kind="audit_item")
    finish(party, job)
    asset = fresh(party, added.asset)
    assert (asset.moderation, asset.labels) == ("label", ["ai-generated"])
    with tenant_scope(party.id):
        audit = Audit.objects.get()
        shown = selectors.audit_shape(audit)
    assert (audit.decision, audit.verdict, audit.rules) == ("label", "likely_synthetic", ["ai"])
    assert shown.authenticity["tier"] == "declared"
    assert shown.authenticity["probability"] is None
    assert shown.provenance["declared"]["generator"]


@pytest.mark.guard
def test_running_an_audit_twice_makes_one(party) -> None:
    asked = ask(party, upload=text("once"))
    finish(party, asked.job)
    assert finish(party, asked.job).attempts == 1
    with tenant_scope(party.id):
        assert Audit.objects.count() == 1


def test_of_another_tenants_asset_there_is_no_audit(party, stranger, dataset) -> None:
    asset = add(party, dataset, text="mine").asset
    with tenant_scope(stranger.id), pytest.raises(NotFound):
        audit_requests.request_audit(asset_id=asset.id)


def test_nothing_to_audit_is_refused(party) -> None:
    with tenant_scope(party.id), pytest.raises(Invalid, match="Send a file"):
        audit_requests.request_audit()


# --- Uploads ---------------------------------------------------------------------------------------------


def test_in_quarantine_an_upload_is_found_only_once_its_audit_let_it_go(party, dataset, enforce) -> None:
    enforce(quarantine=True)
    added = add(party, dataset, text="a harmless text about gardens")
    assert (added.job.kind, added.asset.moderation, added.asset.status) == (
        "audit_item",
        "quarantined",
        "pending",
    )
    with tenant_scope(party.id):
        assert not Job.objects.filter(kind="embed_asset").exists()
    finish(party, added.job)
    assert fresh(party, added.asset).moderation == "allow"
    embed(party, embedding_of(party, added.asset))
    assert (fresh(party, added.asset).status, vectors(party, added.asset)) == ("ready", 1)


def blocked_asset(party: Any, dataset: Any, enforce: Any) -> tuple[Asset, Job]:
    enforce(
        rule("meds", "words.exists(w, w.text.contains('meds')) || item.metadata.topic == 'meds'", "block")
    )
    added = add(party, dataset, text=FORBIDDEN, values={"topic": "meds", "uploader": "sam"})
    embed(party, added.job)
    assert vectors(party, added.asset) == 1
    with tenant_scope(party.id):
        return added.asset, Job.objects.get(kind="audit_item")


def test_a_blocked_asset_leaves_every_search_and_comes_back(party, dataset, enforce) -> None:
    asset, job = blocked_asset(party, dataset, enforce)
    finish(party, job)
    held = fresh(party, asset)
    assert (held.moderation, held.status, held.error["type"]) == ("block", "failed", "blocked")
    assert vectors(party, asset) == 0
    with tenant_scope(party.id):
        audit = Audit.objects.get()
        assert Strike.objects.get().subject == "sam"
        auditing.apply_decision(
            audit_id=audit.id, asset_id=asset.id, decision="allow", labels=(), actor="user:1"
        )
    embed(party, embedding_of(party, asset))
    back = fresh(party, asset)
    assert (back.moderation, back.status, back.error) == ("allow", "ready", None)
    assert vectors(party, asset) == 1


def test_an_embedding_that_ends_after_the_block_stores_nothing(party, dataset, enforce) -> None:
    enforce(rule("all", "true", "block"))
    added = add(party, dataset, text=FORBIDDEN)
    with tenant_scope(party.id):
        audit = Job.objects.get(kind="audit_item")
    finish(party, audit)
    embed(party, added.job)
    assert (fresh(party, added.asset).status, vectors(party, added.asset)) == ("failed", 0)


def test_what_is_blocked_is_not_let_go_by_another_audit(party, dataset, enforce) -> None:
    asset, job = blocked_asset(party, dataset, enforce)
    finish(party, job)
    enforce()  # a policy without rules takes the other's place
    again = ask(party, asset_id=asset.id)
    finish(party, again.job)
    assert fresh(party, asset).moderation == "block"
    with tenant_scope(party.id):
        told = Audit.objects.get(pk=again.request.id)
    assert (told.decision, told.mode) == ("allow", "shadow")


def test_a_policy_in_shadow_changes_nothing(party, dataset, enforce) -> None:
    enforce(rule("all", "true", "block"), mode="shadow", quarantine=True)
    added = add(party, dataset, text="anything")
    assert added.asset.moderation == ""
    embed(party, added.job)
    with tenant_scope(party.id):
        job = Job.objects.get(kind="audit_item")
    finish(party, job)
    assert (fresh(party, added.asset).status, vectors(party, added.asset)) == ("ready", 1)
    with tenant_scope(party.id):
        assert not Strike.objects.exists()


def test_a_changed_caption_is_audited_again_before_it_is_found(party, dataset, enforce) -> None:
    enforce(quarantine=True)
    added = add(party, dataset, file=io.BytesIO(jpeg(5)), text="a garden")
    finish(party, added.job)
    embed(party, embedding_of(party, added.asset))
    with tenant_scope(party.id):
        changed = services.update_asset(asset_id=added.asset.id, caption="something else")
    assert changed.job.kind == "audit_item"
    held = fresh(party, added.asset)
    assert (held.moderation, held.status, held.caption) == ("quarantined", "pending", "something else")
    assert vectors(party, added.asset) == 0
    finish(party, changed.job)
    embed(party, embedding_of(party, added.asset))
    assert fresh(party, added.asset).status == "ready"


# --- What goes wrong -------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_read_goes_to_a_person(party, dataset, enforce) -> None:
    enforce(quarantine=True)
    added = add(party, dataset, file=io.BytesIO(jpeg(7, 300)[:500]))
    finish(party, added.job)
    assert fresh(party, added.asset).moderation == "quarantined"
    with tenant_scope(party.id):
        audit = Audit.objects.get()
        assert audit.decision == "review"
        assert "decoding" in Evidence.objects.get().document["could_not_look"]
        assert [review.rule for review in Review.objects.all()] == ["detector-failed"]


@pytest.mark.parametrize("when", ["examined", "read"])
def test_an_asset_deleted_while_it_is_audited_ends_the_job_and_leaves_nothing(
    party, dataset, enforce, monkeypatch, when
) -> None:
    enforce(rule("all", "true", "review"))
    added = add(party, dataset, upload=text("gone while it was read"))
    with tenant_scope(party.id):
        audit = Job.objects.get(kind="audit_item")

    def delete_then(call: Any) -> Any:
        def deleting(*args: Any) -> Any:
            with tenant_scope(party.id):
                erasure.erase_asset(asset_id=added.asset.id)
            return call(*args)

        return deleting

    # The sketch is made of what was examined, before anything is stored.
    name = "text_sketch" if when == "examined" else "_subject_of"
    monkeypatch.setattr(auditing, name, delete_then(getattr(auditing, name)))
    job = finish(party, audit)
    assert (job.state, job.attempts, job.error) == ("succeeded", 1, None)
    assert job.result == {"note": "There is nothing left to audit."}
    with tenant_scope(party.id):
        kept = [model.objects.count() for model in (Audit, AuditRequest, Evidence, Review)]
    assert kept == [0, 0, 0, 0]


def test_a_process_that_ended_decides_nothing(party, dataset, enforce, monkeypatch) -> None:
    """Each examining process is killed as it begins; the audit says so, and neither blocks nor asks a person."""
    enforce(quarantine=True)
    added = add(party, dataset, file=io.BytesIO(jpeg(7, 300)))
    killed = []

    def kill(child: Child, request: Any, path: Any = None) -> None:
        killed.append(child)
        child._process.kill()

    with monkeypatch.context() as patched:
        patched.setattr(Child, "send", kill)
        finish(party, added.job)
    assert len(killed) > 2
    with tenant_scope(party.id):
        audit, document = Audit.objects.get(), Evidence.objects.get().document
        assert (audit.decision, audit.rules) == ("allow", [])
        assert document["could_not_look"] == document["process_ended"]
        assert "decoder" in document["could_not_look"]
        assert "decoding" not in document["could_not_look"]
        assert not Review.objects.exists()


def test_an_audit_that_fails_for_good_is_decided_all_the_same(party, dataset, enforce) -> None:
    enforce(quarantine=True)
    added = add(party, dataset, text="never looked at")
    for _ in range(3):
        with tenant_scope(party.id):
            Job.objects.filter(pk=added.job.id).update(lease_until=None, state="queued")
        claimed = jobs.claim(job_id=added.job.id, tenant_id=party.id)
        jobs.fail(claimed, error={"type": "internal-error", "detail": "x"}, final=False)
    with tenant_scope(party.id):
        audit = Audit.objects.get()
        assert (audit.decision, audit.verdict, audit.rules) == ("review", "not_examined", ["detector-failed"])
        assert Evidence.objects.get().document["could_not_look"] == ["everything"]
        assert Review.objects.get().state == "open"
    assert fresh(party, added.asset).moderation == "quarantined"


@pytest.mark.guard
def test_a_process_that_died_before_deciding_is_made_good(party, dataset, enforce) -> None:
    enforce(quarantine=True)
    added = add(party, dataset, text="never looked at")
    with tenant_scope(party.id):
        # As if it had died between the end of the job and what follows on its commit.
        Job.objects.filter(pk=added.job.id).update(state="failed")
        assert auditing.settle_failed() == 1
        assert Audit.objects.get().decision == "review"
        assert auditing.settle_failed() == 0


def test_a_cancelled_audit_says_so_and_lets_nothing_go(party, dataset, enforce) -> None:
    enforce(quarantine=True)
    added = add(party, dataset, text="held")
    with tenant_scope(party.id):
        jobs.cancel(job_id=added.job.id)
        request = AuditRequest.objects.get()
    assert request.error["type"] == "cancelled"
    assert fresh(party, added.asset).moderation == "quarantined"
    with tenant_scope(party.id):
        job = jobs.retry(job_id=added.job.id)
        assert AuditRequest.objects.get().error is None
    finish(party, job)
    assert fresh(party, added.asset).moderation == "allow"


@pytest.mark.parametrize("words", ["\u0000", "\ud800 half", "a" * 100_000, "\u202e" * 500])
def test_odd_texts_are_audited_or_refused(party, words: str) -> None:
    try:
        upload = text(words)
    except (Invalid, UnicodeEncodeError):
        return
    asked = ask(party, upload=upload)
    assert finish(party, asked.job).state == "succeeded"


# --- What is kept ----------------------------------------------------------------------------------------


def test_content_is_kept_while_a_person_has_to_look(party, enforce) -> None:
    enforce(rule("look", "true", "review"))
    asked = ask(party, upload=text("look at this"))
    finish(party, asked.job)
    with tenant_scope(party.id):
        assert Blob.objects.get().references == 1
        assert audit_requests.forget_content() == 0
        Review.objects.update(state="decided")
        assert audit_requests.forget_content() == 1
        assert Blob.objects.get().references == 0


def test_evidence_of_what_is_no_asset_goes_when_its_time_is_over(party, enforce, settings) -> None:
    enforce(rule("look", "item.subject == 'unsure'", "review"))
    for subject in ("", "unsure"):
        finish(party, ask(party, upload=text(f"from {subject}"), subject=subject).job)
    settings.AUDIT_EVIDENCE_DAYS = 0
    with tenant_scope(party.id):
        assert audit_requests.forget_evidence() == 1
        # A person has still to look at the other one.
        assert Evidence.objects.get().document["item"]["subject"] == "unsure"
        erased = Audit.objects.get(decision="allow")
        assert selectors.audit_shape(erased).evidence == "erased"


def test_erasing_an_asset_takes_the_evidence_and_leaves_the_decision(party, dataset, enforce) -> None:
    enforce(rule("look", "true", "review"))
    added = add(party, dataset, text="evidence quotes this")
    with tenant_scope(party.id):
        job = Job.objects.get(kind="audit_item")
    finish(party, job)
    with tenant_scope(party.id):
        erasure.erase_asset(asset_id=added.asset.id)
        assert not Evidence.objects.exists()
        assert not Review.objects.exists()
        assert not AuditRequest.objects.exists()
        shown = selectors.audit_shape(Audit.objects.get())
    assert (shown.decision, shown.evidence) == ("review", "erased")
    assert shown.words is UNSET


# --- Imports ---------------------------------------------------------------------------------------------


def test_what_is_imported_is_held_back_until_it_was_audited(party, dataset, enforce, start, run) -> None:
    enforce(
        rule("evil", "words.exists(w, w.text.contains('evil')) || item.metadata.topic == 'evil'", "block"),
        quarantine=True,
    )
    assert run(start("text,topic\na garden,good\na crime,evil\n", "rows.csv")).result["imported"] == 2
    with tenant_scope(party.id):
        assert set(Asset.objects.values_list("moderation", "status")) == {("quarantined", "pending")}
        assert not Vector.objects.exists()
        waiting = list(Job.objects.filter(kind="audit_item"))
    for job in waiting:
        finish(party, job)
    with tenant_scope(party.id):
        shown = Asset.objects.get(metadata__topic="good")
        assert (shown.moderation, Asset.objects.get(metadata__topic="evil").moderation) == ("allow", "block")
    embed(party, embedding_of(party, shown))
    assert (fresh(party, shown).status, vectors(party, shown)) == ("ready", 1)


def test_a_policy_for_pictures_audits_the_pictures_of_a_mixed_import(
    party, dataset, enforce, start, run
) -> None:
    enforce(modalities=["image"])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", "words come first")
        archive.writestr("b.jpg", jpeg(21))
    assert run(start(packed.getvalue(), "mixed.zip")).result["imported"] == 2
    with tenant_scope(party.id):
        assert [request.modality for request in AuditRequest.objects.all()] == ["image"]
        assert Asset.objects.filter(status="ready").count() == 2


def test_an_audit_counts_once_among_the_figures_of_its_day(party):
    asked = ask(party, upload=text("nothing to see"))
    for _ in range(2):
        finish(party, asked.job)
    today = timezone.now().date()
    with tenant_scope(party.id):
        amounts = {kind: amount for _, kind, amount in metering.usage(first=today, last=today)}
    assert amounts["audits"] == 1
