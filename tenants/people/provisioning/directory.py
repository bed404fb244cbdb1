"""The people and groups that an identity provider keeps in the active tenant, and what that does to memberships.

A tenant decides about its own membership of a person and about nothing else of them. An account that belongs to other
workspaces, has a password or is an operator's keeps its address and name, whatever the provider says. Deactivation ends
the membership here with the keys and invitations that the person made here; it never ends one elsewhere. Every change
holds the tenant's row (`lock_members`). Actors are `tokens.Bearer.actor`: an admin's reach, so owners keep their role;
only the membership of an owner who is not the last can be ended.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import sessions
from tenants.accounts.models import Invitation, Membership, SignOnDomain, User
from tenants.accounts.permissions import Actor, may_manage
from tenants.accounts.roles import is_known, strongest
from tenants.accounts.services import lock_members
from tenants.accounts.sign_on import domain_of
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound
from tenants.events.services import record
from tenants.people import members
from tenants.people.models import ProvisionedGroup, ProvisionedMember, ProvisionedUser, ProvisioningSettings
from tenants.scope import current_tenant_id, tenant_scope

MAX_TEXT = 254
MAX_EMAILS = 10
MAX_GROUPS = 5_000
MAX_MEMBERS = 10_000
MAX_MAPPINGS = 100
# Rows of one statement.
CHUNK = 1_000
_SETTINGS = Actor("scim:settings", "admin")


@dataclass(frozen=True)
class Person:
    """A user as the provider describes them."""

    user_name: str
    external_id: str = ""
    display_name: str = ""
    formatted_name: str = ""
    given_name: str = ""
    family_name: str = ""
    # As sent: {"value", "type", "primary"}.
    emails: tuple[dict[str, object], ...] = ()
    active: bool = True

    @property
    def address(self) -> str:
        """With which they sign in: the primary address, else the first, else the user name."""
        listed = sorted(self.emails, key=lambda email: not email.get("primary"))
        return User.objects.normalize_email(str(listed[0]["value"]) if listed else self.user_name)

    @property
    def name(self) -> str:
        plain = f"{self.given_name} {self.family_name}".strip()
        return (self.display_name or self.formatted_name or plain)[:150]


# --- Reading ---


def list_people() -> QuerySet:
    """All members and whoever was deactivated, oldest first, each with `active`."""
    _adopt_members()
    mine = Membership.objects.filter(tenant=current_tenant_id(), user=OuterRef("user"))
    return ProvisionedUser.objects.annotate(active=Exists(mine)).order_by("id")


def get_person(person_id: uuid.UUID | None) -> ProvisionedUser:
    """Raises NotFound."""
    mine = Membership.objects.filter(tenant=current_tenant_id(), user=OuterRef("user"))
    rows = ProvisionedUser.objects.annotate(active=Exists(mine)).select_related("user")
    row = rows.filter(pk=person_id).first()
    if row is None:
        raise NotFound(_("This user does not exist."))
    return row


def list_groups() -> QuerySet:
    return ProvisionedGroup.objects.order_by("id")


def get_group(group_id: uuid.UUID | None) -> ProvisionedGroup:
    """Raises NotFound."""
    row = ProvisionedGroup.objects.filter(pk=group_id).first()
    if row is None:
        raise NotFound(_("This group does not exist."))
    return row


def was_deactivated(user: User) -> bool:
    """Whether the provider has deactivated this person in the active tenant: no other way may let them back in."""
    known = ProvisionedUser.objects.filter(user=user).exclude(former_role="").exists()
    return known and not Membership.objects.filter(tenant=current_tenant_id(), user=user).exists()


def _adopt_members() -> None:
    """Give members that came in other ways their place in the directory, so that a provider finds them by name."""
    known = ProvisionedUser.objects.filter(user=OuterRef("user"))
    missing = Membership.objects.filter(~Exists(known), tenant=current_tenant_id()).select_related("user")
    ProvisionedUser.objects.bulk_create(
        [
            ProvisionedUser(
                user=member.user,
                user_name=member.user.email,
                user_name_key=member.user.email,
                display_name=member.user.name,
                address=member.user.email,
                emails=[{"value": member.user.email, "type": "work", "primary": True}],
            )
            for member in missing
        ],
        ignore_conflicts=True,
    )


# --- People ---


def create_person(*, actor: Actor, person: Person) -> ProvisionedUser:
    """A member of the tenant without a password, who signs in by single sign-on.

    Raises Invalid, Conflict for a user name or person that is known here, NotAllowed for an address in a domain that
    the tenant has not proved, or of somebody whom another workspace has.
    """
    _check_person(person)
    with tenant_scope(current_tenant_id()):
        lock_members()
        _adopt_members()
        user = _account(person)
        known = ProvisionedUser.objects.filter(user=user).exists()
        if known or ProvisionedUser.objects.filter(user_name_key=person.user_name.lower()).exists():
            raise Conflict(_("A user with this name or address exists already."))
        row = ProvisionedUser(user=user, address=user.email)
        _describe(row, person)
        record(actor=actor.label, verb="member.provisioned", target=str(user.pk))
        if person.active:
            _activate(actor, row)
        return get_person(row.pk)


def replace_person(*, actor: Actor, person_id: uuid.UUID, person: Person) -> ProvisionedUser:
    """Let a person be described so. Safe to repeat.

    Raises NotFound, Invalid, NotAllowed for a new address in a domain that the tenant has not proved, Conflict for
    another's user name, for the last owner, or for an account whose address changed while the person was not active.
    """
    _check_person(person)
    with tenant_scope(current_tenant_id()):
        lock_members()
        row = get_person(person_id)
        others = ProvisionedUser.objects.filter(user_name_key=person.user_name.lower()).exclude(pk=row.pk)
        if others.exists():
            raise Conflict(_("A user with this name or address exists already."))
        was_active: bool = row.active  # type: ignore[attr-defined]  # annotated
        _describe(row, person)
        if was_active or person.active:
            _update_account(row, person)
        if person.active and not was_active:
            _activate(actor, row)
        elif was_active and not person.active:
            _deactivate(actor, row)
        return get_person(row.pk)


def delete_person(*, actor: Actor, person_id: uuid.UUID) -> None:
    """Deactivate a person and forget what the provider said of them; their account stays theirs.

    Raises NotFound, Conflict for the last owner.
    """
    with tenant_scope(current_tenant_id()):
        lock_members()
        row = get_person(person_id)
        _deactivate(actor, row)
        record(actor=actor.label, verb="member.unprovisioned", target=str(row.user_id))
        row.delete()


def _check_person(person: Person) -> None:
    texts = {
        "userName": person.user_name,
        "externalId": person.external_id,
        "displayName": person.display_name,
        "name.formatted": person.formatted_name,
        "name.givenName": person.given_name,
        "name.familyName": person.family_name,
    }
    for name, value in texts.items():
        if len(value) > MAX_TEXT:
            raise Invalid(
                _("%(name)s has at most %(most)s characters.") % {"name": name, "most": MAX_TEXT},
                pointer=name,
            )
    if not person.user_name.strip():
        raise Invalid(_("userName is needed."), pointer="userName")
    if len(person.emails) > MAX_EMAILS:
        raise Invalid(_("A user has at most %(most)s addresses.") % {"most": MAX_EMAILS}, pointer="emails")
    _check_address(person.address)


def _check_address(address: str) -> None:
    try:
        validate_email(address)
    except ValidationError as error:
        detail = _("userName, or the primary address in emails, has to be an e-mail address.")
        raise Invalid(detail, pointer="emails") from error
    if len(address) > MAX_TEXT:
        raise Invalid(
            _("An e-mail address has at most %(email)s characters.") % {"email": MAX_TEXT}, pointer="emails"
        )


def _describe(row: ProvisionedUser, person: Person) -> None:
    row.user_name, row.user_name_key = person.user_name, person.user_name.lower()
    row.external_id, row.display_name = person.external_id, person.display_name
    row.formatted_name = person.formatted_name
    row.given_name, row.family_name = person.given_name, person.family_name
    row.emails = list(person.emails)
    row.save()


def _account(person: Person) -> User:
    """The account of a new person, made where there is none."""
    address = person.address
    user = User.objects.filter(email=address).first()
    if user is not None and ProvisionedUser.objects.filter(user=user).exists():
        return user
    _check_domain(address)
    if user is not None and not may_provision(user):
        raise NotAllowed(
            _("This address belongs to another workspace. Its person can be invited, and decides about it.")
        )
    if user is not None:
        return user
    try:
        with transaction.atomic():
            return User.objects.create_user(address, None, name=person.name)
    except IntegrityError as error:
        raise Conflict(_("A user with this name or address exists already.")) from error


def _check_domain(address: str) -> None:
    """Raises NotAllowed for an address in a domain that the active tenant has not proved to be its own."""
    domain = domain_of(address)
    mine = SignOnDomain.objects.filter(tenant=current_tenant_id(), domain=domain, proved_at__isnull=False)
    if not mine.exists():
        raise NotAllowed(
            _(
                "This workspace has not proved that %(domain)s is its own. Prove it under Security, Single sign-on, "
                "or invite the person."
            )
            % {"domain": domain}
        )


def may_provision(user: User) -> bool:
    """Whether the active tenant may make this account a member without asking the person: only one that no other
    workspace has, and no operator's."""
    elsewhere = user.memberships.exclude(tenant=current_tenant_id()).exists()
    return not (elsewhere or user.is_staff)


