"""Removing a space that an operator added: only where no workspace has anything of it."""

from __future__ import annotations

import shutil

from django.db.models import Q
from django.utils.translation import gettext as _

from ml.hub import AddingError, put_back, take_away
from tenants.accounts.models import Tenant
from tenants.errors import Conflict, NotFound
from tenants.learning.builtin import by_slug
from tenants.learning.models import LearntModel, Promotion
from tenants.retrieval.models import Vector, VectorClock
from tenants.scope import tenant_scope


def users_of(space: str) -> list[str]:
    """Slugs of the workspaces that a space answers for, is written for, is promoted in, or that still have its vectors.

    In no scope; asks each workspace.
    """
    tenants = Tenant.objects.order_by("slug").values_list("pk", "slug")
    return [slug for pk, slug in list(tenants) if _uses(pk, space)]


def _uses(tenant_id: object, space: str) -> bool:
    with tenant_scope(tenant_id):  # type: ignore[arg-type]
        clocks = (
            Q(live=space) | Q(previous=space) | Q(beside__contains=[space]) | Q(retired__contains=[space])
        )
        return (
            VectorClock.objects.filter(clocks).exists()
            or Vector.objects.filter(model=space).exists()
            or Promotion.objects.filter(space=space, state__in=Promotion.UNDER_WAY).exists()
            or LearntModel.objects.filter(base=space).exists()
        )


def remove_added_space(slug: str) -> None:
    """Remove the files of a space that was added. In no scope. Raises NotFound, and Conflict where one is in use."""
    found = by_slug(slug)
    if found is None:
        raise NotFound(_("This model does not exist."))
    if not found.is_added:
        raise Conflict(_("%(model)s comes with the product and stays.") % {"model": slug})
    _require_unused(found.space)
    try:
        away = take_away(slug)
    except AddingError as error:
        raise NotFound(str(error)) from error
    # Nobody begins with it from here on; somebody may have between the first look and this.
    try:
        _require_unused(found.space)
    except BaseException:
        put_back(slug)
        raise
    shutil.rmtree(away, ignore_errors=True)


def _require_unused(space: str) -> None:
    if users := users_of(space):
        shown = ", ".join(users[:5]) + (f" (+{len(users) - 5})" if len(users) > 5 else "")
        raise Conflict(
            _(
                "Workspaces have vectors of this model, or write them: %(names)s. Promote another model there, let "
                "upkeep delete what is left, then try again."
            )
            % {"names": shown}
        )
