"""Where checkpoints are kept outside: a bucket with object lock, and a time stamp authority (RFC 3161).

An outbox: the row is written with the checkpoint, sent by whichever worker claims it, and stays due until it is there.
Both places take the same thing twice. `check` compares what is here with what is there.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlparse

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.db import transaction
from django.db.models import Count, Max, Min, Q
from django.utils import timezone

from tenants.accounts.models import Tenant
from tenants.events import ssrf_guard, time_stamps
from tenants.moderation.models import Anchor, Checkpoint
from tenants.moderation.record import checkpoints, signatures
from tenants.moderation.record.checkpoints import Fault, Head

log = logging.getLogger(__name__)

# How long a worker that died keeps an anchor from the others; longer than a try takes.
LEASE_S = 120
TIMEOUT_S = 20
# The wait after so many failed tries doubles up to this.
MOST_WAIT_S = 3600
# One run of the sender: the next comes in a minute.
RUN_S = 45.0
OBJECT = re.compile(r"checkpoint-(\d{12})-([0-9a-f]{64})\.json$")
# Documents of the bucket that are read where the database does not have them.
MOST_READ = 1000


class Failed(Exception):
    """The place did not take it; the text says why, and may be shown to people."""


# --- Sending -----------------------------------------------------------------------------------------------


def send_due() -> int:
    """Send what is due, for some seconds; returns how many arrived. In no scope."""
    arrived, until = 0, time.monotonic() + RUN_S
    while time.monotonic() < until and (anchor := _claim()):
        arrived += _send(anchor)
    return arrived


def _claim() -> Anchor | None:
    now = timezone.now()
    with transaction.atomic():
        due = Anchor.objects.select_for_update(skip_locked=True, of=("self",)).filter(due_at__lte=now)
        anchor = due.select_related("checkpoint").order_by("due_at", "pk").first()
        if anchor is not None:
            anchor.tries += 1
            anchor.due_at = now + dt.timedelta(seconds=LEASE_S)
            anchor.save(update_fields=["tries", "due_at"])
    return anchor


def _send(anchor: Anchor) -> bool:
    try:
        token = _SENDERS[Anchor.Place(anchor.place)](anchor.checkpoint)
    except Failed as error:
        wait = min(2 ** min(anchor.tries, 12) * 15, MOST_WAIT_S)
        log.warning("a checkpoint did not get to its place", extra={"place": anchor.place, "why": str(error)})
        due = timezone.now() + dt.timedelta(seconds=wait)
        Anchor.objects.filter(pk=anchor.pk, done_at=None).update(due_at=due, error=str(error)[:300])
        return False
    done = {"due_at": None, "done_at": timezone.now(), "error": "", "token": token}
    # Of two that sent it the first one's token stays.
    return bool(Anchor.objects.filter(pk=anchor.pk, done_at=None).update(**done))


def _put(row: Checkpoint) -> None:
    """Into the bucket, where nobody can change or delete it before its day."""
    place, content = _bucket(), checkpoints.document_of(row)
    until = row.created_at + dt.timedelta(days=settings.RECORD_BUCKET_DAYS)
    try:
        _client().put_object(
            Bucket=place.name,
            Key=f"{place.prefix}checkpoint-{row.number:012}-{row.digest}.json",
            Body=content,
            ContentType="application/json",
            ObjectLockMode=settings.RECORD_BUCKET_MODE,
            ObjectLockRetainUntilDate=until,
            ChecksumAlgorithm="SHA256",
        )
    except (BotoCoreError, ClientError) as error:
        raise Failed(f"The bucket did not take it: {error}") from error


def _stamp(row: Checkpoint) -> bytes:
    """The authority's response over the checkpoint's digest, once it is verified."""
    # The operator typed the address: it may lie in the installation's own network.
    host = urlparse(settings.RECORD_TSA_URL).hostname or ""
    allowed = ssrf_guard.Allowance(http=True, ports=("1-65535",), hosts=(host,), networks=())
    authority = time_stamps.Authority(settings.RECORD_TSA_URL, settings.RECORD_TSA_CA, allowed, TIMEOUT_S)
    try:
        return time_stamps.stamp(authority, row.digest.encode())
    except time_stamps.Unstamped as error:
        raise Failed(str(error)) from error


def stamped_at(anchor: Anchor) -> dt.datetime | None:
    """When the authority saw the checkpoint."""
    if not anchor.token:
        return None
    return time_stamps.time_of(bytes(anchor.token))


_SENDERS = {Anchor.Place.BUCKET: _put, Anchor.Place.TIME_STAMP: _stamp}


# --- The bucket --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bucket:
    name: str
    prefix: str


def _bucket() -> Bucket:
    parts = urlparse(settings.RECORD_BUCKET)
    path = parts.path.strip("/")
    return Bucket(parts.netloc, f"{path}/" if path else "")


def _client() -> Any:
    """Credentials of its own where they are set; else those that boto3 finds."""
    return boto3.client(
        "s3",
        endpoint_url=settings.RECORD_BUCKET_ENDPOINT or None,
        aws_access_key_id=settings.RECORD_BUCKET_ACCESS_KEY or None,
        aws_secret_access_key=settings.RECORD_BUCKET_SECRET_KEY or None,
        config=Config(connect_timeout=5, read_timeout=TIMEOUT_S, retries={"max_attempts": 2}),
    )


def _kept(after: int = 0) -> Iterator[tuple[int, str, str]]:
    """Number, digest and key of every checkpoint in the bucket above a number, by listing alone."""
    place = _bucket()
    pages = _client().get_paginator("list_objects_v2")
    # Keys go up as numbers do; "~" comes after every digest.
    start = f"{place.prefix}checkpoint-{after:012}~" if after else ""
    for page in pages.paginate(Bucket=place.name, Prefix=f"{place.prefix}checkpoint-", StartAfter=start):
        for found in page.get("Contents", ()):
            if named := OBJECT.search(found["Key"]):
                yield int(named[1]), named[2], found["Key"]


def _read(key: str) -> tuple[dict[str, Any], bool]:
    """The content of a document of the bucket, and whether this installation has signed it."""
    raw = _client().get_object(Bucket=_bucket().name, Key=key)["Body"].read(64 << 20)
    document = json.loads(raw)
    digest = hashlib.sha256(document["signed"].encode()).hexdigest()
    ours = signatures.key_ring().verifies(
        checkpoints.message_of(digest), document["key"], document["signature"]
    )
    return json.loads(document["signed"]), ours


# --- Verifying ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlaceState:
    """How far one place is: the newest checkpoint there, what waits, and why the last try failed."""

    place: str
    arrived: int
    newest: int | None
    newest_at: dt.datetime | None
    waiting: int
    waiting_since: dt.datetime | None
    error: str


def states() -> list[PlaceState]:
    """Of every place that is configured or was. In no scope."""
    rows = {
        row["place"]: row
        for row in Anchor.objects.values("place").annotate(
            arrived=Count("pk", filter=~Q(done_at=None)),
            newest=Max("checkpoint_id", filter=~Q(done_at=None)),
            newest_at=Max("done_at"),
            waiting=Count("pk", filter=Q(done_at=None)),
            waiting_since=Min("checkpoint__created_at", filter=Q(done_at=None)),
        )
    }
    return [
        PlaceState(**rows[place], error=_last_error(place))
        if place in rows
        else PlaceState(place, 0, None, None, 0, None, "")
        for place in Anchor.Place.values
        if place in rows or place in checkpoints.configured_places()
    ]


def _last_error(place: str) -> str:
    failed = Anchor.objects.filter(place=place, done_at=None).exclude(error="").order_by("-checkpoint")
    return failed.values_list("error", flat=True).first() or ""


def check() -> Iterator[Fault]:
    """All checkpoints, the workspaces that they name, and every place outside. In no scope."""
    yield from checkpoints.check_chain()
    yield from checkpoints.check_tenants_gone()
    yield from _check_rows()
    if settings.RECORD_TSA_URL:
        yield from _check_tokens()
    if settings.RECORD_BUCKET:
        yield from _check_bucket()


def _check_rows() -> Iterator[Fault]:
    """Each checkpoint says where it was to go; whoever deletes the row of a place cannot take that back."""
    for row in checkpoints.each():
        there = set(row.anchors.values_list("place", flat=True))
        for place in sorted(set(row.places) - there):
            yield Fault(
                "missing-anchor",
                f"Checkpoint {row.number} was to go to {place}; nothing says whether it did.",
            )


def _check_tokens() -> Iterator[Fault]:
    rows = Anchor.objects.filter(place=Anchor.Place.TIME_STAMP).exclude(done_at=None)
    roots = time_stamps.read_roots(settings.RECORD_TSA_CA)
    for anchor in rows.select_related("checkpoint").order_by("checkpoint").iterator(chunk_size=200):
        row = anchor.checkpoint
        if reason := time_stamps.why_wrong(bytes(anchor.token or b""), row.digest.encode(), roots):
            yield Fault(
                "wrong-time-stamp", f"The time stamp of checkpoint {row.number} does not fit: {reason}"
            )
            return


def _check_bucket() -> Iterator[Fault]:
    try:
        kept: dict[int, dict[str, str]] = defaultdict(dict)
        for number, digest, key in _kept():
            kept[number][digest] = key
        yield from _compare(kept)
    except (BotoCoreError, ClientError) as error:
        yield Fault("unreachable", f"The bucket of the record cannot be read: {error}")


def _compare(kept: dict[int, dict[str, str]]) -> Iterator[Fault]:
    here = dict(Checkpoint.objects.values_list("number", "digest"))
    held = dt.timedelta(days=settings.RECORD_BUCKET_DAYS)
    arrived = Anchor.objects.filter(place=Anchor.Place.BUCKET, done_at__gt=timezone.now() - held)
    for number in arrived.order_by("checkpoint").values_list("checkpoint_id", flat=True).iterator():
        if here[number] not in kept.get(number, {}):
            yield Fault(
                "missing-anchor", f"Checkpoint {number} is not in the bucket, though it was put there."
            )
    strange = [
        (number, key)
        for number, found in sorted(kept.items())
        for digest, key in found.items()
        if here.get(number) != digest
    ]
    yield from _check_strange(strange, here)


def _check_strange(strange: list[tuple[int, str]], here: dict[int, str]) -> Iterator[Fault]:
    """Documents of the bucket that the database does not have: what do they say about the records?"""
    heads: list[Head] = []
    for number, key in strange[:MOST_READ]:
        content, ours = _read(key)
        if not ours:
            # Somebody else's, or of a key that was made away with: told, and compared nevertheless.
            yield Fault("foreign-checkpoint", f"{key} in the bucket was not signed by a key that is here.")
        elif number in here:
            yield Fault("changed-checkpoint", f"Checkpoint {number} here is not the one in the bucket.")
        else:
            yield Fault("missing-checkpoint", f"Checkpoint {number} is in the bucket and not here.")
        heads += [Head(*found) for found in content["heads"]]
    yield from checkpoints.missing_heads(heads)


def check_tenant(tenant: Tenant) -> Iterator[Fault]:
    """What checkpoints here, and the newest documents of the bucket, say about one tenant: bounded. In no scope."""
    yield from checkpoints.check_tenant(tenant)
    if not settings.RECORD_BUCKET:
        return
    newest = Anchor.objects.filter(place=Anchor.Place.BUCKET).aggregate(newest=Max("checkpoint_id"))["newest"]
    try:
        heads = [
            Head(*found)
            for number, digest, key in _kept(max((newest or 0) - 1, 0))
            if not Checkpoint.objects.filter(number=number, digest=digest).exists()
            for found in _read(key)[0]["heads"]
            if found[0] == str(tenant.pk)
        ]
    except (BotoCoreError, ClientError) as error:
        yield Fault("unreachable", f"The bucket of the record cannot be read: {error}")
        return
    yield from checkpoints.missing_heads(heads)
