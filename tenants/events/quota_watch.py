"""Events about quotas: at four fifths of one, and when one has refused something. Once a month and resource each.

Looked at from time to time and not where amounts are counted: a refusal undoes its transaction and an event with it,
and nobody else's work should pay for the look.
"""

from __future__ import annotations

import logging
import uuid

from tenants.accounts import quotas
from tenants.accounts.models import Tenant
from tenants.events import webhooks
from tenants.events.models import WebhookLane
from tenants.scope import tenant_scope

log = logging.getLogger(__name__)

WARN_AT = 0.8


def watch_all() -> None:
    """Every active tenant that has an endpoint."""
    tenants = Tenant.objects.filter(state=Tenant.State.ACTIVE)
    for tenant_id in tenants.filter(pk__in=WebhookLane.objects.values("tenant_id")).values_list(
        "pk", flat=True
    ):
        try:
            watch(tenant_id)
        except Exception:
            log.exception("looking at the quotas of a tenant failed", extra={"tenant": str(tenant_id)})


def watch(tenant_id: uuid.UUID) -> None:
    with tenant_scope(tenant_id):
        refused = quotas.refused()
        for resource, found in quotas.summary().items():
            limit = found["limit"]
            if limit is None:
                continue
            used = (found["used"] or 0) + (found["reserved"] or 0)
            # A limit of 0 switches something off; nobody is warned of that.
            if resource in refused or used > limit:
                _emit("quota.exceeded", resource, used, limit)
            if 0 < WARN_AT * limit <= used:
                _emit("quota.warning", resource, used, limit)


def _emit(event_type: str, resource: str, used: float, limit: float) -> None:
    period = quotas.current_period()
    data = {"resource": resource, "period": period, "used": used, "limit": limit}
    webhooks.emit_once(event_type, data, once=f"{event_type}/{resource}/{period}")
