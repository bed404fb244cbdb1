"""The examples of a classifier: those that people labelled, or assets with a key of metadata; and what is wrong."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from ml.classification import MAX_EXAMPLES, MIN_EXAMPLES, MIN_OF_CLASS, MIN_SPREAD, Unlearnable
from tenants.datasets.models import Asset, Facet
from tenants.datasets.values import as_number, as_text
from tenants.errors import Conflict
from tenants.learning.models import Classifier, ClassifierExample, ClassifierVersion

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


def examples_of(classifier: Classifier, source: str) -> list[Example]:
    """In the order of their assets' ids, without assets that are being deleted. In the tenant's scope.

    Of a key of metadata the newest MAX_EXAMPLES assets.
    """
    labels = (
        _labelled(classifier) if source == ClassifierVersion.Source.EXAMPLES else _by_metadata(classifier)
    )
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


def check(examples: Sequence[Example]) -> None:
    """What can be said before any vector is read. Raises Untrainable."""
    yes = sum(one.label for one in examples)
    no = len(examples) - yes
    if examples and 0 in (yes, no):
        raise refuse(Unlearnable("one_class", {"yes": yes, "no": no}))
    if len(examples) < MIN_EXAMPLES or min(yes, no) < MIN_OF_CLASS:
        raise refuse(Unlearnable("few", {"yes": yes, "no": no}))
    said: dict[str, set[bool]] = {}
    for one in examples:
        said.setdefault(one.content, set()).add(one.label)
    if both := [one.asset_id for one in examples if len(said[one.content]) > 1]:
        raise refuse(Unlearnable("contradiction"), both)


def refuse(
    error: Unlearnable, assets: Sequence[uuid.UUID] = (), *, without: int = 0, of_words: bool = False
) -> Untrainable:
    """The same in words for people."""
    if of_words:
        return Untrainable(
            _(
                "Words are judged by what there is already: at least %(least)s assets of one kind that are ready."
            )
            % {"least": MIN_SPREAD}
        )
    detail = _detail(error, assets)
    if without:
        detail += " " + _("%(count)s examples were left out, as their assets have no vectors.") % {
            "count": without
        }
    named = [str(one) for one in assets[:MAX_NAMED]]
    return Untrainable(detail, assets=named) if named else Untrainable(detail)


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