def _is_provisioned_only(user: User) -> bool:
    """Whether the account is nothing but what this tenant's provider made of it."""
    elsewhere = user.memberships.exclude(tenant=current_tenant_id()).exists()
    return not (elsewhere or user.is_staff or user.has_usable_password())


def _update_account(row: ProvisionedUser, person: Person) -> None:
    """Address and name of an account that is only this tenant's; every other one is left as it is."""
    user = row.user
    if row.address != user.email or not _is_provisioned_only(user):
        return
    if person.name and person.name != user.name:
        user.name = person.name
        user.save(update_fields=["name"])
    address = person.address
    if address == user.email:
        return
    _check_domain(address)
    if User.objects.filter(email=address).exists():
        raise Conflict(_("This address is another account's."))
    user.email = row.address = address
    user.save(update_fields=["email"])
    row.save(update_fields=["address"])
    # Who opened them proved another address.
    sessions.end_sessions(user=user)


def _activate(actor: Actor, row: ProvisionedUser) -> None:
    user = row.user
    if user.email != row.address or not user.is_active:
        raise Conflict(
            _("The account of this person has changed since. Remove the user, and invite the person.")
        )
    by_group = _roles_by_group([row]).get(row.pk, "")
    role = by_group or row.former_role
    if not is_known(role):
        role = settings().default_role
    Membership.objects.get_or_create(tenant_id=current_tenant_id(), user=user, defaults={"role": role})
    row.former_role, row.by_group = "", bool(by_group)
    row.save(update_fields=["former_role", "by_group", "changed_at"])
    record(actor=actor.label, verb="member.activated", target=str(user.pk), details={"role": role})


