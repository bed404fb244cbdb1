"""Tasks: how much each part of a query weighs before anything is known of the query itself.

A few come with every installation, and are also what the learnt gate (`fusion_weights`) starts from; tenants
add their own. A rule changes the weights where the words of the query name something.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.services import record as log_event
from tenants.retrieval.models import SearchTask
from tenants.scope import current_tenant_id, tenant_scope

PARTS = ("text", "image", "audio", "video", "vector", "like")
MAX_TASKS, MAX_RULES, MAX_WORDS, MAX_WORD = 100, 20, 50, 60
MAX_SLUG, MAX_DESCRIPTION, MAX_WEIGHT = 50, 1_000, 1_000.0

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,49}")

Weights = dict[str, float]


@dataclass(frozen=True)
class Rule:
    """Weights that hold where the query's words contain one of `words`; what it does not name stays as it is."""

    words: tuple[str, ...]
    weights: Weights

    def found_in(self, text: str) -> str | None:
        """The first of its words in a text: at the beginning of a word, so that "nodule" finds "nodules"."""
        return next((word for word in self.words if _contains(text, word)), None)


@dataclass(frozen=True)
class Task:
    """`weights` of the parts that it names; one that it does not name weighs as much as the mean of those.

    `dynamic`: whether the gate may correct them for each query. The first rule that applies is used.
    """

    slug: str
    description: str
    weights: Weights
    rules: tuple[Rule, ...] = ()
    dynamic: bool = True

    def prior(self, parts: Sequence[str], words: str) -> tuple[Weights, str | None]:
        """The weights of these parts for a query with these words, and the word by which a rule applied."""
        for rule in self.rules:
            if (word := rule.found_in(words)) is not None:
                return _completed({**self.weights, **rule.weights}, parts), word
        return _completed(self.weights, parts), None


def _completed(weights: Weights, parts: Sequence[str]) -> Weights:
    usual = sum(weights.values()) / len(weights)
    return {part: weights.get(part, usual) for part in parts}


def _contains(text: str, word: str) -> bool:
    if not word.isascii():
        # Chinese, for one, has no spaces between words.
        return word.lower() in text.lower()
    return re.search(rf"(?<!\w){re.escape(word)}", text, re.IGNORECASE) is not None


_ALIKE = dict.fromkeys(PARTS, 1.0)
#: Of the article that this platform follows, and what findings in pictures of patients are called.
_FINDINGS = ("nodule", "lesion", "mass", "fracture", "opacity", "effusion", "tumour", "tumor")

BUILT_IN: dict[str, Task] = {
    task.slug: task
    for task in (
        Task("general", gettext_noop("Every part counts the same."), _ALIKE),
        Task(
            "ecommerce",
            gettext_noop("Products: what they look like counts more than what they are called."),
            {**_ALIKE, "text": 0.3, "image": 0.6, "audio": 0.1, "video": 0.6},
        ),
        Task(
            "medical",
            gettext_noop("Diagnosis: pictures first, and more so where the words name a finding."),
            {**_ALIKE, "text": 0.4, "image": 0.6, "audio": 0.1, "video": 0.6},
            (Rule(_FINDINGS, {"text": 0.2, "image": 0.8, "video": 0.8}),),
        ),
        Task(
            "support",
            gettext_noop("Questions of customers: words and speech first."),
            {**_ALIKE, "text": 0.6, "image": 0.2, "audio": 0.6, "video": 0.2},
        ),
    )
}


def find(tenant_id: uuid.UUID, slug: str) -> Task:
    """The task of this name, in no scope but a short one of its own. Raises Invalid."""
    if slug in BUILT_IN:
        return BUILT_IN[slug]
    with tenant_scope(tenant_id):
        row = SearchTask.objects.filter(slug=slug).first() if _SLUG.fullmatch(slug) else None
    if row is None:
        raise Invalid(
            _("There is no task of this name. Built in are %(names)s; GET /tasks lists your own, too.")
            % {"names": ", ".join(BUILT_IN)},
            pointer="/task",
        )
    return of_row(row)


