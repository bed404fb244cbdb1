"""Pages of models: the list, the form that starts one, one in each of its states, and golden queries."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tenants.jobs.models import Job
from tenants.learning import promotions, selectors
from tenants.learning.models import LearntModel
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console import learning
from tests.console.pages import faults_of
from tests.console.test_pages import EVIL
from tests.tenants.learning.world import add_pairs, new_dataset


def read(client: Client, address: str, status: int = 200, **extra: Any) -> str:
    response = client.get(address, **extra)
    assert response.status_code == status, address
    html = response.content.decode()
    assert faults_of(html) == [], address
    return html


def post(client: Client, address: str, fields: dict[str, Any], status: int) -> str:
    response = client.post(address, fields)
    assert response.status_code == status, response.content.decode()[-2000:]
    html = response.content.decode()
    assert faults_of(html) == []
    return html


@pytest.fixture
def dataset(party: Party) -> Any:
    with tenant_scope(party.id):
        made = new_dataset("shapes")
        add_pairs(made, 3)
        return made


# --- The list --------------------------------------------------------------------------------------------


def test_without_models_of_its_own_a_workspace_is_told_what_a_pair_is(
    owner: Client, person: Callable[..., Client]
) -> None:
    page = read(owner, "/models")
    assert ">prior-2<" in page
    assert "status-live" in page
    assert "pairs of a picture and its caption" in page
    assert 'href="/models" aria-current="page"' in page
    assert "/models/finetune" not in read(person("viewer"), "/models")


def test_each_state_has_its_line(party: Party, owner: Client) -> None:
    good, busy = learning.candidate(party), learning.training(party)
    broken = learning.training(party)
    with tenant_scope(party.id):
        Job.objects.filter(pk=broken.job_id).update(state="failed")
        error = {"type": "single-class", "detail": "all captions are the same"}
        LearntModel.objects.filter(pk=broken.pk).update(error=error)
    page = read(owner, "/models")
    for row, status in ((good, "candidate"), (busy, "draft"), (broken, "failed")):
        line = page.partition(f'href="/models/{row.id}"')[2].partition("</tr>")[0]
        assert f"status-{status}" in line
    assert "42.1 %" in page and "+12.0" in page and "(+9.0 to +15.0)" in page
    assert "All captions are the same" in page
    assert 'hx-trigger="every 2s"' in page
    part = read(owner, "/models", headers={"hx-request": "true"})
    assert part.lstrip().startswith('<div class="panel flush"')


def test_many_models_are_paged(party: Party, owner: Client) -> None:
    for _ in range(27):
        learning.new_model(party.id)
    first = read(owner, "/models")
    older = first.partition('href="?before=')[2].partition('"')[0]
    rest = read(owner, f"/models?before={older}")
    assert "prior-2</strong>" in first and "prior-2</strong>" not in rest
    assert rest.count("<strong>m") == 2


# --- Starting --------------------------------------------------------------------------------------------


def test_the_form_tells_what_is_missing(owner: Client) -> None:
    page = read(owner, "/models/finetune")
    assert "A training pair is a picture with a caption" in page
    assert "Start the fine-tune" not in page


def test_a_fine_tune_is_started_once_and_the_quota_is_told(party: Party, dataset: Any, owner: Client) -> None:
    page = read(owner, f"/models/finetune?dataset={dataset.id}")
    assert "shapes (3 training pairs)" in page and "Too few pairs" in page
    fields = {
        "dataset": str(dataset.id),
        "stage": "adapt",
        "method": "heads",
        "epochs": "5",
        "name": "Shapes",
    }
    response = owner.post("/models/finetune", {**fields, "group_by": "product"})
    with tenant_scope(party.id):
        row = LearntModel.objects.get()
        assert row.settings == {"epochs": 5, "seed": 0, "group_by": "product", "include_generated": False}
        assert row.created_by == str(owner.user.pk)
    assert response["Location"] == f"/models/{row.id}"
    assert "Queued." in read(owner, f"/models/{row.id}")
    assert "1 fine-tune at once" in post(owner, "/models/finetune", {**fields, "name": "b"}, 403)
    with tenant_scope(party.id):
        Job.objects.filter(pk=row.job_id).update(state="failed")
    page = post(owner, "/models/finetune", fields, 409)
    assert "There is a model" in page.partition('id="id_name"')[2].partition("</section>")[0]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("dataset", "", "required"),
        ("dataset", "zzz", "Choose a dataset, or a version of one."),
        ("epochs", "0", "greater than or equal to 1"),
        ("epochs", "201", "less than or equal to 200"),
        ("epochs", "many", "whole number"),
        ("stage", "zzz", "valid choice"),
        ("method", "zzz", "valid choice"),
        ("name", "x" * 101, "at most 100"),
        ("name", "x\x00", "Null characters"),
        ("group_by", "x" * 101, "at most 100"),
        ("stage", "full", "needs a dataset of general pairs"),
    ],
)
def test_an_odd_value_is_told_at_its_field(
    field: str, value: str, said: str, party: Party, dataset: Any, owner: Client
) -> None:
    good = {"dataset": str(dataset.id), "stage": "adapt", "method": "heads", "epochs": "5"}
    page = post(owner, "/models/finetune", {**good, field: value}, 422)
    assert said in page.partition('class="field-error"')[2]
    with tenant_scope(party.id):
        assert not LearntModel.objects.exists()


def test_what_belongs_to_others_is_no_base_and_no_dataset(
    party: Party, stranger: Party, dataset: Any, owner: Client
) -> None:
    theirs = learning.candidate(stranger)
    good = {"dataset": str(dataset.id), "stage": "adapt", "method": "heads", "epochs": "5"}
    assert "This model does not exist" in post(
        owner, "/models/finetune", {**good, "base": str(theirs.id)}, 404
    )
    assert "This dataset does not exist" in post(
        owner, "/models/finetune", {**good, "dataset": str(uuid.uuid4())}, 404
    )
    draft = learning.training(party)
    assert "not been trained" in post(owner, "/models/finetune", {**good, "base": str(draft.id)}, 409)


def test_the_estimate_follows_the_choice(dataset: Any, owner: Client) -> None:
    asked = {"HX-Request": "true"}
    part = read(owner, f"/models/finetune?dataset={dataset.id}&epochs=5", headers=asked)
    assert "<form" not in part and "about 31 s" in part
    for odd in ("dataset=zzz", "dataset=%00", f"dataset={uuid.uuid4()}", ""):
        assert "Choose a dataset" in read(owner, f"/models/finetune?{odd}&epochs=zzz", headers=asked)


# --- One model -------------------------------------------------------------------------------------------


def test_while_it_trains_its_page_is_alive_and_can_cancel(
    party: Party, owner: Client, person: Callable[..., Client]
) -> None:
    row = learning.training(party)
    page = read(owner, f"/models/{row.id}")
    assert f'data-job="{row.job_id}" data-panel="/models/{row.id}"' in page
    assert "31 pairs are exact repetitions" in page
    assert page.count('class="chart"') == 3
    assert 'aria-label="Loss by epoch, from 1.02 to 3.5"' in page
    assert "left at most" not in page
    part = read(owner, f"/models/{row.id}", headers={"hx-request": "true"})
    assert "<html" not in part and "Learning: 6 validations" in part
    assert "/cancel" not in read(person("viewer"), f"/models/{row.id}")
    owner.post(f"/models/{row.id}/cancel")
    with tenant_scope(party.id):
        assert Job.objects.get(pk=row.job_id).cancel_requested
    assert "Stopping" in read(owner, f"/models/{row.id}")


def test_what_is_left_of_a_training_is_told_once_it_is_known(party: Party, owner: Client) -> None:
    row = learning.training(party, settings={"epochs": 15})
    with tenant_scope(party.id):
        row.curves = [{**one, "wall_s": 30} for one in row.curves]
        row.save(update_fields=["curves"])
        now = timezone.now() + dt.timedelta(minutes=1)
        Job.objects.filter(pk=row.job_id).update(progress_done=62, lease_until=now)
    # Ten epochs of thirty seconds.
    assert "about 5 minutes left at most" in read(owner, f"/models/{row.id}")


def curve_names(page: str) -> list[str]:
    return re.findall(r'data-run="([^"]*)"', page)


def test_runs_of_the_same_kind_are_laid_over_each_other(party: Party, stranger: Party, owner: Client) -> None:
    mine, other = learning.candidate(party, name="mine"), learning.candidate(party, name="other")
    full = learning.candidate(party, name="full one", stage="full")
    solved = learning.candidate(party, name="at once", curves=learning.curves(0))
    theirs = learning.candidate(stranger)
    page = read(owner, f"/models/{mine.id}")
    assert curve_names(page) == ["mine"] * 3
    offered = page.partition('id="curve-runs"')[2].partition("</details>")[0]
    assert str(other.id) in offered and str(full.id) not in offered and str(solved.id) not in offered
    page = read(owner, f"/models/{mine.id}?with={other.id}&smooth=60")
    assert curve_names(page) == ["mine", "other"] * 3
    assert 'class="faint"' in page and 'value="60"' in page and "gone" not in page
    assert f'value="{other.id}" checked' in page
    for odd in (full.id, theirs.id, solved.id, uuid.uuid4(), "zzz", "%00", "9" * 3000):
        page = read(owner, f"/models/{mine.id}?with={odd}")
        assert curve_names(page) == ["mine"] * 3, odd
        assert "A run that was asked for is gone" in page, odd
    crowd = "&".join(f"with={uuid.uuid4()}" for _ in range(4))
    assert "At most three runs" in read(owner, f"/models/{mine.id}?{crowd}")
    for odd in ("-1", "1e3", "%C2%B2", "9" * 5000, "x", ""):
        assert 'class="faint"' not in read(owner, f"/models/{mine.id}?smooth={odd}"), odd
    assert 'value="95"' in read(owner, f"/models/{mine.id}?smooth=999")


def test_models_side_by_side_share_their_charts(party: Party, owner: Client) -> None:
    one, other = learning.candidate(party, name="one"), learning.candidate(party, name="other")
    page = read(owner, f"/models/compare?model={one.id}&model={other.id}&model=prior-2")
    assert curve_names(page) == ["one", "other"] * 3
    assert page.count('type="hidden" name="model"') == 3


def test_what_was_solved_at_once_has_no_curve(party: Party, owner: Client) -> None:
    point = {"phase": "adapt", "epoch": 0, "best": True, "validation": {"primary": 0.625, "base": 0.5}}
    page = read(owner, f"/models/{learning.candidate(party, curves=[point]).id}")
    assert "solved in closed form" in page and "<dd>62.5 %</dd>" in page and "<dd>50.0 %</dd>" in page
    assert 'class="chart"' not in page


def test_figures_of_few_queries_carry_a_warning(party: Party, owner: Client) -> None:
    found = learning.metrics()
    for space in ("model", "parent"):
        found["domain"][space]["text>image"] |= {"queries": 12, "pool": 8}
    page = read(owner, f"/models/{learning.candidate(party, metrics=found).id}")
    assert page.count("12 queries: a change of one is 8 points.") == 1
    first, second = page.split('aria-labelledby="figures-')[1:]
    assert "R@10" not in first and "R@10" in second
    assert "(57.1–67.1)" in first and "(57.1–67.1)" not in second


def test_a_failed_training_says_why_and_can_be_tried_again(party: Party, owner: Client) -> None:
    row = learning.training(party, error={"type": "too-few-pairs", "detail": "20 pairs are needed"})
    with tenant_scope(party.id):
        Job.objects.filter(pk=row.job_id).update(state="failed", arguments={"model": str(row.id)})
    page = read(owner, f"/models/{row.id}")
    assert "20 pairs are needed" in page and "status-failed" in page
    assert "queued again" in owner.post(f"/models/{row.id}/retry", follow=True).content.decode()
    with tenant_scope(party.id):
        assert Job.objects.get(pk=row.job_id).state == "queued"


def test_a_trained_model_shows_figures_beside_parent_and_traditional(party: Party, owner: Client) -> None:
    row = learning.candidate(party)
    page = read(owner, f"/models/{row.id}")
    for words in ("Text → image", "Image → text", "Regularised CCA", "PCA-256 + ridge", "pool of 200"):
        assert words in page
    assert "42.1 <span" in page and "(37.1–47.1)" in page
    assert 'data-open="promote"' in page


def test_of_few_queries_no_figure_is_made_a_headline(party: Party, owner: Client) -> None:
    """Of eight queries one more hit is 12.5 points, and of a pool of eight R@10 is always whole."""
    few = learning.candidate(party, metrics=learning.metrics(queries=8, pool=8))
    enough = learning.candidate(party, name="enough", metrics=learning.metrics(queries=30, pool=11))
    page, table = read(owner, f"/models/{few.id}"), read(owner, "/models")
    assert "too few to tell" in page and "8 queries" in page
    assert "+12.0" not in page and "42.1 %" not in page
    assert "8 queries: too few to tell" in table
    assert 'data-name="R@10, %"' not in page and 'data-name="R@5, %"><span>62.1' in page
    page = read(owner, f"/models/{enough.id}")
    assert "too few to tell" not in page
    assert "+12.0" in page and "42.1 %" in page and 'data-name="R@10, %"><span>72.1' in page


@pytest.mark.parametrize(
    ("told", "fact", "notice"),
    [
        (
            {"state": "carried", "asked": ["text", "image"], "pictures": 31},
            "Estimated from the parent’s, on 31 pictures that were not trained on",
            "While it answers, searches say how likely results are",
        ),
        (
            {"state": "carried", "asked": ["text"], "pictures": 4},
            "Estimated from the parent’s, on 4 pictures",
            "Results of searches by a picture are ordered by similarity.",
        ),
        (
            {"state": "same", "asked": ["text", "image"]},
            "The same as the parent’s",
            "While it answers, searches say how likely results are",
        ),
        ({"state": "none", "reason": "few"}, "None: too few pairs", "without saying how likely they are"),
        (
            {"state": "none", "reason": "base"},
            "None: the parent has none",
            "without saying how likely they are",
        ),
        ({}, "None: this model was trained by an earlier release", "without saying how likely they are"),
    ],
)
def test_it_says_before_the_promotion_what_becomes_of_relevance(
    party: Party, owner: Client, told: dict[str, Any], fact: str, notice: str
) -> None:
    row = learning.candidate(party)
    with tenant_scope(party.id):
        row.data = {**row.data, "relevance": told}
        row.save(update_fields=["data"])
    page = read(owner, f"/models/{row.id}")
    facts, _, dialog = page.partition('<dialog id="promote"')
    assert fact in facts
    assert notice in dialog


def test_a_model_from_elsewhere_or_with_odd_figures_is_shown_all_the_same(
    party: Party, owner: Client
) -> None:
    odd = [{"phase": EVIL, "epoch": 1, "loss": float("inf")}, {"loss": None, "validation": 3}, {}]
    shown = {"domain": {"model": {"text>image": {"r1": 0.5}}, "parent": {}, EVIL: {}}}
    for metrics in (shown, {}, {"domain": {}}, {"model": {}}):
        row = learning.candidate(
            party,
            name=f"{EVIL[:60]}{uuid.uuid4().hex[:6]}",
            base=f"cman-{uuid.uuid4()}:1",
            curves=[{**point, "loss": 1.0} for point in odd],
            metrics=metrics,
            data={**learning.described(EVIL, uuid.uuid4()), "warnings": [{"detail": EVIL}]},
        )
        assert "was deleted" in read(owner, f"/models/{row.id}")
    read(owner, "/models")


@pytest.mark.parametrize("name", ["zzz", "prior-9", "%00", "PRIOR-2", str(uuid.UUID(int=7))])
def test_a_model_that_is_not_there(name: str, owner: Client) -> None:
    read(owner, f"/models/{name}", 404)


def test_a_built_in_space_is_shown_and_not_deleted(owner: Client) -> None:
    page = read(owner, "/models/prior-2")
    assert "Built in" in page and "bundled:bilingual" in page
    assert "data-open=" not in page
    said = owner.post("/models/prior-2/delete", {"name": "prior-2"}, follow=True).content.decode()
    assert "cannot be deleted" in said


def test_a_worse_model_needs_an_override_with_a_reason(
    party: Party, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = learning.candidate(party)
    asked: list[str] = []

    def promote(*, model: Any, override_reason: str, actor: str) -> Any:
        asked.append(override_reason)
        if not override_reason:
            raise promotions.WorseModel("Worse.", reasons=["MRR falls by 0.1."])
        return learning.promotion(party, row, "switched")

    monkeypatch.setattr(promotions, "promote", promote)
    page = post(owner, f"/models/{row.id}/promote", {}, 409)
    assert "MRR falls by 0.1." in page and "data-open-now" in page and "even though it performs worse" in page
    post(owner, f"/models/{row.id}/promote", {"override": "on"}, 422)
    post(owner, f"/models/{row.id}/promote", {"reason": "x"}, 422)
    post(owner, f"/models/{row.id}/promote", {"override": "on", "reason": "x" * 501}, 422)
    said = owner.post(f"/models/{row.id}/promote", {"override": "on", "reason": "A trial"}, follow=True)
    assert "It now answers searches" in said.content.decode()
    assert asked == ["", "A trial"]


def test_a_promotion_under_way_waiting_and_over(
    party: Party, owner: Client, person: Callable[..., Client]
) -> None:
    row = learning.candidate(party)
    job = learning.job_of(party, "embed_beside", progress_done=40)
    under_way = learning.promotion(party, row, "embedding", job_id=job.id)
    page = read(owner, f"/models/{row.id}")
    assert f'data-job="{job.id}"' in page and "40 of 100" in page and "prior-2 answers searches" in page
    told = {
        "waits for its turn": {"state": "queued"},
        "about 30.0 s left": {"state": "running", "rate_per_s": 2, "paced_at": timezone.now()},
        "comparing both models": {"state": "running", "progress_done": 100},
    }
    for words, fields in told.items():
        with tenant_scope(party.id):
            Job.objects.filter(pk=job.id).update(**fields)
        page = read(owner, f"/models/{row.id}")
        assert [one for one in told if one in page] == [words]
    with tenant_scope(party.id):
        Job.objects.filter(pk=job.id).update(state="succeeded")
        under_way.state, under_way.report = "ready", learning.report([f"On golden queries it falls. {EVIL}"])
        under_way.save()
    page = read(owner, f"/models/{row.id}")
    assert "On golden queries it falls." in page and "61.0 %" in page and "Abandon" in page
    assert "50.0 → <strong>40.0</strong>" in page
    viewer = read(person("viewer"), f"/models/{row.id}")
    assert "waiting for a decision" in viewer and "Abandon" not in viewer
    said = owner.post(f"/models/{row.id}/roll-back", follow=True).content.decode()
    assert "The promotion was abandoned." in said
    with tenant_scope(party.id):
        assert selectors.newest_promotion(row).state == "abandoned"


def test_there_is_nothing_to_roll_back_or_cancel(party: Party, owner: Client) -> None:
    row = learning.candidate(party)
    assert (
        "does not answer searches" in owner.post(f"/models/{row.id}/roll-back", follow=True).content.decode()
    )
    assert (
        "There is nothing to cancel" in owner.post(f"/models/{row.id}/cancel", follow=True).content.decode()
    )
    assert "alert-danger" in owner.post("/models/prior-2/roll-back", follow=True).content.decode()
    assert "not trained" in owner.post("/models/prior-2/retry", follow=True).content.decode()


def test_a_model_is_deleted_when_its_name_was_typed(party: Party, owner: Client) -> None:
    row = learning.candidate(party, name="Shapes")
    assert "Type the name" in post(owner, f"/models/{row.id}/delete", {"name": "shape"}, 422)
    assert owner.post(f"/models/{row.id}/delete", {"name": "Shapes"})["Location"] == "/models"
    read(owner, f"/models/{row.id}", 404)