def _deactivate(actor: Actor, row: ProvisionedUser) -> None:
    """End the membership with what the person made here, and what could bring them back."""
    member = (
        Membership.objects.select_related("user").filter(tenant=current_tenant_id(), user=row.user_id).first()
    )
    if member is None:
        return
    if member.role == "owner":
        members.keep_an_owner(member)
    # A provider never makes owners, not even again.
    row.former_role = "admin" if member.role == "owner" else member.role
    row.save(update_fields=["former_role", "changed_at"])
    members.end_membership(member, actor=actor.label)
    waiting = Invitation.objects.filter(tenant=current_tenant_id(), email=member.user.email, accepted_at=None)
    waiting.filter(revoked_at=None).update(revoked_at=timezone.now())
    if not member.user.is_staff and not member.user.memberships.exists():
        sessions.end_sessions(user=member.user)


# --- Groups ---


def create_group(
    *, actor: Actor, display_name: str, external_id: str = "", people: Collection[str] = ()
) -> ProvisionedGroup:
    """Raises Invalid, Conflict for a name that another group has."""
    with tenant_scope(current_tenant_id()):
        lock_members()
        _check_group(display_name, external_id, None)
        if ProvisionedGroup.objects.count() >= MAX_GROUPS:
            raise Conflict(_("There are %(most)s groups already.") % {"most": MAX_GROUPS})
        row = ProvisionedGroup.objects.create(
            display_name=display_name, display_name_key=display_name.lower(), external_id=external_id
        )
        record(
            actor=actor.label, verb="group.provisioned", target=str(row.pk), details={"name": display_name}
        )
        _add(row, people)
        _check_size(row)
        _apply_roles(actor, _people_of(row))
    return row


