"""Keys, people and usage as the API shows them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated

from tenants.accounts.permissions import SCOPES
from tenants.shapes import Choices, Doc, Shape


class Key(Shape, kw_only=True):
    id: str
    name: str
    prefix: str
    scopes: list[Annotated[str, Choices(SCOPES)]]
    created_at: dt.datetime
    expires_at: dt.datetime | None
    last_used_at: Annotated[dt.datetime | None, Doc("To the minute.")]
    last_address: Annotated[str | None, Doc("From where it was used last.")]
    networks: Annotated[list[str], Doc("From where it may be used; empty: from where its tenant may.")]
    rate_per_minute: Annotated[int | None, Doc("Of this key alone; null: as its tenant may.")]
    revoked_at: dt.datetime | None


class NewKey(Key, kw_only=True):
    token: Annotated[str | None, Doc("Shown once; null in a replayed answer.")]


class Member(Shape, kw_only=True):
    id: str
    email: str
    name: str
    role: Annotated[str, Doc("Built in (owner, admin, editor, reviewer, viewer), or one of `/roles`.")]
    second_factor: bool
    since: dt.datetime
    datasets: Annotated[list[str] | None, Doc("The datasets that they see; null: all.")]
    queues: Annotated[list[str] | None, Doc("The review queues that they see; null: all.")]


class Invitation(Shape, kw_only=True):
    id: str
    email: str
    role: Annotated[str, Doc("Built in (owner, admin, editor, reviewer, viewer), or one of `/roles`.")]
    created_at: dt.datetime
    expires_at: dt.datetime
    mailed_at: dt.datetime | None
    datasets: Annotated[list[str] | None, Doc("The datasets that they will see; null: all.")]
    queues: Annotated[list[str] | None, Doc("The review queues that they will see; null: all.")]


class NewInvitation(Invitation, kw_only=True):
    link: Annotated[str | None, Doc("Shown once; null where it was mailed, and in a replayed answer.")]


class OfferedPlan(Shape, kw_only=True):
    slug: str
    name: str
    limits: Annotated[
        Mapping[str, float], Doc("The ceilings of its resources; what is not named is not limited.")
    ]


class PlanRequest(Shape, kw_only=True):
    id: str
    state: Annotated[str, Choices(("open", "granted", "declined", "withdrawn"))]
    plan: Annotated[str | None, Doc("The slug of the plan that is asked for.")]
    resource: Annotated[str | None, Doc("Of what there should be more.")]
    amount: Annotated[float | None, Doc("How much of it in all.")]
    note: str
    asked_by: Annotated[str | None, Doc("The e-mail address of the member; null once they are gone.")]
    answer: Annotated[str | None, Doc("The operator's words.")]
    created_at: dt.datetime
    answered_at: Annotated[dt.datetime | None, Doc("When it was granted, declined or withdrawn.")]


class SessionLimits(Shape, kw_only=True):
    idle_minutes: int
    max_minutes: int


class Security(Shape, kw_only=True):
    session_idle_minutes: Annotated[int | None, Doc("Null: as the installation has it.")]
    session_max_minutes: Annotated[int | None, Doc("Null: as the installation has it.")]
    allowed_networks: Annotated[list[str], Doc("From where people and keys come in; empty: from anywhere.")]
    sessions: Annotated[SessionLimits, Doc("What is in force: the stricter of the installation's and these.")]


class OperatorRequest(Shape, kw_only=True):
    id: str
    operator: Annotated[str, Doc("The operator's e-mail address.")]
    access: Annotated[str, Choices(("read", "full")), Doc("`read`: look only; `full`: look and change.")]
    reason: str
    minutes: int
    state: Annotated[str, Choices(("pending", "approved", "denied", "revoked", "expired"))]
    until: Annotated[dt.datetime, Doc("Until when it can be answered; once approved, until when it holds.")]
    created_at: dt.datetime


class Role(Shape, kw_only=True):
    name: str
    description: Annotated[str, Doc("Empty for built-in ones.")]
    scopes: list[Annotated[str, Choices(SCOPES)]]
    built_in: Annotated[bool, Doc("Whether every tenant has it; such a role cannot be changed.")]


class UsageDay(Shape, kw_only=True):
    day: dt.date
    kind: str
    amount: float


class TenantName(Shape, kw_only=True):
    id: str
    slug: str
    name: str


class PlanName(Shape, kw_only=True):
    slug: str
    name: str
    rate_per_minute: int | None
    trial_ends_at: Annotated[
        dt.datetime | None,
        Doc("When a trial ends; from then on the workspace may only be read. Null: no end."),
    ]
    read_only: Annotated[bool, Doc("Whether it has ended: what would add something answers `trial-ended`.")]


class KeyName(Shape, kw_only=True):
    id: str
    prefix: str


class Quota(Shape, kw_only=True):
    used: float
    reserved: float
    limit: Annotated[float | None, Doc("Null: unlimited.")]


class Quotas(Shape, kw_only=True):
    requests: Quota
    assets: Quota
    bytes: Quota
    vectors: Quota
    generations: Quota
    cpu_s: Quota
    gpu_s: Quota


class Me(Shape, kw_only=True):
    key: KeyName
    scopes: list[Annotated[str, Choices(SCOPES)]]
    tenant: TenantName
    plan: PlanName
    malware_scan: Annotated[str, Choices(("off", "on", "unreachable"))]
    quotas: Quotas


class GroupRole(Shape, kw_only=True):
    group: Annotated[str, Doc("The name of a group at the identity provider.")]
    role: str


class ProvisioningSettings(Shape, kw_only=True):
    default_role: Annotated[str, Doc("Of people in no group that has a role.")]
    group_roles: list[GroupRole]


class ProvisioningToken(Shape, kw_only=True):
    prefix: Annotated[str, Doc("The beginning of the token, which names it.")]
    name: str
    created_at: dt.datetime
    expires_at: dt.datetime | None
    last_used_at: dt.datetime | None
    revoked_at: dt.datetime | None
    maker_left: Annotated[bool, Doc("Whoever made it is no admin here any more, and may know it.")]


class NewProvisioningToken(ProvisioningToken, kw_only=True):
    token: Annotated[str | None, Doc("Shown once; null in a replayed answer.")]
