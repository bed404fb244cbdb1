"""Reviews: the queue, claiming and deciding, decisions in bulk, undoing, and figures."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from console.access import Request, actor_of, needs, page
from console.audits.labels import CATEGORIES, DECISIONS, MODALITIES
from console.audits.presenters import audit_summary, marked_words, rules_of
from console.audits.views import kept_content
from console.forms import StyledForm, style
from console.paging import page_of
from console.policies.rules import dataset_names
from console.policies.rules_form import condition_words
from console.presenters import actor_names
from tenants.accounts.permissions import MODERATE
from tenants.datasets import content_responses, documents, storage
from tenants.datasets.models import Asset
from tenants.datasets.selectors import get_dataset, list_datasets
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound, ServiceError
from tenants.moderation import reviews
from tenants.moderation.audits import proofs, selectors
from tenants.moderation.models import Appeal, Audit, Outcome, PolicyVersion, Review
from tenants.moderation.reviews import MAX_LABELS, MAX_REASON, bulk, queue, serializers
from tenants.moderation.reviews import context as reviewing
from tenants.moderation.reviews import figures as agreement
from tenants.moderation.reviews.cases import WAITING, read_cases
from tenants.scope import whole_tenant


def _split_labels(text: str) -> list[str]:
    return list(dict.fromkeys(label for part in text.split(",") if (label := part.strip())))


class DecideForm(StyledForm):
    """What a person says about a flag. Labels left empty are those of the rule."""

    decision = forms.ChoiceField(
        label=gettext_lazy("Decision"),
        choices=[
            ("allow", gettext_lazy("Allow")),
            ("label", gettext_lazy("Label")),
            ("block", gettext_lazy("Block")),
        ],
        widget=forms.RadioSelect,
    )
    reason = forms.CharField(
        label=gettext_lazy("Reason"), max_length=MAX_REASON, widget=forms.Textarea(attrs={"rows": 3})
    )
    labels = forms.CharField(
        label=gettext_lazy("Labels"),
        required=False,
        max_length=MAX_LABELS * 60,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    block_copies = forms.BooleanField(required=False, label=gettext_lazy("Block this and its copies"))

    def clean_labels(self) -> list[str] | None:
        return _split_labels(self.cleaned_data["labels"]) or None


class BulkForm(StyledForm):
    """Which flags, and what becomes of them. Without a reason it is only a preview."""

    rule = forms.CharField(
        label=gettext_lazy("Rule"),
        required=False,
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    category = forms.ChoiceField(
        label=gettext_lazy("Category"),
        required=False,
        choices=[("", gettext_lazy("Any")), *CATEGORIES.items()],
    )
    modality = forms.ChoiceField(
        required=False, choices=[("", gettext_lazy("Any")), *MODALITIES.items()], label=gettext_lazy("Kind")
    )
    dataset = forms.UUIDField(label=gettext_lazy("Dataset"), required=False, widget=forms.Select)
    older_than_h = forms.FloatField(
        required=False, min_value=0, max_value=87_600, label=gettext_lazy("Waiting for more than (hours)")
    )
    max_severity = forms.IntegerField(
        required=False, min_value=0, max_value=100, label=gettext_lazy("Severity at most")
    )
    decision = forms.ChoiceField(
        label=gettext_lazy("Decision"),
        choices=[
            ("allow", gettext_lazy("Allow")),
            ("label", gettext_lazy("Label")),
            ("block", gettext_lazy("Block")),
        ],
    )
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        required=False,
        max_length=MAX_REASON,
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    labels = forms.CharField(label=gettext_lazy("Labels"), required=False, max_length=MAX_LABELS * 60)
    as_of = forms.DateTimeField(required=False, widget=forms.HiddenInput)
    batch = forms.UUIDField(required=False, widget=forms.HiddenInput)

    def __init__(self, datasets: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", gettext_lazy("Any")), *((str(d.id), d.name) for d in datasets)]
        self.fields["dataset"].widget = forms.Select(choices=choices)
        style(self.fields["dataset"].widget, invalid="dataset" in self.errors)

    def clean_labels(self) -> list[str] | None:
        return _split_labels(self.cleaned_data["labels"]) or None

    @property
    def kept(self) -> list[tuple[str, str]]:
        """What the second form repeats of the first, as text."""
        names = (
            "rule",
            "category",
            "modality",
            "dataset",
            "older_than_h",
            "max_severity",
            "decision",
            "batch",
        )
        return [(name, value) for name in names if (value := self.data.get(name))]

    @property
    def wanted(self) -> dict[str, Any]:
        """Parts of the services' filter."""
        given = self.cleaned_data
        return {
            "rule": given["rule"],
            "category": given["category"],
            "modality": given["modality"],
            "dataset_id": given["dataset"],
            "older_than_h": given["older_than_h"],
            "max_severity": given["max_severity"],
        }


