"""The letter to a workspace's admins when a webhook was disabled by itself."""

from __future__ import annotations

import logging
import uuid

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from tenants.accounts import mail
from tenants.accounts.models import Tenant
from tenants.events.models import Webhook
from tenants.scope import tenant_scope

log = logging.getLogger(__name__)

TASK = "workers.mail_webhook_disabled"
WHY = {
    "gone": gettext_noop("It answered 410 Gone: it no longer wants to be told."),
    "failing": gettext_noop("Nothing has come through for %(days)s days."),
}


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
    why, workspace = WHY[row.reason], mail.single_line(Tenant.objects.get(pk=tenant_id).name)

    def write() -> tuple[str, str]:
        text = _(
            "A webhook of the workspace %(workspace)s in Crosslight was disabled:\n\n    %(url)s\n\n%(why)s\n\nEvents "
            "from now on are not kept for it. Once it works again, make it active and send again what has failed:"
            "\n\n%(link)s"
        ) % {
            "workspace": workspace,
            "url": row.url,
            "why": _(why) % {"days": settings.WEBHOOK_FAILING_DAYS},
            "link": f"{settings.BASE_URL}/webhooks/{row.id}",
        }
        return _("A webhook was disabled"), text

    mail.send_to_each(mail.admins_of(tenant_id), write)
