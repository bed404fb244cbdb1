"""The letter to a workspace's admins when a webhook was disabled by itself."""

from __future__ import annotations

import logging
import uuid

from django.conf import settings
from django.core.mail import send_mass_mail

from tenants.accounts import mail
from tenants.accounts.models import Membership, Tenant
from tenants.accounts.permissions import ADMIN, ROLES
from tenants.events.models import Webhook
from tenants.scope import tenant_scope

log = logging.getLogger(__name__)

TASK = "workers.mail_webhook_disabled"
WHY = {
    "gone": "It answered 410 Gone, which says that it does not want to be told any more.",
    "failing": "Nothing has come through for {days} days.",
}
TEXT = """\
A webhook of the workspace {workspace} in Crosslight was disabled:

    {url}

{why}

Events from now on are not kept for it. Once it works again, make it active and send again what has failed:

{link}
"""


def post_disabled(webhook_id: uuid.UUID, tenant_id: uuid.UUID) -> None:
    """Have it mailed by a worker; call it after the commit. Without a mail server the console alone shows it."""
    if not mail.configured():
        return
    mail.send(TASK, str(webhook_id), str(tenant_id))


def mail_disabled(webhook_id: uuid.UUID, tenant_id: uuid.UUID) -> None:
    with tenant_scope(tenant_id):
        row = Webhook.objects.filter(pk=webhook_id, state=Webhook.State.DISABLED).first()
    if row is None or row.reason not in WHY:
        return
    tenant = Tenant.objects.get(pk=tenant_id)
    text = TEXT.format(
        workspace=" ".join(tenant.name.split())[:100],
        url=row.url,
        why=WHY[row.reason].format(days=settings.WEBHOOK_FAILING_DAYS),
        link=f"{settings.BASE_URL}/webhooks/{row.id}",
    )
    # Over one connection, opened before the first: a try that fails has mailed nobody yet.
    send_mass_mail([("A webhook was disabled", text, None, [address]) for address in _admins(tenant)])


def _admins(tenant: Tenant) -> list[str]:
    roles = [role for role, scopes in ROLES.items() if ADMIN in scopes]
    members = Membership.objects.filter(tenant=tenant, role__in=roles, user__is_active=True)
    return list(members.order_by("user__email").values_list("user__email", flat=True))
