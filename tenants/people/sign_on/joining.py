"""Whose account a provider's answer means, and what it may do in the provider's tenant.

Accounts are global, so an answer must not hand one over. A provider speaks for addresses in domains that its tenant has
proved. An account that could do anything elsewhere, or owns this workspace, or operates the installation, is linked
only by whoever knows its password; one that belongs to nobody else loses whatever it could be entered by before.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import sessions
from tenants.accounts.models import (
    IdentityProvider,
    Membership,
    Passkey,
    RecoveryCode,
    SecondFactor,
    SignOnConnection,
    SignOnIdentity,
    User,
)
from tenants.accounts.permissions import Actor
from tenants.accounts.services import lock_members
from tenants.accounts.sign_on import domain_of
from tenants.errors import NotFound
from tenants.events.services import record
from tenants.people.members import SIGN_ON, change_role, end_membership
from tenants.people.provisioning.directory import was_deactivated
from tenants.people.sign_on.assertions import Person, Refused
from tenants.people.sign_on.connections import assignable_roles, get_connection
from tenants.people.sign_on.domains import list_domains
from tenants.scope import tenant_scope

MAX_EMAIL = 254


@dataclass(frozen=True)
class Entry:
    """Whose session may begin; `confirm` where the account's password has to be shown first."""

    user: User
    confirm: bool = False


def enter(*, route: SignOnConnection, person: Person, confirmed: User | None = None) -> Entry:
    """Find or make the person's account, and bring their role up to date. `confirmed` has shown its password.

    Raises Refused; then nothing has changed but a membership that the provider has taken away.
    """
    email = address_of(person)
    with tenant_scope(route.tenant_id):
        lock_members()
        provider = _enabled(route.id)
        check_domain(email)
        known = SignOnIdentity.objects.filter(provider=provider.pk, subject=person.subject).first()
        user = User.objects.get(pk=known.user_id) if known else User.objects.filter(email=email).first()
        if user is not None and not user.is_active:
            raise Refused(_("This account is not active."))
        if user is not None and was_deactivated(user):
            raise Refused(
                _("Your access to this workspace was ended by its identity provider. Ask its admins.")
            )
        if user is not None and known is None:
            _check_unlinked(provider, user)
            if confirmed != user and _must_confirm(user, provider):
                return Entry(user, confirm=True)
        role = role_for(provider, person)
        refusal = _refusal(provider, user, role)
        if not refusal:
            if user is not None and known is None and confirmed != user:
                _disarm_unowned(user)
            user = _admit(provider, user, known, person, email, role)
    if refusal or user is None:
        raise Refused(refusal)
    return Entry(user)


def address_of(person: Person) -> str:
    """The address in the spelling of accounts. Raises Refused."""
    email = User.objects.normalize_email(person.email)
    try:
        validate_email(email)
    except ValidationError as error:
        raise Refused(_("The provider sends no usable e-mail address.")) from error
    if len(email) > MAX_EMAIL:
        raise Refused(_("The provider sends no usable e-mail address."))
    return email


def _enabled(connection_id: uuid.UUID) -> IdentityProvider:
    try:
        found = get_connection(connection_id)
    except NotFound as error:
        raise Refused(error.detail) from error
    if not found.route.enabled:
        raise Refused(_("This single sign-on is turned off."))
    return found.provider


def check_domain(email: str) -> None:
    """Raises Refused for an address in a domain that the active tenant has not proved."""
    domain = domain_of(email)
    if not list_domains().filter(domain=domain, proved_at__isnull=False).exists():
        raise Refused(
            _("The provider says %(email)s, but the workspace has not proved that %(domain)s is its own.")
            % {"email": email, "domain": domain}
        )


def _check_unlinked(provider: IdentityProvider, user: User) -> None:
    """An address that was given to somebody else must not bring the account of whoever had it before."""
    if SignOnIdentity.objects.filter(provider=provider.pk, user=user).exists():
        raise Refused(
            _(
                "The account of %(email)s belongs to a person known to the provider by another id. "
                "An admin of the workspace can remove that member; then the account can join again."
            )
            % {"email": user.email}
        )


