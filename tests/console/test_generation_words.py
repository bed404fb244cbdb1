"""Why nothing came of a generation, in the language of who reads it, wherever the console says so."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
from django.test import Client
from django.utils import translation

from console.generations.labels import END, ENDS, REMEDY, generator_message_of, reason_of, remedy_of
from console.templatetags.console_tags import failure_reason
from ml.generators.base import Code
from ml.media.model import CODES
from standalone import catalogue
from tenants import errors
from tenants.datasets.scanning import Infected
from tenants.generation.models import Generation, GenerationOutput
from tenants.jobs.models import Job
from tenants.moderation.models import Audit
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console import generating
from tests.console.pages import faults_of

ZH = "zh-CN,zh;q=0.9,en;q=0.5"
DETAIL = "There is no model 'acme/painter' on this machine, and none is fetched."
# What services refuse while a generation is made, and what workers say of themselves.
REFUSED = (
    *(errors.NotFound, errors.Invalid, errors.UnsupportedMedia, errors.TooLarge, errors.QuotaExceeded),
    *(errors.StorageFull, errors.Unavailable, errors.ModelUnavailable, Infected),
)
OF_WORKERS = {"internal-error", "dead-letter"}


@pytest.fixture(autouse=True, scope="module")
def _catalogues_are_compiled() -> None:
    catalogue.compile_all()


def words_of(page: str) -> str:
    """What is read on a page, without what it offers in English."""
    main = page[page.index("<main") :]
    shown = re.sub(r"<details.*?</details>|<code.*?</code>|<script.*?</script>", "", main, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", shown).split())


# --- Codes ---------------------------------------------------------------------------------------------------


def test_every_code_that_can_occur_has_words_and_none_is_made_up() -> None:
    raised = {error.slug for error in REFUSED}
    assert set(ENDS) == {*get_args(Code), *CODES, *Generation.REFUSALS, *raised, *OF_WORKERS}


@pytest.mark.parametrize("code", sorted(ENDS))
def test_each_says_what_happened_and_what_to_do_in_both_languages(code: str) -> None:
    error = {"type": code, "detail": DETAIL}
    english = reason_of(error), remedy_of(error)
    with translation.override("zh-hans"):
        chinese = reason_of(error), remedy_of(error)
    for said in english:
        assert said.endswith(".")
        assert said.isascii()
        assert DETAIL not in said
    for said in chinese:
        assert said.endswith("。")
        assert not re.search(r"[A-Za-z]{2,}", said)


def test_a_code_that_is_new_says_what_was_kept() -> None:
    assert reason_of({"type": "new", "detail": "A tube burst."}) == "A tube burst."
    for nothing in (None, {}, {"type": None, "detail": None}, {"type": "new"}, {"type": "", "detail": ""}):
        assert (reason_of(nothing), remedy_of(nothing)) == (str(END), str(REMEDY))
        assert generator_message_of(nothing) == ""
    # One of ours that was kept in English is in the catalogue.
    with translation.override("zh-hans"):
        assert reason_of({"type": "new", "detail": "This generation does not exist."}).endswith("。")


def test_what_a_program_said_itself_is_kept_beside_its_code_alone() -> None:
    assert generator_message_of({"type": "no-such-model", "detail": DETAIL}) == DETAIL
    assert generator_message_of({"type": "prompt-blocked", "detail": DETAIL}) == ""
    assert generator_message_of({"type": "new", "detail": DETAIL}) == ""


def test_jobs_of_other_kinds_say_what_was_kept() -> None:
    error = {"type": "too-large", "detail": "the file has 9 streams"}
    assert failure_reason(Job(kind="embed_media", error=error)) == "the file has 9 streams"
    assert failure_reason(Job(kind="generate", error=error)) == str(ENDS["too-large"][0])
    assert failure_reason(Job(kind="generate", error=None)) == failure_reason(Job(kind="embed_media")) == ""


# --- Pages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(get_args(Code)))
def test_a_chinese_page_says_it_in_chinese(party: Party, owner: Client, code: str) -> None:
    row = generating.ended(party, "failed", {"type": code, "detail": DETAIL}, prompt="猫")
    shown = owner.get(f"/generate/{row.id}", HTTP_ACCEPT_LANGUAGE=ZH).content.decode()
    assert faults_of(shown) == []
    with translation.override("zh-hans"):
        for said in ENDS[code]:
            assert str(said) in words_of(shown)
    assert "acme/painter" not in words_of(shown)
    assert f'<p lang="en">{DETAIL.replace(chr(39), "&#x27;")}' in shown


def test_jobs_and_the_first_page_say_it_too(party: Party, owner: Client) -> None:
    row = generating.ended(party, "failed", {"type": "no-such-model", "detail": DETAIL}, prompt="猫")
    with translation.override("zh-hans"):
        said = str(ENDS["no-such-model"][0])
    for address in ("/", "/jobs", f"/jobs/{row.job_id}"):
        shown = owner.get(address, HTTP_ACCEPT_LANGUAGE=ZH).content.decode()
        assert said in words_of(shown), address
        assert "acme/painter" not in words_of(shown), address
    english = words_of(owner.get(f"/jobs/{row.job_id}").content.decode())
    assert f"{ENDS['no-such-model'][0]} (no-such-model)" in english


def audit_of(rules: list[str], decision: str = "block") -> Audit:
    return Audit.objects.create(
        modality="text", source="prompt", mode="enforce", decision=decision, rules=rules
    )


def test_a_blocked_prompt_names_the_rules(party: Party, owner: Client) -> None:
    error = {
        "type": "prompt-blocked",
        "detail": "The content policy does not allow this prompt (<b>). Nothing.",
    }
    row = generating.ended(party, "blocked", error, prompt="猫")
    with tenant_scope(party.id):
        Generation.objects.filter(pk=row.pk).update(prompt_audit_id=audit_of(["no-cats", "<b>"]).id)
    shown = owner.get(f"/generate/{row.id}").content.decode()
    assert "The rules: &lt;b&gt;, no-cats." in shown
    assert "<b>" not in shown
    chinese = owner.get(f"/generate/{row.id}", HTTP_ACCEPT_LANGUAGE=ZH).content.decode()
    assert "内容策略不允许这个提示词。 规则：&lt;b&gt;, no-cats。" in words_of(chinese)
    assert "Nothing" not in chinese


def test_blocked_results_name_the_rules_of_their_files(party: Party, owner: Client) -> None:
    row = generating.ended(party, "blocked", {"type": "output-blocked", "detail": "The policy (x)."})
    with tenant_scope(party.id):
        Generation.objects.filter(pk=row.pk).update(prompt_audit_id=audit_of(["of-prompts"], "allow").id)
        for kind, rule in (("image", "no-cats"), ("audio", "detector-failed")):
            generating.output(row, kind=kind, asset=None, audit_id=audit_of([rule]).id, decision="block")
    page = words_of(owner.get(f"/generate/{row.id}").content.decode())
    assert "The rules: Something could not look, no-cats." in page
    assert "of-prompts" not in page


def test_rules_whose_audits_are_gone_are_not_named(party: Party, owner: Client) -> None:
    row = generating.ended(party, "blocked", {"type": "output-blocked", "detail": "The policy (x)."})
    with tenant_scope(party.id):
        assert not GenerationOutput.objects.filter(generation=row).exists()
    page = words_of(owner.get(f"/generate/{row.id}").content.decode())
    assert str(ENDS["output-blocked"][0]) in page
    assert "The rule" not in page


@pytest.mark.parametrize(
    "error", [None, {}, {"type": 7, "detail": ["odd"]}, {"detail": "<script>x</script>"}]
)
def test_an_odd_error_shows_a_page_all_the_same(party: Party, owner: Client, error: Any) -> None:
    row = generating.ended(party, "failed", error)
    shown = owner.get(f"/generate/{row.id}")
    assert shown.status_code == 200
    assert "<script>x" not in shown.content.decode()
    assert owner.get(f"/jobs/{row.job_id}").status_code == 200


def test_the_api_keeps_code_and_english(party: Party) -> None:
    row = generating.ended(party, "failed", {"type": "no-such-model", "detail": DETAIL})
    client = Client(HTTP_ACCEPT_LANGUAGE=ZH)
    answer = client.get(f"/api/v1/generations/{row.id}", **party.auth).json()
    assert answer["error"] == {"type": "no-such-model", "detail": DETAIL}