def of_row(row: SearchTask) -> Task:
    rules = tuple(Rule(tuple(rule["when"]), rule["weights"]) for rule in row.rules)
    return Task(row.slug, row.description, row.weights, rules, row.dynamic)


# --- A tenant's own --------------------------------------------------------------------------------------


def list_tasks() -> QuerySet[SearchTask]:
    return SearchTask.objects.order_by("-id")


def get_task(slug: str) -> SearchTask:
    """Raises NotFound."""
    row = SearchTask.objects.filter(slug=slug).first() if _SLUG.fullmatch(slug) else None
    if row is None:
        raise NotFound(_("There is no such task."))
    return row


def create_task(
    *,
    slug: str,
    weights: Mapping[str, float],
    description: str = "",
    rules: Sequence[Mapping[str, Any]] = (),
    dynamic: bool = True,
    actor: str = "",
) -> SearchTask:
    """Raises Invalid, Conflict."""
    row = SearchTask(slug=_checked_slug(slug), dynamic=dynamic, created_by=actor)
    _set(row, {"weights": weights, "description": description, "rules": rules})
    with tenant_scope(current_tenant_id()):
        if SearchTask.objects.count() >= MAX_TASKS:
            raise Conflict(_("There are %(tasks)s tasks; delete one first.") % {"tasks": MAX_TASKS})
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError as error:
            raise Conflict(_("There is a task of that name.")) from error
        log_event(actor=actor, verb="task.created", target=slug)
        return row


def update_task(*, slug: str, changes: Mapping[str, Any], actor: str = "") -> SearchTask:
    """Set `weights`, `description`, `rules` or `dynamic`; searches see it at once. Raises NotFound, Invalid."""
    with tenant_scope(current_tenant_id()):
        row = _locked(slug)
        _set(row, changes)
        row.save()
        log_event(actor=actor, verb="task.updated", target=slug, details={"fields": sorted(changes)})
        return row


def delete_task(*, slug: str, actor: str = "") -> None:
    """Searches that name it are refused from now on. Raises NotFound."""
    with tenant_scope(current_tenant_id()):
        _locked(slug).delete()
        log_event(actor=actor, verb="task.deleted", target=slug)


def _locked(slug: str) -> SearchTask:
    row = SearchTask.objects.select_for_update().filter(slug=slug).first()
    if row is None:
        raise NotFound(_("There is no such task."))
    return row


# --- What may stand in one -------------------------------------------------------------------------------


def _checked_slug(slug: str) -> str:
    if not _SLUG.fullmatch(slug):
        raise Invalid(_("A slug has up to %(slug)s of a-z, 0-9 and -.") % {"slug": MAX_SLUG}, pointer="/slug")
    if slug in BUILT_IN:
        raise Conflict(_("A task of that name is built in; call yours something else."))
    return slug


def _set(row: SearchTask, changes: Mapping[str, Any]) -> None:
    if "weights" in changes:
        row.weights = _checked_weights(changes["weights"], "/weights")
    if "description" in changes:
        row.description = changes["description"]
    if "rules" in changes:
        row.rules = [_checked_rule(rule, f"/rules/{at}") for at, rule in enumerate(changes["rules"])]
    row.dynamic = changes.get("dynamic", row.dynamic)


def _checked_weights(weights: Mapping[str, float], pointer: str) -> Weights:
    if not any(weight > 0 for weight in weights.values()):
        raise Invalid(_("At least one part needs a weight above 0."), pointer=pointer)
    return {part: float(weights[part]) for part in PARTS if part in weights}


def _checked_rule(rule: Mapping[str, Any], pointer: str) -> dict[str, Any]:
    words = [word.strip() for word in rule["when"]]
    if not all(words):
        raise Invalid(_("A word is empty."), pointer=f"{pointer}/when")
    return {"when": words, "weights": _checked_weights(rule["weights"], f"{pointer}/weights")}
