"""Trials: a plan with days, after which the workspace may only be read.

A tenant's end is set when it is put on such a plan, by the clock of the server, and asked anew at every request: no job
has to run for it. Until an operator gives it more time or another plan it can be looked at, searched and exported, and
what is in it deleted; nothing is deleted by the end itself, and jobs that were accepted before it go on to their end.
"""

from __future__ import annotations

import datetime as dt

from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts.models import Plan, Tenant
from tenants.errors import TrialEnded

# From so many days before its end people see it on every page.
SHOWN_DAYS = 7
MAX_DAYS = 3650


def end_for(plan: Plan) -> dt.datetime | None:
    """When a tenant that is put on this plan now may only read; None: the plan has no end."""
    if plan.trial_days is None:
        return None
    return timezone.now() + dt.timedelta(days=plan.trial_days)


def is_over(tenant: Tenant) -> bool:
    return tenant.trial_ends_at is not None and tenant.trial_ends_at <= timezone.now()


def days_left(tenant: Tenant) -> int | None:
    """Days to the end, the begun one counted; 0 once it has passed, None without an end."""
    if tenant.trial_ends_at is None:
        return None
    return max(0, -((timezone.now() - tenant.trial_ends_at) // dt.timedelta(days=1)))


def ended(at: dt.datetime) -> TrialEnded:
    """The refusal of a workspace whose trial ended then."""
    words = _(
        "The trial of this workspace ended on %(day)s. You can still view, search, export and delete "
        "its contents, but not add anything. Ask the operator of this installation for a plan, or "
        "for more time."
    )
    return TrialEnded(words % {"day": f"{at:%Y-%m-%d}"}, ended_at=at)
