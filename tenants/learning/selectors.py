"""Reading the models of the active tenant, with the spaces that come with the product."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from msgspec.structs import asdict

from tenants.errors import NotFound
from tenants.learning import shapes
from tenants.learning.builtin import Builtin, builtin_spaces, by_slug, by_space
from tenants.learning.models import GoldenAnswer, GoldenQuery, LearntModel, Promotion
from tenants.retrieval import model_routing
from tenants.shapes import UNSET

Named = LearntModel | Builtin


def list_models() -> QuerySet[LearntModel]:
    return LearntModel.objects.order_by("-id")


def list_runs(*, stage: str, method: str) -> QuerySet[LearntModel]:
    """Trainings of a kind that took epochs, newest first: those whose curves can be laid over each other."""
    return list_models().filter(stage=stage, method=method, curves__1__isnull=False)


def find_model(name: str) -> Named:
    """A model by its id, or a built-in space by its slug. Raises NotFound."""
    found: Named | None = by_slug(name)
    if found is None and (model_id := _id(name)) is not None:
        found = LearntModel.objects.filter(pk=model_id).first()
    if found is None:
        raise NotFound(_("This model does not exist."))
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
    learnt = space.removeprefix("cman-").removesuffix(":1")
    # Every answer to a search names its model: what was fine-tuned is told from its name alone.
    builtin = None if _id(learnt) else by_space(space)
    return builtin.slug if builtin else learnt


def newest_promotions(model_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Promotion]:
    rows = Promotion.objects.filter(model_id__in=list(model_ids)).order_by("model_id", "-id")
    return {row.model_id: row for row in rows.distinct("model_id") if row.model_id}


def newest_promotion(named: Named) -> Promotion | None:
    return Promotion.objects.filter(space=named.space).order_by("-id").first()


# --- Shapes ----------------------------------------------------------------------------------------------


def describe(named: Named) -> shapes.LearntModelShape:
    """One model as it stands now."""
    promotion = newest_promotion(named)
    if isinstance(named, Builtin):
        return builtin_shape(named, model_routing.live(), promotion)
    return model_shape(named, promotion)


def describe_in_full(named: Named) -> shapes.LearntModelWithCurves:
    curves = UNSET if isinstance(named, Builtin) else named.curves
    return shapes.LearntModelWithCurves(**asdict(describe(named)), curves=curves)


def list_builtin() -> list[shapes.LearntModelShape]:
    live = model_routing.live()
    known = {row.space: row for row in Promotion.objects.filter(model=None).order_by("id")}
    return [builtin_shape(one, live, known.get(one.space)) for one in builtin_spaces()]


def builtin_shape(one: Builtin, live: str, promotion: Promotion | None) -> shapes.LearntModelShape:
    live_now = one.space == live
    return shapes.LearntModelShape(
        id=one.slug,
        name=one.slug,
        built_in=True,
        space=one.space,
        state=LearntModel.State.LIVE if live_now else LearntModel.State.CANDIDATE,
        encoders=one.manifest["encoders"],
        bytes=one.manifest.get("bytes", 0),
        sha256=one.manifest["sha256"],
        promotion=promotion_shape(promotion) if promotion else None,
        # What a built-in space does not have.
        number=None,
        parent=None,
        stage=None,
        method=None,
        settings=None,
        data=None,
        metrics=None,
        estimate=None,
        cost=None,
        job=None,
        error=None,
        created_by=None,
        created_at=None,
        trained_at=None,
        promoted_at=None,
        retired_at=None,
    )


def model_shape(model: LearntModel, promotion: Promotion | None) -> shapes.LearntModelShape:
    """A model as lists show it."""
    return shapes.LearntModelShape(
        id=str(model.id),
        built_in=False,
        space=model.space,
        parent=public_name(model.base),
        data={key: value for key, value in model.data.items() if key != "held_out"},
        encoders=None,
        sha256=model.sha256 or None,
        job=str(model.job_id) if model.job_id else None,
        promotion=promotion_shape(promotion) if promotion else None,
        name=model.name,
        number=model.number,
        state=model.state,
        stage=model.stage,
        method=model.method,
        settings=model.settings,
        metrics=model.metrics,
        estimate=model.estimate,
        cost=model.cost,
        bytes=model.bytes,
        error=model.error,
        created_by=model.created_by,
        created_at=model.created_at,
        trained_at=model.trained_at,
        promoted_at=model.promoted_at,
        retired_at=model.retired_at,
    )


def promotion_shape(row: Promotion) -> shapes.PromotionState:
    return shapes.PromotionState(
        id=str(row.id),
        model=public_name(row.space),
        replaces=public_name(row.replaces),
        state=row.state,
        report=row.report,
        override_reason=row.override_reason or None,
        job=str(row.job_id) if row.job_id else None,
        error=row.error,
        created_by=row.created_by,
        created_at=row.created_at,
        embedded_at=row.embedded_at,
        finished_at=row.finished_at,
    )


# --- Golden queries --------------------------------------------------------------------------------------


def get_golden(golden_id: uuid.UUID | None) -> GoldenQuery:
    """Raises NotFound."""
    row = GoldenQuery.objects.filter(pk=golden_id).first()  # None matches no row
    if row is None:
        raise NotFound(_("This golden query does not exist."))
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


def golden_shape(row: GoldenQuery, answers: Mapping[uuid.UUID, list[uuid.UUID]]) -> shapes.GoldenQueryShape:
    return shapes.GoldenQueryShape(
        id=str(row.id),
        text=row.text or None,
        image=shapes.QueryPicture(asset=str(row.asset_id)) if row.asset_id else None,
        relevant=[str(asset_id) for asset_id in answers.get(row.id, [])],
        created_by=row.created_by,
        created_at=row.created_at,
    )
