"""The pages where something is made from words."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tenants.accounts.permissions import ROLES
from tenants.datasets.models import Asset, Blob
from tenants.generation import previews
from tenants.generation.disclosure import get_disclosure
from tenants.generation.models import Generation, GenerationOutput
from tenants.jobs.models import Job
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console import generating
from tests.console.pages import faults_of

GIVEN = {
    "prompt": generating.PROMPT,
    "outputs": ["image", "audio"],
    "negative": "a dog",
    "seed": "7",
    "steps": "12",
    "guidance": "2.5",
    "size": "256",
    "seconds": "5",
}


def text_of(response: Any) -> str:
    return " ".join(response.content.decode().split())


# --- Asking --------------------------------------------------------------------------------------------------


def test_an_empty_workspace_has_a_form_with_defaults(owner: Client) -> None:
    shown = owner.get("/generate")
    page = text_of(shown)
    assert faults_of(shown.content.decode()) == []
    assert "Nothing generated yet" in page
    assert "A small demo generator" in page
    assert 'name="steps" value="25"' in page
    assert page.count('name="outputs"') == 3
    assert page.count(" checked>") == 1


def test_what_is_asked_for_becomes_a_generation(party: Party, owner: Client) -> None:
    answer = owner.post("/generate/new", GIVEN)
    with tenant_scope(party.id):
        row = Generation.objects.get()
        job = Job.objects.get(pk=row.job_id)
    assert (answer.status_code, answer["Location"]) == (302, f"/generate/{row.id}")
    assert (row.prompt, row.negative, row.outputs, row.seed) == (
        GIVEN["prompt"],
        "a dog",
        ["image", "audio"],
        7,
    )
    assert (row.steps, row.guidance, row.width, row.height, row.seconds) == (12, 2.5, 256, 256, 5)
    assert (job.kind, row.created_by) == ("generate", str(owner.user.pk))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"prompt": "  "}, "Say in words what to make."),
        ({"prompt": "x" * 2_001}, "at most 2000 characters"),
        ({"prompt": "a \x07 bell"}, "control characters"),
        ({"prompt": "happiness"}, "knows nothing that these words name"),
        ({"outputs": []}, "This field is required."),
        ({"outputs": ["smell"]}, "is not one of the available choices"),
        ({"steps": "101"}, "less than or equal to 100"),
        ({"size": "100000"}, "is not one of the available choices"),
        ({"seed": "-1"}, "greater than or equal to 0"),
        ({"seconds": "9999"}, "less than or equal to 30"),
    ],
)
def test_what_cannot_be_made_is_refused_at_its_field(
    party: Party, owner: Client, changed: dict[str, Any], said: str
) -> None:
    answer = owner.post("/generate/new", {**GIVEN, **changed})
    assert answer.status_code == 422
    assert said in text_of(answer)
    with tenant_scope(party.id):
        assert not Generation.objects.exists()


def test_a_foreign_dataset_or_picture_is_absent(owner: Client, stranger: Party) -> None:
    theirs = generating.made(stranger)
    with tenant_scope(stranger.id):
        asset = Asset.objects.get(generation_id=theirs.id)
    for given in ({"dataset": str(theirs.dataset_id)}, {"remix_of": str(asset.id)}):
        assert owner.post("/generate/new", {**GIVEN, **given}).status_code == 404
    assert owner.get(f"/generate?remix={asset.id}").status_code == 404
    assert owner.get("/generate?remix=nothing").status_code == 404


def test_what_is_switched_off_says_how_to_switch_it_on(owner: Client, settings: Any) -> None:
    settings.GENERATORS = {**settings.GENERATORS, "audio": ""}
    page = text_of(owner.get("/generate"))
    assert "Turned off." in page
    assert "GENERATOR_AUDIO" in page
    assert 'value="audio" disabled' in page
    refused = owner.post("/generate/new", GIVEN)
    assert refused.status_code == 409
    assert "GENERATOR_AUDIO" in text_of(refused)


def test_another_model_is_named(owner: Client, settings: Any) -> None:
    settings.GENERATORS = {**settings.GENERATORS, "image": "hf-image:acme/painter"}
    page = text_of(owner.get("/generate"))
    assert "acme/painter" in page
    assert "whoever runs this installation chose" in page


def test_viewers_see_what_was_made_and_no_form(party: Party, person: Callable[..., Client]) -> None:
    row = generating.made(party)
    viewer = person("viewer")
    page = text_of(viewer.get("/generate"))
    assert "generate/new" not in page
    assert generating.PROMPT in page
    shown = text_of(viewer.get(f"/generate/{row.id}"))
    assert "Another variation" not in shown
    assert "delete-generation" not in shown


def test_the_estimate_follows_what_is_ticked_and_what_was_measured(party: Party, owner: Client) -> None:
    part = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "generation-estimate"}
    guess = text_of(owner.get("/generate?outputs=image&outputs=audio", **part))
    assert "about 7 s" in guess
    assert "A rough estimate until there are some here." in guess
    assert "<form" not in guess
    generating.made(party, cpu_s=6)
    assert "about 6 s" in text_of(owner.get("/generate?outputs=image", **part))
    assert "A rough estimate" in text_of(owner.get("/generate?outputs=video", **part))


def test_a_spent_quota_is_told_before_and_refused_after(party: Party, owner: Client) -> None:
    from tenants.accounts.models import Tenant

    Tenant.objects.filter(pk=party.id).update(exceptions={"generations": 1})
    assert "1 generation<" in text_of(owner.get("/generate"))
    assert owner.post("/generate/new", GIVEN).status_code == 302
    assert "are used up" in text_of(owner.get("/generate"))
    refused = owner.post("/generate/new", GIVEN)
    assert refused.status_code == 403
    assert "The plan allows 1 generations" in text_of(refused)


# --- The gallery ---------------------------------------------------------------------------------------------


def test_the_gallery_is_filtered_and_paged(party: Party, owner: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr("console.generations.views.PAGE", 2)
    generating.made(party, prompt="a red kettle")
    generating.ended(
        party, "failed", {"type": "out-of-memory", "detail": "Too little memory."}, prompt="a sea"
    )
    generating.asked(party, prompt="a tune", outputs=("audio",))
    first = text_of(owner.get("/generate"))
    assert ("a tune" in first, "a sea" in first, "a red kettle" in first) == (True, True, False)
    assert 'hx-trigger="every 2s"' in first
    with tenant_scope(party.id):
        last = Generation.objects.get(prompt="a sea").pk
    assert f"before={last}" in first
    second = text_of(owner.get(f"/generate?before={last}"))
    assert ("a red kettle" in second, "0.312" in second) == (True, True)
    assert 'hx-trigger="every 2s"' not in second
    assert "a tune" not in text_of(owner.get("/generate?state=failed"))
    assert "a sea" not in text_of(owner.get("/generate?kind=audio"))
    assert "No matches" in text_of(owner.get("/generate?kind=video"))
    part = text_of(owner.get("/generate?state=failed", HTTP_HX_REQUEST="true", HTTP_HX_TARGET="gallery"))
    assert part.startswith("<ul")


def test_a_page_takes_as_many_statements_whatever_it_shows(party: Party, owner: Client) -> None:
    def statements() -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            assert owner.get("/generate").status_code == 200
        return len(seen)

    for _ in range(2):
        generating.made(party)
        generating.asked(party)
    statements()
    few = statements()
    for _ in range(4):
        generating.made(party)
        generating.asked(party)
    assert statements() == few


# --- One -----------------------------------------------------------------------------------------------------


def test_one_that_is_made_shows_its_progress_and_its_preview(party: Party, owner: Client) -> None:
    row = generating.asked(party)
    address = f"/generate/{row.id}"
    shown = owner.get(address)
    page = text_of(shown)
    assert faults_of(shown.content.decode()) == []
    assert f'data-job="{row.job_id}" data-state="queued" data-panel="{address}"' in page
    assert f'data-preview="{address}/preview"' in page
    assert "Waiting for its turn." in page
    assert owner.get(f"{address}/preview").status_code == 204
    previews.keep(party.id, row.id, b"\x89PNG\r\n")
    seen = owner.get(f"{address}/preview")
    assert (seen.status_code, seen["Content-Type"], seen.content) == (200, "image/png", b"\x89PNG\r\n")
    part = text_of(owner.get(address, HTTP_HX_REQUEST="true"))
    assert 'id="preview" hx-preserve' in part
    assert "<html" not in part


def test_a_finished_one_tells_how_it_was_made(party: Party, owner: Client) -> None:
    row = generating.made(party, outputs=("image", "audio"))
    with tenant_scope(party.id):
        asset = Asset.objects.get(generation_id=row.id)
        generating.output(
            row, kind="audio", how="rules", model="rules-music:1", score=None, scores=[], decision="block"
        )
    shown = owner.get(f"/generate/{row.id}")
    page = text_of(shown)
    assert faults_of(shown.content.decode()) == []
    assert f'src="/assets/{asset.id}/content"' in page
    assert "the best of 2 candidates: 0.200, 0.312" in page
    assert page.index("Drawn by a trained model") < page.index("Made by rules")
    assert "The content policy blocked it, so it was not kept." in page
    assert "Trusted" in page
    assert "Signed by Grocery as “trainedAlgorithmicMedia”." in page
    assert "It carries the number 0badcafe." in page
    assert f"/generate?remix={asset.id}" in page
    assert "Try again" not in page


def test_what_is_not_indexed_yet_is_waited_for(party: Party, owner: Client) -> None:
    row = generating.made(party, indexed=False)
    page = text_of(owner.get(f"/generate/{row.id}"))
    assert 'hx-trigger="load delay:1s"' in page
    assert "/content" not in page
    assert 'hx-trigger="every 2s"' in text_of(owner.get("/generate"))


def test_what_was_deleted_or_held_back_is_not_shown(
    party: Party, owner: Client, person: Callable[..., Client]
) -> None:
    row = generating.made(party)
    with tenant_scope(party.id):
        asset = Asset.objects.get(generation_id=row.id)
        Asset.objects.filter(pk=asset.pk).update(moderation="quarantined")
    page = text_of(person("editor").get(f"/generate/{row.id}"))
    assert "Held back by the content policy." in page
    assert f"/assets/{asset.id}/content" not in page
    assert f"/assets/{asset.id}/thumbnail" not in text_of(owner.get("/generate"))
    with tenant_scope(party.id):
        GenerationOutput.objects.filter(generation=row).delete()
    assert "Picture: deleted since." in text_of(owner.get(f"/generate/{row.id}"))


@pytest.mark.parametrize(
    ("state", "kind", "said"),
    [
        ("blocked", "prompt-blocked", "Word the prompt differently"),
        ("failed", "out-of-memory", "Choose a smaller size"),
        ("failed", "no-such-model", "or to correct its id"),
        ("failed", "not-marked", "Its marks could not be read back"),
        ("failed", "something-new", "nothing counts towards the quota"),
        ("cancelled", "", "Nothing was kept"),
    ],
)
def test_an_end_that_is_no_success_says_what_to_do(
    party: Party, owner: Client, state: str, kind: str, said: str
) -> None:
    error = {"type": kind, "detail": "It did not work."} if kind else None
    row = generating.ended(party, state, error)
    page = text_of(owner.get(f"/generate/{row.id}"))
    assert said in page
    assert "Try again" in page
    assert "data-job" not in page


def test_it_is_varied_cancelled_tried_again_and_deleted(party: Party, owner: Client) -> None:
    row = generating.asked(party)
    assert owner.post(f"/generate/{row.id}/cancel").status_code == 302
    with tenant_scope(party.id):
        assert Generation.objects.get(pk=row.pk).state == "cancelled"
    assert owner.post(f"/generate/{row.id}/retry").status_code == 302
    with tenant_scope(party.id):
        assert Generation.objects.get(pk=row.pk).state == "queued"
    answer = owner.post(f"/generate/{row.id}/vary")
    with tenant_scope(party.id):
        other = Generation.objects.get(variation_of=row)
    assert answer["Location"] == f"/generate/{other.id}"
    assert (other.prompt, other.seed == row.seed) == (row.prompt, False)
    assert f"/generate/{row.id}" in text_of(owner.get(f"/generate/{other.id}"))
    assert owner.post(f"/generate/{other.id}/delete")["Location"] == "/generate"
    assert owner.get(f"/generate/{other.id}").status_code == 404


def ids_of(party: Party) -> tuple[set[uuid.UUID], set[uuid.UUID]]:
    with tenant_scope(party.id):
        rows = Generation.objects.values_list("pk", flat=True)
        return set(rows), set(Asset.objects.values_list("pk", flat=True))


def test_deleting_asks_whether_the_assets_go_too_and_keeps_them_by_default(
    party: Party, owner: Client
) -> None:
    row = generating.made(party)
    shown = owner.get(f"/generate/{row.id}")
    page = text_of(shown)
    assert faults_of(shown.content.decode()) == []
    assert 'name="assets" value="true" aria-describedby="delete-assets-hint"> Also delete the 1 asset' in page
    assert "Requests based on them" not in page
    _, before = ids_of(party)
    for given in ({}, {"assets": ""}, {"assets": "false"}, {"assets": "on"}):
        another = generating.made(party)
        with tenant_scope(party.id):
            before |= {Asset.objects.get(generation_id=another.id).id}
        assert owner.post(f"/generate/{another.id}/delete", given).status_code == 302
        assert ids_of(party) == ({row.id}, before)


def test_what_it_made_goes_too_where_that_is_ticked(party: Party, owner: Client) -> None:
    row, other = generating.made(party), generating.made(party)
    with tenant_scope(party.id):
        asset = Asset.objects.get(generation_id=row.id)
        kept = Asset.objects.get(generation_id=other.id)
    generating.asked(party, outputs=("video",))
    with tenant_scope(party.id):
        Generation.objects.filter(prompt=generating.PROMPT, state="queued").update(remix_of_id=asset.id)
    assert "Requests based on them" in text_of(owner.get(f"/generate/{row.id}"))
    answer = owner.post(f"/generate/{row.id}/delete", {"assets": "true"}, follow=True)
    assert "The generation and 1 asset were deleted." in text_of(answer)
    assert ids_of(party) == ({other.id}, {kept.id})
    assert owner.get(f"/assets/{asset.id}").status_code == 404
    assert owner.post(f"/generate/{row.id}/delete", {"assets": "true"}).status_code == 404


def test_nothing_is_asked_about_assets_where_there_are_none(party: Party, owner: Client) -> None:
    row = generating.ended(party, "failed", {"type": "failed", "detail": "It failed."})
    page = text_of(owner.get(f"/generate/{row.id}"))
    assert 'name="assets"' not in page
    assert "Its prompt and metrics are deleted.<" in page
    answer = owner.post(f"/generate/{row.id}/delete", {"assets": "true"}, follow=True)
    assert "The generation was deleted." in text_of(answer)


def test_who_may_not_delete_assets_is_refused_and_not_asked(
    party: Party, person: Callable[..., Client], monkeypatch: Any
) -> None:
    row, editor = generating.made(party), person("editor")
    before = ids_of(party)
    monkeypatch.setitem(ROLES, "editor", ROLES["editor"] - {"write"})
    page = text_of(editor.get(f"/generate/{row.id}"))
    assert 'name="assets"' not in page
    assert "The assets it made are kept.<" in page
    refused = editor.post(f"/generate/{row.id}/delete", {"assets": "true"})
    assert (refused.status_code, "write" in text_of(refused)) == (403, True)
    assert ids_of(party) == before
    for role in ("viewer", "reviewer"):
        assert person(role).post(f"/generate/{row.id}/delete", {"assets": "true"}).status_code == 403
    assert ids_of(party) == before
    assert editor.post(f"/generate/{row.id}/delete").status_code == 302
    assert ids_of(party) == (set(), before[1])


def test_nobody_deletes_what_another_workspace_made(owner: Client, stranger: Party) -> None:
    theirs = generating.made(stranger)
    before = ids_of(stranger)
    assert owner.post(f"/generate/{theirs.id}/delete", {"assets": "true"}).status_code == 404
    assert ids_of(stranger) == before


def test_a_refusal_is_told_on_the_page(party: Party, owner: Client) -> None:
    row = generating.made(party)
    page = owner.post(f"/generate/{row.id}/cancel", follow=True)
    assert 'class="alert alert-danger"' in text_of(page)
    assert owner.post(f"/generate/{uuid.uuid4()}/vary").status_code == 404


def test_a_picture_is_set_in_motion_from_its_own_words(party: Party, owner: Client) -> None:
    row = generating.made(party, prompt="a red kettle")
    with tenant_scope(party.id):
        asset = Asset.objects.get(generation_id=row.id)
    page = text_of(owner.get(f"/generate?remix={asset.id}"))
    assert "The clip begins with this picture." in page
    assert f'name="remix_of" value="{asset.id}"' in page
    assert "a red kettle</textarea>" in page
    assert 'value="video" checked' in page
    owner.post("/generate/new", {**GIVEN, "prompt": "", "outputs": ["video"], "remix_of": str(asset.id)})
    with tenant_scope(party.id):
        remix = Generation.objects.get(remix_of_id=asset.id)
    assert (remix.prompt, remix.outputs) == ("a red kettle", ["video"])


# --- Elsewhere -----------------------------------------------------------------------------------------------


def test_a_generated_asset_leads_to_how_it_was_made(party: Party, owner: Client) -> None:
    row = generating.made(party)
    with tenant_scope(party.id):
        asset = Asset.objects.get(generation_id=row.id)
    page = text_of(owner.get(f"/assets/{asset.id}"))
    assert page.count(f'href="/generate/{row.id}"') == 2
    owner.post(f"/generate/{row.id}/delete")
    page = text_of(owner.get(f"/assets/{asset.id}"))
    assert "AI-generated" in page
    assert "/generate/" not in page


def test_the_job_leads_to_what_it_makes(party: Party, owner: Client) -> None:
    row = generating.asked(party)
    assert f'href="/generate/{row.id}"' in text_of(owner.get(f"/jobs/{row.job_id}"))


def test_what_was_made_is_served_as_it_was_released(party: Party, owner: Client) -> None:
    """A copy without metadata, as it is made of films, would have lost its credentials."""
    row = generating.made(party)
    with tenant_scope(party.id):
        asset = Asset.objects.select_related("blob").get(generation_id=row.id)
        Blob.objects.filter(pk=asset.blob_id).update(clean_type="image/webp")
    shown = owner.get(f"/assets/{asset.id}/content")
    assert (shown.status_code, shown["Content-Type"]) == (200, asset.blob.media_type)
    assert hashlib.sha256(b"".join(shown.streaming_content)).hexdigest() == asset.blob.sha256


# --- What people see and hear --------------------------------------------------------------------------------


def test_an_admin_chooses_whether_people_see_and_hear_it(party: Party, owner: Client, settings: Any) -> None:
    settings.GENERATION_ICON, settings.GENERATION_NOTICE = "on", "off"
    shown = owner.get("/generate/disclosure")
    assert faults_of(shown.content.decode()) == []
    assert "As the installation has it: on" in text_of(shown)
    assert "As the installation has it: off" in text_of(shown)
    saved = owner.post("/generate/disclosure", {"icon": "off", "notice": "on"})
    assert (saved.status_code, saved["Location"]) == (302, "/generate/disclosure")
    with tenant_scope(party.id):
        kept = get_disclosure()
    assert (kept.icon.chosen, kept.notice.chosen) == (False, True)
    assert text_of(owner.get("/generate/disclosure")).count(" selected>") == 2
    assert owner.post("/generate/disclosure", {"icon": "both", "notice": "on"}).status_code == 422
    # Neither is named: as the installation has it.
    owner.post("/generate/disclosure", {})
    with tenant_scope(party.id):
        kept = get_disclosure()
    assert (kept.icon.chosen, kept.notice.chosen) == (None, None)


def test_what_is_enforced_is_no_choice(party: Party, owner: Client, settings: Any) -> None:
    settings.GENERATION_ICON, settings.GENERATION_NOTICE = "enforced", "off"
    page = text_of(owner.get("/generate/disclosure"))
    assert page.count(" disabled") == 1
    assert "Enforced by the operator of this installation; it cannot be turned off here." in page
    # A form that was made by hand.
    assert owner.post("/generate/disclosure", {"icon": "off", "notice": "on"}).status_code == 302
    with tenant_scope(party.id):
        kept = get_disclosure()
    assert (kept.icon.chosen, kept.icon.in_force, kept.notice.chosen) == (None, True, True)


def test_the_page_says_what_people_see_and_hear_and_when_it_was_signed(party: Party, owner: Client) -> None:
    row = generating.made(party)
    stamp = {"state": "trusted", "at": "2026-12-01T05:36:18+00:00", "authority": "TSA"}
    signed = {"state": "trusted", "signer": {}, "source_type": "x"}
    with tenant_scope(party.id):
        said = {
            "c2pa": {**signed, "time_stamp": stamp},
            "icon": {"text": "KI", "corner": "top-left"},
            "notice": {"seconds": 2.39},
        }
        GenerationOutput.objects.filter(generation=row).update(provenance=said)
    page = text_of(owner.get(f"/generate/{row.id}"))
    assert "“KI” in a corner, visible to everyone." in page
    assert "Spoken at the start, for 2.4 seconds." in page
    assert "Time stamp verified; the authority is trusted here. Dec. 1, 2026" in page
    assert f'alt="AI-generated picture: {generating.PROMPT}"' in page
    with tenant_scope(party.id):
        away = {"c2pa": {**signed, "time_stamp": {"state": "unavailable", "why": "It is away."}}}
        GenerationOutput.objects.filter(generation=row).update(provenance=away)
    page = text_of(owner.get(f"/generate/{row.id}"))
    assert "Signed without a time stamp: none could be had." in page


def test_the_page_says_of_each_thing_whether_it_was_drawn_or_taken(party: Party, owner: Client) -> None:
    row = generating.made(party)
    taken = {"name": "Twemoji", "author": "Twitter, Inc and other contributors", "licence": "CC BY 4.0"}
    parts = [
        {"thing": "cat", "how": "drawn", "model": "drawing-1"},
        {"thing": "red <b>", "how": "taken", **taken, "source": "https://github.com/x", "changed": True},
        {"thing": "hat", "how": "taken", **taken, "source": "javascript:alert(1)"},
    ]
    with tenant_scope(party.id):
        GenerationOutput.objects.filter(generation=row).update(how="layout", provenance={"parts": parts})
    page = text_of(owner.get(f"/generate/{row.id}"))
    assert "What it shows: 3 things" in page and "<strong>cat</strong>: drawn by the model" in page
    assert (
        "taken from Twemoji, by Twitter, Inc and other contributors, CC BY 4.0</a>, in another colour" in page
    )
    assert "red &lt;b&gt;" in page and "javascript:" not in page
    assert "Composed by rules from what a model drew and from open designs" in page
