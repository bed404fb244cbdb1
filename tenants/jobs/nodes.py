"""The hosts of this installation: each a data directory, whose files are a cache of what the storage and Postgres hold.

A host says every few seconds that it lives. What changes for all of them is told over Valkey, to save time; nothing
rests on it, as each looks for itself now and then. Who erases a tenant waits until every live host has confirmed that
nothing of it is left there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from tenants.jobs.models import Node, NodeErasure
from tenants.valkey import Unavailable, client

log = logging.getLogger(__name__)

# A host says that it lives each BEAT_S; one that did not for LOST_S is not waited for. Its row goes after FORGET.
BEAT_S, LOST_S = 5.0, 30.0
FORGET = timedelta(days=7)
CHANNEL = "nodes"
# What is told: a generation answers now; one is not used any more; a tenant is being erased.
PUBLISHED, RETIRED, ERASED = "published", "retired", "erased"
# Messages that come so soon after another are handed over with it.
TOGETHER_S = 0.05
_FILE = "node.json"


@dataclass(frozen=True)
class Told:
    """What happened to a tenant, and to which generation of its index."""

    what: str
    tenant_id: uuid.UUID
    generation_id: uuid.UUID | None = None


def own_id() -> uuid.UUID:
    """Of this host: of its data directory."""
    return _id_in(settings.DATA_DIR)


@cache
def _id_in(folder: Path) -> uuid.UUID:
    path = folder / _FILE
    if not path.exists():
        mine = path.with_name(f"{_FILE}.{os.getpid()}")
        mine.write_text(json.dumps({"id": str(uuid.uuid4()), "host": platform.node()}))
        # Of several processes that start at once one is first.
        with contextlib.suppress(FileExistsError):
            os.link(mine, path)
        mine.unlink()
    told = json.loads(path.read_text())
    if told["host"] != platform.node():
        # A data directory that was copied, or a host that got another name: it must not pass for the one before.
        path.unlink(missing_ok=True)
        return _id_in.__wrapped__(folder)
    return uuid.UUID(told["id"])


# --- Living ----------------------------------------------------------------------------------------------


def beat() -> None:
    """Say that this host lives."""
    mine = Node(pk=own_id(), name=platform.node(), seen_at=timezone.now())
    Node.objects.bulk_create(
        [mine], update_conflicts=True, unique_fields=["id"], update_fields=["name", "seen_at"]
    )


def live() -> list[Node]:
    """Hosts that live, by name."""
    since = timezone.now() - timedelta(seconds=LOST_S)
    return list(Node.objects.filter(seen_at__gte=since).order_by("name", "id"))


def forget_lost() -> int:
    """Remove hosts that were not seen for long; how many."""
    return Node.objects.filter(seen_at__lt=timezone.now() - FORGET).delete()[0]


# --- Telling ---------------------------------------------------------------------------------------------


def tell(what: str, tenant_id: uuid.UUID, generation_id: uuid.UUID | None = None) -> None:
    """Tell all hosts; without Valkey they find out later."""
    body = {"what": what, "tenant": str(tenant_id), "generation": str(generation_id or "")}
    try:
        client().publish(CHANNEL, json.dumps(body))
    except Unavailable:
        log.debug("Valkey is away; the hosts find out later")


class Listener:
    """Hears what is told, over one connection to Valkey that is kept."""

    def __init__(self) -> None:
        self._messages: Any = None

    def heard(self, wait_s: float) -> list[Told]:
        """What was told since the last call, after waiting so long for a first message. Raises Unavailable."""
        try:
            if self._messages is None:
                self._messages = client().pubsub(ignore_subscribe_messages=True)
                self._messages.subscribe(CHANNEL)
            return list(self._read(wait_s))
        except Unavailable:
            self.close()
            raise

    def _read(self, wait_s: float) -> Iterator[Told]:
        ends = time.monotonic() + wait_s
        while (left := ends - time.monotonic()) > 0:
            # None also where it heard that it is subscribed, or of a message that cannot be read.
            if (told := _parsed(self._messages.get_message(timeout=left))) is not None:
                yield told
                ends = time.monotonic() + TOGETHER_S

    def close(self) -> None:
        if self._messages is not None:
            with contextlib.suppress(Unavailable, OSError):
                self._messages.close()
            self._messages = None


def _parsed(message: dict[str, Any] | None) -> Told | None:
    if message is None:
        return None
    try:
        told = json.loads(message["data"])
        generation = uuid.UUID(told["generation"]) if told["generation"] else None
        return Told(told["what"], uuid.UUID(told["tenant"]), generation)
    except (ValueError, KeyError, TypeError):
        # Of a later release.
        log.warning("a message to the hosts cannot be read")
        return None


# --- Erasing ---------------------------------------------------------------------------------------------


def confirm_erasure(tenant_id: uuid.UUID) -> None:
    """Say that at this moment nothing of a tenant is left on this host."""
    with contextlib.suppress(IntegrityError), transaction.atomic():
        # Refused where the host is not known yet: its next beat is before its next confirmation.
        NodeErasure.objects.update_or_create(
            node_id=own_id(), erased_tenant=tenant_id, defaults={"confirmed_at": timezone.now()}
        )


def unconfirmed(tenant_id: uuid.UUID, *, since: datetime) -> list[Node]:
    """Live hosts, without this one, that did not confirm since a moment that nothing is left of a tenant."""
    rows = NodeErasure.objects.filter(erased_tenant=tenant_id, confirmed_at__gte=since)
    done = {own_id(), *rows.values_list("node_id", flat=True)}
    return [one for one in live() if one.pk not in done]


def take_confirmations(tenant_id: uuid.UUID) -> list[str]:
    """Names of the hosts that confirmed, for the receipt, which is all that is kept of them."""
    rows = NodeErasure.objects.filter(erased_tenant=tenant_id).order_by("node__name")
    names = list(rows.values_list("node__name", flat=True))
    rows.delete()
    return names


def lost() -> list[Node]:
    """Hosts that are known and do not live, by name: what they hold goes when they come back."""
    since = timezone.now() - timedelta(seconds=LOST_S)
    return list(Node.objects.filter(seen_at__lt=since).order_by("name", "id"))