def _must_confirm(user: User, provider: IdentityProvider) -> bool:
    rows = Membership.objects.filter(user=user)
    elsewhere = rows.exclude(tenant=provider.tenant_id).exists()
    return user.is_staff or elsewhere or rows.filter(tenant=provider.tenant_id, role="owner").exists()


def role_for(provider: IdentityProvider, person: Person) -> str:
    """The role of the first line that fits, else the default one; empty for no access. Never an owner's."""
    mapped = (line["role"] for line in provider.role_map if line["value"] in person.values)
    role = next(mapped, provider.default_role)
    return role if role in assignable_roles(provider.tenant_id) else ""


def _refusal(provider: IdentityProvider, user: User | None, role: str) -> str:
    """Why the person may not come in; who belonged here by a role that is taken away does so no more."""
    member = _member(provider, user)
    if role or (member is not None and (member.role == "owner" or not provider.sync_roles)):
        return ""
    if member is not None:
        end_membership(member, actor=_label(provider))
    return _("What the provider says about you gives you no role in this workspace. Ask its admins.")


def _member(provider: IdentityProvider, user: User | None) -> Membership | None:
    if user is None:
        return None
    return Membership.objects.select_related("user").filter(tenant=provider.tenant_id, user=user).first()


def _label(provider: IdentityProvider) -> str:
    return f"{SIGN_ON}{provider.name}"[:100]


def _admit(
    provider: IdentityProvider,
    user: User | None,
    known: SignOnIdentity | None,
    person: Person,
    email: str,
    role: str,
) -> User:
    user = user or _new_user(email, person)
    if known is None:
        _link(provider, user, person)
    else:
        SignOnIdentity.objects.filter(pk=known.pk).update(used_at=timezone.now())
        _rename(provider, user, person)
    _give_role(provider, user, role)
    record(actor=str(user.pk), verb="sign_on.entered", target=str(provider.pk), details={"by": provider.name})
    return user


def _new_user(email: str, person: Person) -> User:
    user = User(email=email, name=person.name)
    user.set_unusable_password()
    try:
        with transaction.atomic():
            user.save()
    except IntegrityError as error:
        raise Refused(_("An account for this address was made just now. Try again.")) from error
    return user


def _link(provider: IdentityProvider, user: User, person: Person) -> None:
    SignOnIdentity.objects.create(provider=provider, user=user, subject=person.subject)
    record(actor=str(user.pk), verb="sign_on.linked", target=str(user.pk), details={"by": provider.name})


def _disarm_unowned(user: User) -> None:
    """Whoever made an account that is in no workspace may not have been whose address it has.

    Nothing that opened it does any more.
    """
    if Membership.objects.filter(user=user).exists():
        return
    user.set_unusable_password()
    user.save(update_fields=["password"])
    SecondFactor.objects.filter(user=user).delete()
    RecoveryCode.objects.filter(user=user).delete()
    Passkey.objects.filter(user=user).delete()
    sessions.end_sessions(user=user)


def _rename(provider: IdentityProvider, user: User, person: Person) -> None:
    """Follow the provider's name for somebody whom no other workspace sees."""
    elsewhere = Membership.objects.filter(user=user).exclude(tenant=provider.tenant_id).exists()
    if person.name and person.name != user.name and not elsewhere:
        User.objects.filter(pk=user.pk).update(name=person.name)


def _give_role(provider: IdentityProvider, user: User, role: str) -> None:
    member = _member(provider, user)
    if member is None:
        Membership.objects.create(tenant_id=provider.tenant_id, user=user, role=role)
        details = {"role": role, "by": provider.name}
        record(actor=_label(provider), verb="member.joined", target=str(user.pk), details=details)
    elif provider.sync_roles and member.role not in ("owner", role):
        change_role(actor=Actor(_label(provider), "admin"), user_id=user.pk, role=role)
