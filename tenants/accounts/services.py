"""Making tenants and people. Keys, quotas and metering have modules of their own."""

from __future__ import annotations

import re

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from tenants.accounts import trials
from tenants.accounts.models import Membership, Plan, Tenant, User
from tenants.accounts.permissions import ROLES
from tenants.errors import Conflict, Invalid
from tenants.names import check_name
from tenants.scope import current_tenant_id

SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,48}[a-z0-9])?")

PLANS: dict[str, dict] = {
    "demo": {
        "name": "Demo",
        "limits": {"assets": 250_000, "bytes": 200 * 2**30, "vectors": 600_000, "generations": 100_000},
        "rate_per_minute": None,
    },
    "starter": {
        "name": "Starter",
        "limits": {
            "requests": 100_000,
            "assets": 5_000,
            "bytes": 5 * 2**30,
            "vectors": 20_000,
            "generations": 500,
            "cpu_s": 36_000,
            "gpu_s": 0,
        },
        "rate_per_minute": 600,
    },
    "trial": {
        "name": "Trial",
        "limits": {
            "requests": 20_000,
            "assets": 1_000,
            "bytes": 2**30,
            "vectors": 5_000,
            "generations": 50,
            "cpu_s": 7_200,
            "gpu_s": 0,
        },
        "rate_per_minute": 120,
        "trial_days": 14,
    },
}


def ensure_plan(slug: str) -> Plan:
    """A built-in plan by slug, made on first use."""
    if slug in PLANS:
        return Plan.objects.get_or_create(slug=slug, defaults=PLANS[slug])[0]
    plan = Plan.objects.filter(slug=slug).first()
    if plan is None:
        raise Invalid(
            _("Unknown plan %(slug)s; built in are %(names)s.")
            % {"slug": f"{slug!r}", "names": ", ".join(PLANS)},
            pointer="/plan",
        )
    return plan


@transaction.atomic
def create_tenant(*, slug: str, name: str, plan: str = "starter") -> Tenant:
    if not SLUG.fullmatch(slug):
        raise Invalid(_("A slug has 1 to 50 small letters, digits and inner hyphens."), pointer="/slug")
    check_name(name)
    chosen = ensure_plan(plan)
    try:
        with transaction.atomic():
            return Tenant.objects.create(
                slug=slug, name=name, plan=chosen, trial_ends_at=trials.end_for(chosen)
            )
    except IntegrityError as error:
        raise Conflict(_("A tenant %(slug)s exists already.") % {"slug": f"{slug!r}"}) from error


@transaction.atomic
def create_user(*, email: str, password: str, name: str = "", operator: bool = False) -> User:
    check_name(name)
    email = User.objects.normalize_email(email)
    try:
        validate_email(email)
    except ValidationError as error:
        raise Invalid(_("This is not an e-mail address."), pointer="/email") from error
    if User.objects.filter(email=email).exists():
        raise Conflict(_("%(email)s is registered already.") % {"email": email})
    return User.objects.create_user(email, password, name=name, is_staff=operator, is_superuser=operator)


@transaction.atomic
def lock_members() -> None:
    """Hold the active tenant's row until the transaction ends; rows that refer to it can still be added.

    Whoever changes who belongs to it, or acts on what somebody's role is now, takes this first.
    """
    Tenant.objects.select_for_update(no_key=True).get(pk=current_tenant_id())


def set_role(*, tenant: Tenant, user: User, role: str) -> Membership:
    if role not in ROLES:
        raise Invalid(_("Choose a role from %(names)s.") % {"names": ", ".join(ROLES)}, pointer="/role")
    return Membership.objects.update_or_create(tenant=tenant, user=user, defaults={"role": role})[0]