class UndoForm(StyledForm):
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=MAX_REASON,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


PAGE = 25

REFUSALS = (Conflict, NotAllowed)

SHOWN = ("waiting", "mine", "late")

MAX_WORDS = 20_000


@needs(MODERATE, narrowable=("GET",))
def index(request: Request) -> HttpResponse:
    """The queue, the worst first; `show` narrows it to what one holds or what is late."""
    shown, actor = request.GET.get("show", ""), actor_of(request).label
    shown = shown if shown in SHOWN else "waiting"
    number = request.GET.get("page", "")
    start = int(number) * PAGE if number.isascii() and number.isdecimal() and len(number) < 5 else 0
    with request.workspace.open():
        rows = queue.list_reviews(actor=actor, mine=shown == "mine", overdue=shown == "late")
        rows = rows.filter(state__in=WAITING)
        found = list(rows[start : start + PAGE + 1])
        context = {
            "lines": _review_lines(found[:PAGE], actor),
            "ages": queue.ages(),
            "shown": shown,
            "next": start // PAGE + 1 if len(found) > PAGE else None,
        }
    return page(request, "reviews.html", context)


def _review_lines(rows: Sequence[Review], actor: str) -> list[dict[str, Any]]:
    names = actor_names({review.claimed_by for review in rows})
    return [
        {
            "review": review,
            "held": queue.is_held(review),
            "mine": queue.is_held(review) and review.claimed_by == actor,
            "holder": names.get(review.claimed_by, review.claimed_by),
        }
        for review in rows
    ]


@needs(MODERATE, methods=("POST",), narrowable=("POST",))
def claim_next(request: Request) -> HttpResponse:
    return _claim_next(request)


def _claim_next(request: Request, after: Review | None = None) -> HttpResponse:
    """The first that is free; of those that come later than `after`, which was skipped."""
    with request.workspace.open():
        review = queue.claim_next(actor=actor_of(request).label, after=after)
    if review is None:
        skipped = _("Skipped. Nothing after it in the queue is available to you now.")
        messages.success(request, skipped if after else _("Nothing in the queue is available to you now."))
        return redirect("console:reviews")
    return redirect("console:review", review_id=review.id)


@needs(MODERATE, methods=("POST",), narrowable=("POST",))
def claim(request: Request, review_id: uuid.UUID) -> HttpResponse:
    try:
        with request.workspace.open():
            queue.claim(review_id=review_id, actor=actor_of(request).label)
    except REFUSALS as error:
        messages.error(request, error.detail)
    return redirect("console:review", review_id=review_id)


@needs(MODERATE, methods=("POST",), narrowable=("POST",))
def release(request: Request, review_id: uuid.UUID) -> HttpResponse:
    try:
        with request.workspace.open():
            released = queue.release(review_id=review_id, actor=actor_of(request).label)
    except REFUSALS as error:
        messages.error(request, error.detail)
        return redirect("console:reviews")
    if "skip" in request.POST:
        return _claim_next(request, after=released)
    messages.success(request, _("The review was returned to the queue."))
    return redirect("console:reviews")


# --- One flag --------------------------------------------------------------------------------------------


@needs(MODERATE, narrowable=("GET",))
def show(request: Request, review_id: uuid.UUID) -> HttpResponse:
    return _show(request, review_id, None, 200)


