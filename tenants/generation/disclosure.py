"""Whether what a tenant generates carries an icon that people see, and a notice that they hear before sound.

The installation says `off`, `on`, or `enforced`; unless it enforces, a tenant may choose otherwise. What they look and
sound like is the installation's alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from django.conf import settings
from django.utils.translation import gettext as _

from tenants.accounts.models import Tenant
from tenants.errors import Invalid
from tenants.events.services import record
from tenants.generation import shapes
from tenants.scope import current_tenant_id, tenant_scope

if TYPE_CHECKING:
    from ml.provenance import Icon, Notice

ON, ENFORCED = "on", "enforced"
#: By name, the tenant's column.
COLUMNS = {"icon": "generated_icon", "notice": "generated_notice"}


class Changes(TypedDict, total=False):
    """What is absent stays. None: as the installation has it."""

    icon: bool | None
    notice: bool | None


@dataclass(frozen=True)
class Mark:
    """`installation`: off, on or enforced. `chosen`: by the tenant; None: nothing."""

    installation: str
    chosen: bool | None

    @property
    def is_enforced(self) -> bool:
        return self.installation == ENFORCED

    @property
    def in_force(self) -> bool:
        default = self.installation in (ON, ENFORCED)
        return default if self.is_enforced or self.chosen is None else self.chosen


@dataclass(frozen=True)
class Disclosure:
    icon: Mark
    notice: Mark

    def shape(self) -> shapes.Disclosure:
        return shapes.Disclosure(
            **{
                name: shapes.DisclosureMark(
                    installation=mark.installation, chosen=mark.chosen, in_force=mark.in_force
                )
                for name, mark in (("icon", self.icon), ("notice", self.notice))
            }
        )


def disclosure_of(tenant: Tenant) -> Disclosure:
    said = {"icon": settings.GENERATION_ICON, "notice": settings.GENERATION_NOTICE}
    return Disclosure(**{name: Mark(said[name], getattr(tenant, column)) for name, column in COLUMNS.items()})


def get_disclosure() -> Disclosure:
    """The active tenant's."""
    return disclosure_of(Tenant.objects.get(pk=current_tenant_id()))


def change_disclosure(*, actor: str, changes: Changes) -> Disclosure:
    """Choose for the active tenant; files that were made stay as they are. Raises Invalid for what the operator
    enforces."""
    with tenant_scope(current_tenant_id()):
        tenant = Tenant.objects.select_for_update(of=("self",)).get(pk=current_tenant_id())
        kept = disclosure_of(tenant)
        changed: dict[str, Any] = {}
        for name, wanted in cast("dict[str, bool | None]", changes).items():
            mark: Mark = getattr(kept, name)
            if wanted is False and mark.is_enforced:
                raise Invalid(
                    _("Enforced by the operator of this installation; it cannot be turned off here."),
                    pointer=f"/{name}",
                )
            if wanted is not mark.chosen:
                changed[name] = [mark.chosen, wanted]
                setattr(tenant, COLUMNS[name], wanted)
        if changed:
            tenant.save(update_fields=[COLUMNS[name] for name in changed])
            record(actor=actor, verb="generation.disclosure_changed", details=changed)
        return disclosure_of(tenant)


# --- What they look and sound like -----------------------------------------------------------------------


def icon() -> Icon:
    """As the installation's settings say. Raises ValueError, in words for its operator."""
    from ml.provenance import icon_of

    image = settings.GENERATION_ICON_FILE
    return icon_of(
        settings.GENERATION_ICON_TEXT,
        settings.GENERATION_ICON_CORNER,
        settings.GENERATION_ICON_SIZE,
        Path(image) if image else None,
    )


def notice() -> Notice:
    """The same of the recording. Raises ValueError."""
    from ml.provenance import notice_of

    return notice_of(Path(settings.GENERATION_NOTICE_FILE) if settings.GENERATION_NOTICE_FILE else None)
