"""Reading the models of the active tenant, with the spaces that come with the product."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from tenants.errors import NotFound
from tenants.learning.builtin import Builtin, builtin_spaces, by_slug, by_space
from tenants.learning.models import GoldenAnswer, GoldenQuery, LearntModel, Promotion
from tenants.retrieval import model_routing

Named = LearntModel | Builtin


def list_models() -> QuerySet[LearntModel]:
    return LearntModel.objects.order_by("-id")


def find_model(name: str) -> Named:
    """A model by its id, or a built-in space by its slug. Raises NotFound."""
    found: Named | None = by_slug(name)
    if found is None and (model_id := _id(name)) is not None:
        found = LearntModel.objects.filter(pk=model_id).first()
    if found is None:
        raise NotFound(_("There is no such model."))
    return found


def find_space(space: str) -> Named | None:
    """What stands behind the name of a space; None if it was deleted."""
    if (builtin := by_space(space)) is not None:
        return builtin
    name = space.removeprefix("cman-").removesuffix(":1")
    model_id = _id(name)
    return None if model_id is None else LearntModel.objects.filter(pk=model_id).first()


def _id(name: str) -> uuid.UUID | None:
    """Only the canonical form names anything."""
    try:
        parsed = uuid.UUID(name)
    except ValueError:
        return None
    return parsed if str(parsed) == name else None


def public_name(space: str) -> str:
    """A space as the API names its model: a slug or an id."""
    builtin = by_space(space)
    return builtin.slug if builtin else space.removeprefix("cman-").removesuffix(":1")


def newest_promotions(model_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Promotion]:
    rows = Promotion.objects.filter(model_id__in=list(model_ids)).order_by("model_id", "-id")
    return {row.model_id: row for row in rows.distinct("model_id") if row.model_id}


def newest_promotion(named: Named) -> Promotion | None:
    return Promotion.objects.filter(space=named.space).order_by("-id").first()


# --- Shapes ----------------------------------------------------------------------------------------------


def describe(named: Named) -> dict[str, Any]:
    """One model in full, with its curves."""
    promotion = newest_promotion(named)
    if isinstance(named, Builtin):
        return builtin_as_dict(named, model_routing.live(), promotion)
    return {**model_as_dict(named, promotion), "curves": named.curves}


def list_builtin() -> list[dict[str, Any]]:
    live = model_routing.live()
    known = {row.space: row for row in Promotion.objects.filter(model=None).order_by("id")}
    return [builtin_as_dict(one, live, known.get(one.space)) for one in builtin_spaces()]


def builtin_as_dict(one: Builtin, live: str, promotion: Promotion | None) -> dict[str, Any]:
    live_now = one.space == live
    return {
        **dict.fromkeys(_OWN),
        "id": one.slug,
        "name": one.slug,
        "built_in": True,
        "space": one.space,
        "state": LearntModel.State.LIVE if live_now else LearntModel.State.CANDIDATE,
        "encoders": one.manifest["encoders"],
        "bytes": one.manifest.get("bytes", 0),
        "sha256": one.manifest["sha256"],
        "promotion": promotion_as_dict(promotion) if promotion else None,
    }


# What a built-in space does not have.
_OWN = (
    "number",
    "parent",
    "stage",
    "method",
    "settings",
    "data",
    "metrics",
    "estimate",
    "cost",
    "job",
    "error",
    "created_by",
    "created_at",
    "trained_at",
    "promoted_at",
    "retired_at",
)


# What is shown of a model as it is.
_SAME = (
    *("name", "number", "state", "stage", "method", "settings", "metrics", "estimate", "cost", "bytes"),
    *("error", "created_by", "created_at", "trained_at", "promoted_at", "retired_at"),
)


def model_as_dict(model: LearntModel, promotion: Promotion | None) -> dict[str, Any]:
    """A model in the shape of the API."""
    return {
        "id": str(model.id),
        "built_in": False,
        "space": model.space,
        "parent": public_name(model.base),
        "data": {key: value for key, value in model.data.items() if key != "held_out"},
        "encoders": None,
        "sha256": model.sha256 or None,
        "job": str(model.job_id) if model.job_id else None,
        "promotion": promotion_as_dict(promotion) if promotion else None,
        **{name: getattr(model, name) for name in _SAME},
    }


def promotion_as_dict(row: Promotion) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "model": public_name(row.space),
        "replaces": public_name(row.replaces),
        "state": row.state,
        "report": row.report,
        "override_reason": row.override_reason or None,
        "job": str(row.job_id) if row.job_id else None,
        "error": row.error,
        "created_by": row.created_by,
        "created_at": row.created_at,
        "embedded_at": row.embedded_at,
        "finished_at": row.finished_at,
    }


# --- Golden queries --------------------------------------------------------------------------------------


def get_golden(golden_id: uuid.UUID | None) -> GoldenQuery:
    """Raises NotFound."""
    row = GoldenQuery.objects.filter(pk=golden_id).first()  # None matches no row
    if row is None:
        raise NotFound(_("There is no such golden query."))
    return row


def list_golden() -> QuerySet[GoldenQuery]:
    return GoldenQuery.objects.order_by("-id")


def answers_of(golden_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[uuid.UUID]]:
    """The right assets of each query, in the order in which they were named."""
    found: dict[uuid.UUID, list[uuid.UUID]] = {one: [] for one in golden_ids}
    rows = GoldenAnswer.objects.filter(golden_id__in=list(found)).order_by("id")
    for golden_id, asset_id in rows.values_list("golden_id", "asset_id"):
        found[golden_id].append(asset_id)
    return found


def golden_as_dict(row: GoldenQuery, answers: Mapping[uuid.UUID, list[uuid.UUID]]) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "text": row.text or None,
        "image": {"asset": str(row.asset_id)} if row.asset_id else None,
        "relevant": [str(asset_id) for asset_id in answers.get(row.id, [])],
        "created_by": row.created_by,
        "created_at": row.created_at,
    }
