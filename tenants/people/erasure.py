"""Erasing a person: everything that names them, in every tenant, with a receipt of what was removed where."""

from __future__ import annotations

import secrets
import uuid

from django.apps import apps
from django.db.models import CharField, Field, Model, Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.utils.translation import gettext as _

from tenants.accounts import sessions, sign_on
from tenants.accounts.models import (
    ApiKey,
    Invitation,
    Membership,
    OperatorAct,
    Passkey,
    RecoveryCode,
    SecondFactor,
    SignOnIdentity,
    SignUp,
    User,
)
from tenants.accounts.operators import label_of
from tenants.accounts.services import lock_members
from tenants.errors import Conflict
from tenants.events import log_lines
from tenants.events.models import AuditEvent, IdempotentAnswer
from tenants.people.members import end_membership, owns_alone
from tenants.scope import TenantModel, operator_scope, tenant_scope

# Columns that hold an actor in words, as the audit log does.
LABELS = frozenset({"created_by", "requested_by", "claimed_by", "reviewer"})


def erase_user(*, user: User) -> dict[str, int]:
    """Erase a person's account; table -> number of rows removed or made anonymous.

    Ends the keys that they made, as removing a member does. In audit logs a pseudonym takes their place. May be run
    again after it was cut off. Raises Conflict for the last owner of a workspace, or the last one who gets in past a
    required single sign-on.
    """
    _refuse_last_owner(user)
    receipt = {"membership": 0, "key_digest": 0}
    for member in Membership.objects.filter(user=user).select_related("user"):
        with tenant_scope(member.tenant_id):
            lock_members()
            _refuse_last_owner(user)
            receipt["key_digest"] += len(end_membership(member, actor=str(user.pk)))
            receipt["membership"] += 1
    with operator_scope("erase a person"):
        receipt |= erase_everywhere(user)
    return receipt


def _refuse_last_owner(user: User) -> None:
    if alone := owns_alone(user):
        names = ", ".join(alone)
        raise Conflict(
            _("The only owner of %(names)s cannot be erased. Make someone else an owner first.")
            % {"names": names}
        )
    for member in Membership.objects.filter(user=user, role="owner"):
        sign_on.keep_a_way_in(member.tenant_id, without=user)


def erase_everywhere(user: User) -> dict[str, int]:
    """Erase what there is of a person who belongs to no tenant any more. In an operator_scope."""
    pseudonym = f"erased-{secrets.token_hex(6)}"
    mine = Q(email=user.email) | Q(invited_by=user)
    counts = {
        "session": sessions.end_sessions(user=user),
        "second_factor": SecondFactor.objects.filter(user=user).delete()[0],
        "passkey": Passkey.objects.filter(user=user).delete()[0],
        "sign_on_identity": SignOnIdentity.objects.filter(user=user).delete()[0],
        "recovery_code": RecoveryCode.objects.filter(user=user).delete()[0],
        "invitation": Invitation.objects.filter(mine).delete()[0],
        "sign_up": SignUp.objects.filter(email=user.email).delete()[0],
        "api_key": ApiKey.objects.filter(created_by=user).update(created_by=None),
        "audit_event": _rename(user, pseudonym),
        # What the API answered to whoever invited them is kept for a day, to be given again.
        "idempotent_answer": IdempotentAnswer.objects.filter(body__icontains=user.email).delete()[0],
        **_relabel(user, pseudonym),
    }
    User.objects.filter(pk=user.pk).delete()
    return {**counts, "user": 1}


def _relabel(user: User, pseudonym: str) -> dict[str, int]:
    """The same in rows of other parts that say in words who asked for them, and in the operators' log."""
    counts: dict[str, int] = {}
    if acts := OperatorAct.objects.filter(actor=user.email).update(actor=pseudonym, address=""):
        counts["operator_act"] = acts
    for model in apps.get_models():
        for name in {field.name for field in model._meta.local_fields if _is_label(model, field)}:
            rows: QuerySet = model._default_manager.filter(**{f"{name}__in": _labels(user)})
            if changed := rows.update(**{name: pseudonym}):
                counts[model._meta.db_table] = changed
    return counts


def _labels(user: User) -> list[str]:
    """What stands in words for a person who acted: as a member, and as an operator."""
    return [str(user.pk), label_of(user)]


def _is_label(model: type[Model], field: Field) -> bool:
    return issubclass(model, TenantModel) and isinstance(field, CharField) and field.name in LABELS


def _rename(user: User, pseudonym: str) -> int:
    """Put the pseudonym in the place of the person's id and address in every audit log."""
    labels = _labels(user)
    names = {*labels, user.email, user.name} - {""}
    by_details = Q(text__icontains=user.email) | Q(text__contains=str(user.pk))
    rows = AuditEvent.objects.annotate(text=Cast("details", TextField()))
    changed: list[uuid.UUID] = []
    for row in rows.filter(Q(actor__in=labels) | Q(target=str(user.pk)) | by_details).iterator():
        row.actor = pseudonym if row.actor in names else row.actor
        row.target = pseudonym if row.target in names else row.target
        row.details = _without(row.details, names, pseudonym)
        if "address" in row.details:
            row.details = {**row.details, "address": ""}
        row.save(update_fields=["actor", "target", "details"])
        changed.append(row.pk)
    log_lines.note_erasure(changed)
    return len(changed)


def _without(value: object, names: set[str], pseudonym: str) -> object:
    if isinstance(value, dict):
        return {key: _without(inner, names, pseudonym) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without(inner, names, pseudonym) for inner in value]
    return pseudonym if value in names else value
