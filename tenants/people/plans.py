"""Plans: what tenants may use. A change holds for all its tenants from their next request on."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import IntegrityError, transaction
from django.db.models import Count, ProtectedError, QuerySet
from django.utils.translation import gettext as _

from tenants.accounts import trials
from tenants.accounts.models import METADATA, RATE, RESOURCES, Plan
from tenants.accounts.operators import Operator, record_act
from tenants.accounts.services import SLUG
from tenants.errors import Conflict, Invalid, NotFound
from tenants.names import check_name
from tenants.people.tenancies import checked_ceilings, forget_keys


def list_plans() -> QuerySet[Plan]:
    """Every plan, each with `used_by`, the number of its tenants."""
    return Plan.objects.annotate(used_by=Count("tenants")).order_by("name", "slug")


def get_plan(slug: str) -> Plan:
    """Raises NotFound."""
    plan = Plan.objects.filter(slug=slug).first()
    if plan is None:
        raise NotFound(_("This plan does not exist."))
    return plan


@transaction.atomic
def create_plan(
    *,
    by: Operator,
    slug: str,
    name: str,
    limits: Mapping[str, float],
    rate_per_minute: int | None,
    trial_days: int | None = None,
    offered: bool = False,
) -> Plan:
    """Raises Invalid, Conflict for a slug that is taken."""
    if not SLUG.fullmatch(slug):
        raise Invalid(_("A slug has 1 to 50 small letters, digits and inner hyphens."), pointer="/slug")
    fields = {**_checked(name, limits, rate_per_minute, trial_days), "offered": offered}
    try:
        with transaction.atomic():
            plan = Plan.objects.create(slug=slug, **fields)
    except IntegrityError as error:
        raise Conflict(_("A plan %(slug)s exists already.") % {"slug": f"{slug!r}"}) from error
    record_act(by=by, verb="plan.created", target=slug, details=fields)
    return plan


@transaction.atomic
def change_plan(
    *,
    by: Operator,
    slug: str,
    name: str,
    limits: Mapping[str, float],
    rate_per_minute: int | None,
    trial_days: int | None = None,
    offered: bool = False,
) -> Plan:
    """Raises NotFound, Invalid. Other days of a trial hold for tenants that come to it from now on."""
    plan = Plan.objects.select_for_update().filter(slug=slug).first()
    if plan is None:
        raise NotFound(_("This plan does not exist."))
    fields = {**_checked(name, limits, rate_per_minute, trial_days), "offered": offered}
    before = {name: getattr(plan, name) for name in fields}
    for field, value in fields.items():
        setattr(plan, field, value)
    plan.save()
    forget_keys(plan.tenants.values_list("id", flat=True))
    record_act(by=by, verb="plan.changed", target=slug, details={"from": before, "to": fields})
    return plan


@transaction.atomic
def delete_plan(*, by: Operator, slug: str) -> None:
    """Raises NotFound, Conflict while a tenant has it."""
    plan = get_plan(slug)
    try:
        plan.delete()
    except ProtectedError as error:
        raise Conflict(_("Tenants have this plan. Give them another one first.")) from error
    record_act(by=by, verb="plan.deleted", target=slug)


def _checked(name: str, limits: Mapping[str, float], rate: int | None, trial_days: int | None) -> dict:
    if not 0 < len(name) <= 100:
        raise Invalid(_("A name has 1 to 100 characters."), pointer="/name")
    check_name(name)
    known = (*RESOURCES, METADATA)
    if unknown := sorted(set(limits) - set(known)):
        raise Invalid(_("Choose from %(names)s.") % {"names": ", ".join(known)}, pointer=f"/{unknown[0]}")
    checked_ceilings({**limits, RATE: rate})
    if trial_days is not None and not 1 <= trial_days <= trials.MAX_DAYS:
        raise Invalid(_("Choose 1 to %(most)s days.") % {"most": trials.MAX_DAYS}, pointer="/trial_days")
    return {"name": name, "limits": dict(limits), "rate_per_minute": rate, "trial_days": trial_days}