def _show(request: Request, review_id: uuid.UUID, form: DecideForm | None, status: int) -> HttpResponse:
    actor = actor_of(request).label
    with request.workspace.open():
        review = queue.get_review(review_id=review_id, actor=actor)
        audit = review.audit
        shape = selectors.audit_shape(audit)
        case = read_cases([audit.id])[audit.id]
        standing = case.standing()
        if request.workspace.narrowing is not None:
            with whole_tenant():
                # By all flags of the item, also those of queues that the person does not see.
                standing = read_cases([audit.id])[audit.id].standing()
        # A second opinion is asked for unbiased: it does not show the first.
        blind = review.kind == Review.Kind.SECOND and review.state in WAITING
        rule = next((rule for rule in rules_of(audit) if rule.id == review.rule), None)
        item = _item(review)
        words = item.get("words")
        context = {
            **_review_lines([review], actor)[0],
            "audit": audit,
            "shape": shape,
            "asset": review.asset,
            "item": item,
            # The words stand there once, with what was flagged in them marked.
            "marked_words": marked_words(shape, words) if isinstance(words, str) and words else None,
            "dataset": get_dataset(review.asset.dataset_id) if review.asset else None,
            "sender": reviewing.sender_history(audit),
            # Nor does it show what was decided about copies.
            "similar": reviewing.similar_decided(review.asset) if review.asset and not blind else [],
            # What is blocked has no vectors; its fingerprints stand in its evidence.
            "similar_prints": [] if blind else reviewing.similar_prints(audit),
            "reasons": _reasons(audit, review, narrowed=request.workspace.narrowing is not None),
            "appeal": _appeal_lines(review),
            "barred": queue.why_barred(actor, review) if review.state in WAITING else "",
            "alone": review.kind == Review.Kind.APPEAL and not queue.has_other_reviewers(actor),
            "sheet": audit_summary(audit, shape, review.asset),
            "why": None if request.workspace.narrowing else proofs.explain_audit(audit.id),
            # Flags without a rule of the policy (copies that were found, appeals) have a reason of their own, or none.
            "heading": review.reason or (rule.reason if rule else "") or review.rule,
            "blind": blind,
            "standing": None if blind else standing,
            "others": [] if blind else [other for other in case.reviews if other.id != review.id],
            # Who decides an appeal sees all that was decided about the item.
            "outcomes": []
            if blind
            else _outcome_lines(
                [o for o in case.outcomes if o.review == review.id or review.kind == Review.Kind.APPEAL]
            ),
        }
    if review.asset is not None:
        context["asset_address"] = reverse("console:asset-content", args=[review.asset_id])
    context["kept_address"] = reverse("console:audit-content", args=[review.audit_id])
    context["form"] = form or DecideForm()
    return page(request, "review.html", context, status=status)


def _reasons(audit: Audit, review: Review, *, narrowed: bool) -> list[dict[str, str]]:
    """The rule that raised the flag, or of an appeal the rules that fired, each with what it looks for in the words of
    the form, and its expression. `narrowed`: for a member who sees chosen datasets."""
    version = PolicyVersion.objects.filter(pk=audit.policy_version).first() if audit.policy_version else None
    rules = version.document.get("rules", ()) if version else ()
    whens = {rule["id"]: str(rule["when"]) for rule in rules}
    wanted = audit.rules if review.kind == Review.Kind.APPEAL else [review.rule]
    named = {} if narrowed else dataset_names()
    found = []
    for rule_id in wanted:
        when = whens.get(rule_id, "")
        # Policies are of the whole workspace: its other datasets are not named to whoever does not see them.
        told = bool(when) and not (narrowed and "item.dataset" in when)
        words = condition_words(when, named) if told else ""
        found.append({"rule": rule_id, "words": words, "cel": "" if narrowed else when})
    return found


def _appeal_lines(review: Review) -> dict[str, Any] | None:
    """The appeal that a flag of that kind carries: who said what, and when."""
    if review.kind != Review.Kind.APPEAL:
        return None
    appeal = Appeal.objects.filter(review_id=review.id).first()
    if appeal is None:
        return None
    return {"row": appeal, "who": actor_names({appeal.created_by}).get(appeal.created_by, appeal.created_by)}


