"""Operators: the people who run the installation. What they do is logged, with the reason where they gave one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from tenants.accounts.models import OperatorAct, User
from tenants.errors import Invalid

MAX_REASON = 300
# Before their address, in the audit logs of tenants.
OPERATOR = "operator:"
_MAX_LABEL = 100


@dataclass(frozen=True)
class Operator:
    """Who acts, and from where."""

    email: str
    address: str = ""


def label_of(user: User) -> str:
    """The name under which tenants see what an operator did with their data."""
    return f"{OPERATOR}{user.email}"[:_MAX_LABEL]


def record_act(
    *, by: Operator, verb: str, target: str = "", reason: str = "", details: dict[str, Any] | None = None
) -> OperatorAct:
    """Append to the operators' log, in the caller's transaction. It holds no content of any tenant."""
    return OperatorAct.objects.create(
        actor=by.email,
        verb=verb,
        target=target[:100],
        reason=reason,
        details=details or {},
        address=by.address[:45],
    )


def checked_reason(reason: str) -> str:
    """Raises Invalid for an empty or long one."""
    reason = " ".join(reason.replace("\0", "").split())
    if not reason:
        raise Invalid(_("Give a reason; it is kept in the log."), pointer="/reason")
    if len(reason) > MAX_REASON:
        raise Invalid(
            _("A reason has at most %(reason)s characters.") % {"reason": MAX_REASON}, pointer="/reason"
        )
    return reason


def list_acts(*, target: str = "", actor: str = "", verb: str = "") -> QuerySet[OperatorAct]:
    """The operators' log, newest first."""
    wanted = {name: value for name, value in (("target", target), ("actor", actor), ("verb", verb)) if value}
    return OperatorAct.objects.filter(**wanted).order_by("-id")
