"""Sealing anew what lies under a former key: every column that holds something sealed, row by row.

Readers go on meanwhile, as former keys still open. A killed run is taken up by the next one: what is under the key of
now is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import models, transaction

from tenants.accounts import installation_secrets, second_factor, vault
from tenants.accounts.models import IdentityProvider, InstallationSecret, SecondFactor, Tenant
from tenants.accounts.vault import InvalidToken
from tenants.datasets.models import Import, StreamSource
from tenants.events import signing
from tenants.events.models import Webhook
from tenants.people.sign_on import connections
from tenants.pipeline.streams import sources
from tenants.pipeline.transfer import import_sources
from tenants.scope import TenantModel, tenant_scope

Say = Callable[[str], None]


@dataclass(frozen=True)
class SealedColumn:
    """A column with sealed bytes; `purpose` is what they were sealed for."""

    model: type[models.Model]
    column: str
    purpose: Callable[[Any], bytes]


#: Every one there is: tests/tenants/test_rotate_keys.py compares it with the models.
COLUMNS = (
    SealedColumn(Webhook, "sealed_secret", lambda row: signing.PURPOSE),
    SealedColumn(Webhook, "sealed_previous", lambda row: signing.PURPOSE),
    SealedColumn(Import, "secret", lambda row: import_sources.PURPOSE),
    SealedColumn(StreamSource, "secret", lambda row: sources.PURPOSE),
    SealedColumn(IdentityProvider, "sealed_secret", lambda row: connections.purpose_of(row.tenant_id)),
    SealedColumn(SecondFactor, "sealed_secret", lambda row: second_factor.PURPOSE),
    SealedColumn(InstallationSecret, "content", lambda row: str(row.pk).encode()),
)


@dataclass
class Resealed:
    """How many values were looked at, sealed anew, left under a former key (a dry run), and could not be opened."""

    seen: int = 0
    done: int = 0
    left: int = 0
    unreadable: int = 0


def reseal(owner: UUID | None, *, dry_run: bool = False) -> Resealed:
    """Everything of a tenant, or of the installation (None). Raises KeysUnavailable, KeyMissing."""
    counted = Resealed()
    for sealed in COLUMNS:
        with _scope(sealed, owner):
            found = list(_rows(sealed, owner))
        for key in found:
            with _scope(sealed, owner), transaction.atomic():
                _reseal_row(sealed, key, owner, counted, dry_run)
    return counted


def _scope(sealed: SealedColumn, owner: UUID | None) -> AbstractContextManager[None]:
    return tenant_scope(owner) if owner and issubclass(sealed.model, TenantModel) else nullcontext()


def _rows(sealed: SealedColumn, owner: UUID | None) -> Iterator[object]:
    if issubclass(sealed.model, TenantModel):
        rows = sealed.model.objects.exclude(**{sealed.column: None}) if owner else None
    elif sealed.model is InstallationSecret:
        rows = InstallationSecret.objects.exclude(key_id="")
        rows = rows.filter(tenant_id=owner) if owner else rows.filter(tenant=None)
    else:
        rows = None if owner else sealed.model._default_manager.all()
    yield from () if rows is None else rows.order_by("pk").values_list("pk", flat=True)


def _reseal_row(
    sealed: SealedColumn, key: object, owner: UUID | None, counted: Resealed, dry_run: bool
) -> None:
    row = sealed.model._default_manager.select_for_update().filter(pk=key).first()
    held = getattr(row, sealed.column) if row else None
    if row is None or held is None:
        return
    counted.seen += 1
    if vault.is_current(bytes(held), owner):
        return
    purpose = sealed.purpose(row)
    try:
        content = vault.unseal(bytes(held), purpose=purpose, owner=owner)
    except InvalidToken:
        counted.unreadable += 1
        return
    if dry_run:
        counted.left += 1
        return
    fresh = vault.seal(content, purpose=purpose, owner=owner)
    changed: dict[str, object] = {sealed.column: fresh}
    if isinstance(row, InstallationSecret):
        changed["key_id"] = installation_secrets.short_id(fresh)
    sealed.model._default_manager.filter(pk=key).update(**changed)
    counted.done += 1


def every_owner() -> list[UUID | None]:
    """All tenants, and the installation first."""
    return [None, *Tenant.objects.order_by("pk").values_list("pk", flat=True)]
