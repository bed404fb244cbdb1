"""Numbers that were computed for assets, as filters call them: which facets hold them, and of which model they are."""

from __future__ import annotations

import re
from collections.abc import Collection

from django.utils.translation import gettext as _

from tenants.errors import Invalid, NotReady
from tenants.retrieval.models import ComputedField, VectorClock

# How such keys are spelt; metadata may have such a key, too, as it could before there were any.
PATTERN = re.compile(r"classifier\.([^.]+)\.probability")


class Stale(NotReady):
    """The field was made of another model's vectors than the live one's."""

    slug, title = "classifier-stale", "This classifier has not been trained for the live model"


def set_field(*, key: str, facet_key: str, model: str) -> None:
    """Let filters find the field under these facets, from the caller's transaction on."""
    ComputedField.objects.update_or_create(key=key, defaults={"facet_key": facet_key, "model": model})


def drop_field(key: str) -> None:
    ComputedField.objects.filter(key=key).delete()


def resolve(keys: Collection[str]) -> dict[str, str]:
    """The keys of facets of those that are computed fields. Two statements where a key is spelt like one, else none.

    Raises Stale.
    """
    wanted = [key for key in keys if PATTERN.fullmatch(key)]
    rows = list(ComputedField.objects.filter(key__in=wanted)) if wanted else []
    if not rows:
        return {}
    live = VectorClock.objects.values_list("live", flat=True).first()
    for row in rows:
        if live and row.model != live:
            raise Stale(
                _(
                    "%(key)s was made for another model than the one that answers now. It is being trained again, or "
                    "has to be; until then it does not answer."
                )
                % {"key": row.key}
            )
    return {row.key: row.facet_key for row in rows}


def answering() -> list[str]:
    """Names of the classifiers that filters find by now, sorted: none of another model than the live one."""
    live = VectorClock.objects.values_list("live", flat=True).first()
    rows = ComputedField.objects.order_by("key")
    found = (PATTERN.fullmatch(row.key) for row in rows if not live or row.model == live)
    return [match[1] for match in found if match]


def field_of(classifier: str) -> str:
    """What filters call the probability of a classifier of this name."""
    return f"classifier.{classifier}.probability"


def require_known(key: str) -> None:
    """For a key that nothing has. Raises Invalid if it is spelt like a classifier's."""
    if PATTERN.fullmatch(key):
        raise Invalid(
            _(
                "No classifier answers as %(key)s: there is none of that name, or no version of it was promoted."
            )
            % {"key": key},
            pointer=f"/filter/{key}",
        )
