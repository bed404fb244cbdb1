"""Feature flags: parts of the product that an operator turns on for everybody, for some tenants, or for nobody.

A flag is declared here, with what it does and what holds where nobody set it. How it is set is in the database, read at
most every CACHE_S seconds in each process. A share of the tenants is always the same ones: they are picked by a hash of
their id, and a larger share holds all of a smaller one.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from tenants.accounts.models import FeatureFlag, FlagTenant, Tenant
from tenants.accounts.operators import Operator, record_act
from tenants.errors import Invalid, NotFound

CACHE_S = 5.0
ACTING = "acting-as"
State = FeatureFlag.State


@dataclass(frozen=True)
class Flag:
    name: str
    description: Any
    default: bool


FLAGS: dict[str, Flag] = {
    flag.name: flag
    for flag in (
        Flag("umap-maps", _("Maps of datasets by UMAP, a job that takes minutes of CPU time."), default=True),
        Flag(ACTING, _("Operators may act as this tenant, for a while and with a reason."), default=True),
    )
}


@dataclass(frozen=True)
class Setting:
    """How a flag is set: `share` in percent of all tenants, besides those that are `chosen`."""

    state: str
    share: int = 0
    chosen: frozenset[uuid.UUID] = frozenset()

    def holds_for(self, flag: str, tenant_id: uuid.UUID) -> bool:
        if self.state != State.SOME:
            return self.state == State.ON
        return tenant_id in self.chosen or _percentile(flag, tenant_id) < self.share


def enabled(flag: str, tenant_id: uuid.UUID | str) -> bool:
    """Whether a tenant has this flag. A name that is not declared is an error of whoever asks."""
    declared, setting = FLAGS[flag], _cached().get(flag)
    if setting is None:
        return declared.default
    return setting.holds_for(flag, tenant_id if isinstance(tenant_id, uuid.UUID) else uuid.UUID(tenant_id))


def _percentile(flag: str, tenant_id: uuid.UUID) -> int:
    """0 to 99; another one for each flag, so that not the same tenants try everything first."""
    digest = hashlib.sha256(f"{flag}:{tenant_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100


# Until when it counts, and the settings. Reading and replacing the pair is atomic.
_known: tuple[float, dict[str, Setting]] = (0.0, {})


def _cached() -> dict[str, Setting]:
    global _known
    until, found = _known
    if time.monotonic() >= until:
        found = settings()
        _known = (time.monotonic() + CACHE_S, found)
    return found


def settings() -> dict[str, Setting]:
    """How every flag is set that is not left at its default, as the database has it now."""
    rows = list(FeatureFlag.objects.prefetch_related("chosen"))
    return {
        row.name: Setting(row.state, row.share, frozenset(one.tenant_id for one in row.chosen.all()))
        for row in rows
    }


@transaction.atomic
def set_flag(
    *, by: Operator, name: str, state: str, share: int = 0, slugs: Iterable[str] = (), reason: str = ""
) -> None:
    """Set a flag. Raises NotFound for one that is not declared, Invalid for another state, share or tenant."""
    _check(name, state, share)
    wanted = {slug for slug in slugs if slug}
    tenants = list(Tenant.objects.filter(slug__in=wanted))
    if missing := wanted - {tenant.slug for tenant in tenants}:
        raise Invalid(
            gettext("Unknown tenant %(names)s.") % {"names": ", ".join(sorted(missing))},
            pointer="/tenants",
        )
    flag, _created = FeatureFlag.objects.update_or_create(
        name=name, defaults={"state": state, "share": share}
    )
    flag.chosen.all().delete()
    FlagTenant.objects.bulk_create(FlagTenant(flag=flag, tenant=tenant) for tenant in tenants)
    details = {"state": state, "share": share, "tenants": sorted(wanted)}
    record_act(by=by, verb="flag.set", target=name, reason=reason, details=details)
    transaction.on_commit(forget)


@transaction.atomic
def reset_flag(*, by: Operator, name: str) -> None:
    """Leave a flag at its default again. Raises NotFound for one that is not declared."""
    if name not in FLAGS:
        raise NotFound(gettext("This flag does not exist."))
    FeatureFlag.objects.filter(name=name).delete()
    record_act(by=by, verb="flag.reset", target=name)
    transaction.on_commit(forget)


def _check(name: str, state: str, share: int) -> None:
    if name not in FLAGS:
        raise NotFound(gettext("This flag does not exist."))
    if state not in State.values:
        raise Invalid(
            gettext("Choose a state from %(names)s.") % {"names": ", ".join(State.values)}, pointer="/state"
        )
    if not 0 <= share <= 100:
        raise Invalid(gettext("A share is 0 to 100 percent."), pointer="/share")


def forget() -> None:
    """Have this process ask the database at the next question; others do within CACHE_S seconds."""
    global _known
    _known = (0.0, {})
