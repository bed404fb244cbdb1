"""The examples of a classifier: what people labelled, assets with a key of metadata, or what reviewers decided about;
and what is wrong with them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from django.utils.translation import gettext as _

from ml.classification import MAX_EXAMPLES, MIN_EXAMPLES, MIN_OF_CLASS, MIN_SPREAD, Unlearnable
from tenants.datasets.models import Asset, Facet
from tenants.datasets.values import as_number, as_text
from tenants.errors import Conflict
from tenants.learning.classifiers.providers import PROVIDERS
from tenants.learning.models import Classifier, ClassifierExample, ClassifierVersion

Source = ClassifierVersion.Source
# Contradictions that are named.
MAX_NAMED = 20


class Untrainable(Conflict):
    """There is nothing to learn from these examples; the detail says what to change."""

    slug, title = "classifier-untrainable", "There is nothing to learn from"


@dataclass(frozen=True)
class Example:
    """An asset, what it is, what was said of it, and the SHA-256 of its file: equal contents are one thing."""

    asset_id: uuid.UUID
    modality: str
    label: bool
    content: str


def read_examples(classifier: Classifier, source: str) -> tuple[list[Example], int]:
    """In the order of their assets' ids, without assets that are being deleted; and how many contents reviewers decided
    both ways. In the tenant's scope.

    Of a key of metadata the newest MAX_EXAMPLES assets; of reviewers' decisions the newest about as many, and of one
    content the newest decision.
    """
    if source == Source.DECISIONS:
        return _decided(classifier)
    return _of(_labelled(classifier) if source == Source.EXAMPLES else _by_metadata(classifier)), 0


def _decided(classifier: Classifier) -> tuple[list[Example], int]:
    decided = PROVIDERS.read_decided(rule=classifier.decisions_rule, label=classifier.decisions_label)
    by_asset = {one.asset_id: one for one in _of(decided)}
    newest = [by_asset[asset_id] for asset_id in decided if asset_id in by_asset][:MAX_EXAMPLES]
    said: dict[str, bool] = {}
    both: set[str] = set()
    for one in newest:
        if said.setdefault(one.content, one.label) != one.label:
            both.add(one.content)
    examples = [replace(one, label=said[one.content]) for one in newest]
    return sorted(examples, key=lambda one: one.asset_id), len(both)


def _of(labels: Mapping[uuid.UUID, bool]) -> list[Example]:
    rows = Asset.objects.filter(pk__in=list(labels), dataset__deleted_at=None).order_by("pk")
    found = rows.values_list("pk", "modality", "blob__sha256")
    return [Example(pk, modality, labels[pk], sha256) for pk, modality, sha256 in found]


def _labelled(classifier: Classifier) -> dict[uuid.UUID, bool]:
    return dict(ClassifierExample.objects.filter(classifier=classifier).values_list("asset_id", "label"))


def _by_metadata(classifier: Classifier) -> dict[uuid.UUID, bool]:
    text, number = as_text(classifier.metadata_value), as_number(classifier.metadata_value)
    rows = Facet.objects.filter(key=classifier.metadata_key).order_by("-asset_id")
    found: dict[uuid.UUID, bool] = {}
    for asset_id, its_text, its_number in rows.values_list("asset_id", "text", "number")[: 4 * MAX_EXAMPLES]:
        same = its_text == text if number is None or its_number is None else its_number == number
        found[asset_id] = found.get(asset_id, False) or same
    return dict(list(found.items())[:MAX_EXAMPLES])


def check(examples: Sequence[Example], source: str = Source.EXAMPLES) -> None:
    """What can be said before any vector is read. Raises Untrainable."""
    yes = sum(one.label for one in examples)
    no = len(examples) - yes
    if examples and 0 in (yes, no):
        raise refuse(Unlearnable("one_class", {"yes": yes, "no": no}), source=source)
    if len(examples) < MIN_EXAMPLES or min(yes, no) < MIN_OF_CLASS:
        raise refuse(Unlearnable("few", {"yes": yes, "no": no}), source=source)
    said: dict[str, set[bool]] = {}
    for one in examples:
        said.setdefault(one.content, set()).add(one.label)
    if both := [one.asset_id for one in examples if len(said[one.content]) > 1]:
        raise refuse(Unlearnable("contradiction"), both)


def refuse(
    error: Unlearnable,
    assets: Sequence[uuid.UUID] = (),
    *,
    without: int = 0,
    source: str = Source.EXAMPLES,
) -> Untrainable:
    """The same in words for people."""
    if source == Source.WORDS:
        return Untrainable(
            _(
                "Words are judged by what there is already: at least %(least)s assets of one kind that are ready."
            )
            % {"least": MIN_SPREAD}
        )
    said = _decisions_detail(error) if source == Source.DECISIONS else ""
    detail = said or _detail(error, assets)
    if without:
        detail += " " + _("%(count)s examples were left out, as their assets have no vectors.") % {
            "count": without
        }
    named = [str(one) for one in assets[:MAX_NAMED]]
    return Untrainable(detail, assets=named) if named else Untrainable(detail)


def _decisions_detail(error: Unlearnable) -> str:
    """What is missing of reviewers' decisions; empty for what is told as of other examples."""
    counts = {"yes": error.counts.get("yes", 0), "no": error.counts.get("no", 0)}
    if error.code == "one_class":
        return (
            _(
                "All of the reviewers' decisions are of one answer: %(yes)s of yes and %(no)s of no. It takes flags "
                "that they confirmed and flags that they let go; or label assets of the other answer, and train from "
                "examples."
            )
            % counts
        )
    if error.code == "few" and not any(counts.values()):
        return _(
            "Reviewers have decided nothing yet that this classifier is made from, or its assets are gone. Decide "
            "flags in the review queue first, or check how the rule and the label are written."
        )
    if error.code == "few":
        return _(
            "Reviewers' decisions make %(yes)s examples of yes and %(no)s of no; at least %(least)s are needed, and "
            "%(each)s of each. Decide more flags in the review queue."
        ) % {**counts, "least": MIN_EXAMPLES, "each": MIN_OF_CLASS}
    if error.code == "alike":
        return _(
            "The decisions of one answer are all about nearly the same content. Decide flags of other content."
        )
    return ""


def _detail(error: Unlearnable, assets: Sequence[uuid.UUID]) -> str:
    match error.code:
        case "one_class":
            return _("All examples are of one answer. Label some that are the other one, too.")
        case "contradiction":
            return _(
                "The same content is labelled yes and no: %(count)s assets, such as %(assets)s. Change their labels."
            ) % {"count": len(assets), "assets": ", ".join(str(one) for one in assets[:2])}
        case "alike":
            return _("The examples of one answer are all nearly the same. Label some that look different.")
        case _other:
            return _(
                "There are %(yes)s examples of yes and %(no)s of no; at least %(least)s are needed, and %(each)s of "
                "each."
            ) % {
                "yes": error.counts.get("yes", 0),
                "no": error.counts.get("no", 0),
                "least": MIN_EXAMPLES,
                "each": MIN_OF_CLASS,
            }