def _item(review: Review) -> dict[str, object]:
    """What is to be looked at: the asset, or the content that is kept for this."""
    if review.asset is not None:
        return {"words": content_responses.read_text(review.asset, MAX_WORDS)}
    asked = kept_content(review.audit_id)
    if asked is None or asked.blob is None:
        return {"gone": True}
    if asked.modality != Asset.Modality.TEXT:
        return {"kept": asked}
    path = storage.path_of(asked.blob.tenant_id, asked.blob.sha256)
    if documents.is_document(asked.blob.media_type):
        # It is no asset: what was read of it is in the evidence only.
        return {"kept": asked, "is_document": True}
    with storage.open_blob(path) as stream:
        return {"kept": asked, "words": stream.read(MAX_WORDS).decode("utf-8", "ignore")}


@needs(MODERATE, methods=("POST",), narrowable=("POST",))
def decide(request: Request, review_id: uuid.UUID) -> HttpResponse:
    actor = actor_of(request).label
    with request.workspace.open():
        queue.get_review(review_id=review_id, actor=actor)
    form = DecideForm(request.POST)
    if not form.is_valid():
        return _show(request, review_id, form, 422)
    try:
        with request.workspace.open():
            outcome = reviews.decide_review(review_id=review_id, actor=actor, **form.cleaned_data)
    except NotFound:
        raise
    except ServiceError as error:
        form.refuse(error)
        return _show(request, review_id, form, error.status)
    _decision_message(request, outcome)
    return _claim_next(request) if "next" in request.POST else redirect("console:reviews")


def _decision_message(request: Request, outcome: Outcome) -> None:
    done = DECISIONS[outcome.decision]
    address = reverse("console:outcome-undo", args=[outcome.id])
    messages.success(request, _("{done}. The reason is on record.").format(done=done), extra_tags=address)


# --- Taking back -----------------------------------------------------------------------------------------


@needs(MODERATE, methods=("POST",), narrowable=("POST",))
def undo(request: Request, outcome_id: uuid.UUID) -> HttpResponse:
    actor = actor_of(request).label
    form = UndoForm(request.POST)
    with request.workspace.open():
        reviews.get_outcome(outcome_id=outcome_id, actor=actor)
    if not form.is_valid():
        messages.error(request, _("Give a reason for undoing it."))
        return redirect("console:outcomes")
    try:
        with request.workspace.open():
            undone = reviews.undo_outcome(
                outcome_id=outcome_id, actor=actor, reason=form.cleaned_data["reason"]
            )
    except (Conflict, Invalid, NotAllowed) as error:
        messages.error(request, error.detail)
        return redirect("console:outcomes")
    messages.success(request, _("Undone. The review is in the queue again, and the item stands as before."))
    return redirect("console:review", review_id=undone.review)


@needs(MODERATE, narrowable=("GET",))
def outcomes(request: Request) -> HttpResponse:
    """What was decided last, with what can be taken back."""
    with request.workspace.open():
        rows = serializers.list_outcomes(actor=actor_of(request).label)
        found = page_of(rows, request.GET.get("before", ""), PAGE)
        lines = _outcome_lines(found.items)
    return page(request, "outcomes.html", {"lines": lines, "next": found.next})


def _outcome_lines(rows: Sequence[Outcome]) -> list[dict[str, Any]]:
    names = actor_names({outcome.reviewer for outcome in rows})
    undone = set(Outcome.objects.filter(undoes__in=[row.id for row in rows]).values_list("undoes", flat=True))
    there = set(Review.objects.filter(pk__in=[row.review for row in rows]).values_list("pk", flat=True))
    return [
        {
            "outcome": outcome,
            "who": names.get(outcome.reviewer, outcome.reviewer),
            "undone": outcome.id in undone,
            "open": outcome.review in there,
            "can_undo": outcome.undoes is None and outcome.id not in undone and outcome.review in there,
        }
        for outcome in rows
    ]


# --- Figures ---------------------------------------------------------------------------------------------


@needs(MODERATE)
def figures(request: Request) -> HttpResponse:
    with request.workspace.open():
        found = agreement.agreements()
        names = actor_names({name for pair in found.pairs for name in pair})
        context = {
            "ages": queue.ages(),
            "overall": found.overall,
            "pairs": [
                (_(" and ").join(names.get(name, name) for name in pair), agreed)
                for pair, agreed in found.pairs.items()
            ],
            "precisions": agreement.precisions(),
        }
    return page(request, "review_figures.html", context)


# One request decides as many as fit into this; then the person says whether to go on.
PATIENCE_S = 10.0