@dataclass(frozen=True)
class MemberChange:
    """One change of who is in a group: `how` is "add", "remove" or "replace"; ids as the provider sent them."""

    how: str
    people: tuple[str, ...]


def change_group(
    *,
    actor: Actor,
    group_id: uuid.UUID,
    display_name: str | None = None,
    external_id: str | None = None,
    changes: Iterable[MemberChange] = (),
) -> ProvisionedGroup:
    """Another name, or other people, in this order. Safe to repeat. Raises NotFound, Invalid, Conflict."""
    with tenant_scope(current_tenant_id()):
        lock_members()
        row = get_group(group_id)
        affected = set(_people_of(row))
        _check_group(
            row.display_name if display_name is None else display_name,
            row.external_id if external_id is None else external_id,
            row.pk,
        )
        if display_name is not None:
            row.display_name, row.display_name_key = display_name, display_name.lower()
        if external_id is not None:
            row.external_id = external_id
        row.save()
        for change in changes:
            _change_members(row, change)
        _check_size(row)
        _apply_roles(actor, affected | set(_people_of(row)))
    return row


def delete_group(*, actor: Actor, group_id: uuid.UUID) -> None:
    """Raises NotFound."""
    with tenant_scope(current_tenant_id()):
        lock_members()
        row = get_group(group_id)
        affected = _people_of(row)
        record(actor=actor.label, verb="group.unprovisioned", target=str(row.pk))
        row.delete()
        _apply_roles(actor, affected)


def _check_group(display_name: str, external_id: str, own: uuid.UUID | None) -> None:
    for name, value in (("displayName", display_name), ("externalId", external_id)):
        if len(value) > MAX_TEXT:
            raise Invalid(
                _("%(name)s has at most %(most)s characters.") % {"name": name, "most": MAX_TEXT},
                pointer=name,
            )
    if not display_name.strip():
        raise Invalid(_("displayName is needed."), pointer="displayName")
    if ProvisionedGroup.objects.filter(display_name_key=display_name.lower()).exclude(pk=own).exists():
        raise Conflict(_("A group with this name exists already."))


def _check_size(row: ProvisionedGroup) -> None:
    if row.members.count() > MAX_MEMBERS:
        raise Invalid(_("A group has at most %(most)s members.") % {"most": MAX_MEMBERS}, pointer="members")


def _people_of(row: ProvisionedGroup) -> list[uuid.UUID]:
    return list(ProvisionedMember.objects.filter(group=row).values_list("person_id", flat=True))


def _change_members(row: ProvisionedGroup, change: MemberChange) -> None:
    if change.how == "replace":
        row.members.all().delete()
    if change.how == "remove":
        ids = [one for one in map(_read_id, change.people) if one is not None]
        for start in range(0, len(ids), CHUNK):
            ProvisionedMember.objects.filter(group=row, person__in=ids[start : start + CHUNK]).delete()
    else:
        _add(row, change.people)


