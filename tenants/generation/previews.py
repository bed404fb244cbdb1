"""What a generation under way looks like: the newest picture, for a short time, in Valkey."""

from __future__ import annotations

import uuid
from contextlib import suppress

from tenants.valkey import Unavailable, client, tenant_key

KEPT_S = 300


def keep(tenant_id: uuid.UUID, generation_id: uuid.UUID, png: bytes) -> None:
    """With Valkey away nobody sees how it goes, and it goes on."""
    with suppress(Unavailable):
        client().set(_key(tenant_id, generation_id), png, ex=KEPT_S)


def newest(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> bytes | None:
    """A PNG, or None where there is none yet or any more."""
    try:
        return client().get(_key(tenant_id, generation_id))
    except Unavailable:
        return None


def drop(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> None:
    with suppress(Unavailable):
        client().delete(_key(tenant_id, generation_id))


def _key(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> str:
    return tenant_key(tenant_id, "generation", str(generation_id), "preview")