@needs(MODERATE, narrowable=("GET",))
def show_bulk(request: Request) -> HttpResponse:
    """The filter; with one the preview, which changes nothing."""
    with request.workspace.open():
        datasets = list(list_datasets())
    if "decision" not in request.GET:
        return page(request, "reviews_bulk.html", {"form": BulkForm(datasets)})
    form, status, seen = BulkForm(datasets, request.GET), 200, None
    if form.is_valid():
        seen = _bulk_preview(request, form)
    if seen is None:
        status = 422
    return page(request, "reviews_bulk.html", {"form": form, "seen": seen}, status=status)


def _bulk_preview(request: Request, form: BulkForm) -> dict[str, Any] | None:
    try:
        with request.workspace.open():
            found = bulk.preview(
                wanted=bulk.Filter(**form.wanted),
                decision=form.cleaned_data["decision"],
                actor=actor_of(request).label,
            )
    except Invalid as error:
        form.add_error(None, error.detail)
        return None
    changes = [(before, after, count) for (before, after), count in sorted(found.changes.items())]
    return {"found": found, "changes": changes}


@needs(MODERATE, methods=("POST",), narrowable=("POST",))
def bulk_apply(request: Request) -> HttpResponse:
    with request.workspace.open():
        form = BulkForm(list(list_datasets()), request.POST)
    if not form.is_valid():
        return page(request, "reviews_bulk.html", {"form": form}, status=422)
    try:
        decided, last = _bulk_apply(request, form)
    except (Invalid, Conflict) as error:
        form.refuse(error)
        return page(
            request, "reviews_bulk.html", {"form": form, "seen": _bulk_preview(request, form)}, status=422
        )
    if not decided:
        messages.error(request, _("No reviews match now; nothing was decided."))
        return redirect("console:reviews-bulk")
    said = ngettext("%(count)d review decided.", "%(count)d reviews decided.", decided) % {"count": decided}
    if last.left:
        left = _("%(count)d are left: press the button again to go on.") % {"count": last.left}
        said = f"{said} {left}"
    messages.success(request, said, extra_tags=reverse("console:batch-undo", args=[last.batch]))
    if last.left:
        data = request.POST.copy()
        data["batch"] = str(last.batch)
        again = BulkForm([], data)
        again.is_valid()
        return page(request, "reviews_bulk.html", {"form": again, "seen": _bulk_preview(request, again)})
    return redirect("console:outcomes")


def _bulk_apply(request: Request, form: BulkForm) -> tuple[int, bulk.Applied]:
    """How many were decided, and the last call's answer."""
    given, until, decided = form.cleaned_data, time.monotonic() + PATIENCE_S, 0
    batch: uuid.UUID | None = given["batch"]
    while True:
        with request.workspace.open():
            done = bulk.apply(
                wanted=bulk.Filter(**form.wanted),
                decision=given["decision"],
                reason=given["reason"],
                labels=given["labels"],
                actor=actor_of(request).label,
                as_of=given["as_of"],
                batch=batch,
            )
        batch, decided = done.batch, decided + done.decided
        if not done.left or not done.decided or time.monotonic() > until:
            return decided, done


@needs(MODERATE, methods=("POST",), narrowable=("POST",))
def undo_batch(request: Request, batch_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        if not serializers.list_outcomes(actor=actor_of(request).label, batch=batch_id).exists():
            raise NotFound(_("This bulk decision does not exist."))
    form = UndoForm(request.POST)
    reason = form.cleaned_data["reason"] if form.is_valid() else ""
    try:
        # Opens its own scopes, one for each part.
        undone = reviews.undo_batch(
            tenant_id=request.workspace.tenant.id,
            batch=batch_id,
            actor=actor_of(request).label,
            reason=reason,
        )
    except Invalid:
        messages.error(request, _("Give a reason for undoing it."))
        return redirect("console:outcomes")
    said = ngettext("%(count)d decision undone.", "%(count)d decisions undone.", undone.undone) % {
        "count": undone.undone
    }
    if undone.left:
        left = _("%(count)d could not be: %(reason)s") % {
            "count": len(undone.left),
            "reason": undone.left[0][1],
        }
        said = f"{said} {left}"
    messages.success(request, said)
    return redirect("console:reviews")