def _add(row: ProvisionedGroup, people: Collection[str]) -> None:
    wanted = {one: _read_id(one) for one in people}
    if len(wanted) > MAX_MEMBERS:
        raise Invalid(_("A group has at most %(most)s members.") % {"most": MAX_MEMBERS}, pointer="members")
    ids = [one for one in wanted.values() if one is not None]
    known = set(ProvisionedUser.objects.filter(pk__in=ids).values_list("pk", flat=True))
    for given, person_id in wanted.items():
        if person_id not in known:
            raise Invalid(_("Unknown user %(id)s.") % {"id": given[:40]}, pointer="members")
    ProvisionedMember.objects.bulk_create(
        [ProvisionedMember(group=row, person_id=one) for one in known],
        batch_size=CHUNK,
        ignore_conflicts=True,
    )


def _read_id(given: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(given)
    except ValueError:
        return None


# --- Groups to roles ---


def settings() -> ProvisioningSettings:
    """The active tenant's, or what holds where it has set none."""
    return ProvisioningSettings.objects.first() or ProvisioningSettings()


def change_settings(
    *, actor: Actor, default_role: str, group_roles: list[dict[str, str]]
) -> ProvisioningSettings:
    """Set which roles provisioned people get, and give them to those who are in groups. Raises Invalid, NotAllowed."""
    named = {one["group"].strip().lower(): one for one in group_roles}
    if len(group_roles) > MAX_MAPPINGS or len(named) != len(group_roles) or "" in named:
        detail = _("Name each group once, and at most %(most)s of them.") % {"most": MAX_MAPPINGS}
        raise Invalid(detail, pointer="/group_roles")
    with tenant_scope(current_tenant_id()):
        lock_members()
        for role in (default_role, *(one["role"] for one in group_roles)):
            _check_role(actor, role)
        row = ProvisioningSettings.objects.first() or ProvisioningSettings()
        row.default_role = default_role
        row.group_roles = [{"group": one["group"].strip(), "role": one["role"]} for one in group_roles]
        row.save()
        details = {"default_role": default_role, "group_roles": row.group_roles}
        record(actor=actor.label, verb="provisioning.settings_changed", details=details)
        # Not as the person, whose own role may change among these.
        _apply_roles(_SETTINGS, ProvisionedMember.objects.values_list("person_id", flat=True).distinct())
    return row


def _check_role(actor: Actor, role: str) -> None:
    if role == "owner":
        raise Invalid(_("An identity provider cannot make owners."), pointer="/group_roles")
    members.check_role(role)
    if not may_manage(members.role_now(actor), role):
        raise NotAllowed(_("Your role cannot make someone %(role)s.") % {"role": role})


def _roles_by_group(rows: Collection[ProvisionedUser]) -> dict[uuid.UUID, str]:
    """Of people in groups that have a role, the most powerful one."""
    wanted = {one["group"].lower(): one["role"] for one in settings().group_roles}
    found: dict[uuid.UUID, set[str]] = {}
    if wanted:
        places = ProvisionedMember.objects.filter(
            person__in=[row.pk for row in rows], group__display_name_key__in=list(wanted)
        )
        for person_id, group in places.values_list("person_id", "group__display_name_key"):
            found.setdefault(person_id, set()).add(wanted[group])
    return {person_id: strongest(roles) for person_id, roles in found.items()}


def _apply_roles(actor: Actor, people: Iterable[uuid.UUID]) -> None:
    """Give members the role of their groups; those who left the last such group get the default one. Owners stay."""
    ids = list(people)
    default = settings().default_role
    for start in range(0, len(ids), CHUNK):
        rows = list(ProvisionedUser.objects.filter(pk__in=ids[start : start + CHUNK]))
        roles = _roles_by_group(rows)
        held = dict(
            Membership.objects.filter(tenant=current_tenant_id(), user__in=[row.user_id for row in rows])
            .exclude(role="owner")
            .values_list("user_id", "role")
        )
        for row in rows:
            role = roles.get(row.pk) or (default if row.by_group else "")
            if row.user_id in held and role:
                _give(actor, row, role, held[row.user_id], by_group=row.pk in roles)


def _give(actor: Actor, row: ProvisionedUser, role: str, held: str, *, by_group: bool) -> None:
    if role != held:
        members.change_role(actor=actor, user_id=row.user_id, role=role)
    if row.by_group != by_group:
        row.by_group = by_group
        row.save(update_fields=["by_group"])
