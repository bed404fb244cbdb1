"""The job that compares what arrived with a tenant's standing queries, and tells of what fits.

A batch is one transaction: rows of the outbox are locked and deleted in it, alerts and their webhooks' events are
written in it. Killed anywhere it runs again and finds what it had not stored; an alert is one row for each query and
asset, whatever comes twice.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import threading
import time
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext_lazy
from uuid_utils.compat import uuid7

from ml.alignment.relevance import Relevance
from ml.indexes.base import as_matrix
from ml.standing import Arrived, Match, QueryTable
from ml.standing import StandingQuery as Entry
from tenants.datasets.models import Asset
from tenants.errors import Invalid, ServiceError
from tenants.events import webhooks
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.retrieval import filters, model_store
from tenants.retrieval.models import (
    StandingAlert,
    StandingArrival,
    StandingClock,
    StandingQuery,
    StandingVector,
    Vector,
    VectorClock,
)
from tenants.retrieval.query import lexical, relevance
from tenants.retrieval.standing import JOB, event_of, give_up, query_of, tell_listeners
from tenants.retrieval.types import Query
from tenants.scope import current_tenant_id, tenant_scope

log = logging.getLogger(__name__)

# Assets of a transaction, and vectors at which it takes no more of them: films have hundreds.
ASSETS, VECTORS = 64, 1_024
TURN_S = 20.0
# What the tables of a process may take, of all tenants; the one in use stays in any case.
TABLE_BYTES = 256 * 1024 * 1024
# Then a table is read anew, without what was deleted.
TABLE_S = 3_600.0
READ = 5_000


@dataclass
class Batch:
    """What one transaction did."""

    assets: int = 0
    alerts: int = 0


@job(JOB, queue="default", label=gettext_lazy("Match standing queries"))
def match_standing(claimed: jobs.Claim) -> None:
    """Compare all that waits, a batch at a time. Raises LeaseLost, Cancelled."""
    began, assets, alerts = time.monotonic(), 0, 0
    cpu = time.thread_time()
    _warm(claimed.tenant_id)
    while True:
        with tenant_scope(claimed.tenant_id):
            held = jobs.held(claimed)
            if held.cancel_requested:
                raise jobs.Cancelled
            done = match_batch()
        if not done.assets:
            break
        assets, alerts = assets + done.assets, alerts + done.alerts
        jobs.progress(claimed, done=assets, total=assets, renew=True)
        if time.monotonic() - began > TURN_S:
            jobs.spend(claimed, cpu_s=time.thread_time() - cpu)
            jobs.give_turn(claimed)
            return
    result = {"assets": assets, "alerts": alerts}
    jobs.succeed(claimed, result=result, cpu_s=time.thread_time() - cpu, gpu_s=0, used={})


# --- The queries, in this process ------------------------------------------------------------------------


@dataclass
class _Held:
    table: QueryTable | None = None
    seq: int = 0
    read_at: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)


_tables: OrderedDict[tuple[uuid.UUID, str], _Held] = OrderedDict()
_tables_lock = threading.Lock()


def _held(tenant_id: uuid.UUID, model: str) -> _Held:
    with _tables_lock:
        found = _tables.get((tenant_id, model))
        if found is None or time.monotonic() - found.read_at > TABLE_S:
            found = _Held()
        _tables[tenant_id, model] = found
        _tables.move_to_end((tenant_id, model))
        used = sum(one.table.bytes for one in _tables.values() if one.table)
        while used > TABLE_BYTES and len(_tables) > 1:
            _, gone = _tables.popitem(last=False)
            used -= gone.table.bytes if gone.table else 0
        return found


def _caught_up(held: _Held, model: str) -> QueryTable | None:
    """The queries as of now; None where there are none. In the tenant's scope, with the lock held."""
    last = StandingClock.objects.values_list("last", flat=True).first() or 0
    while held.seq < last:
        rows = StandingVector.objects.filter(model=model, seq__gt=held.seq, seq__lte=last).order_by("seq")
        columns = ("standing_query_id", "seq", "data", "asked", "words", "least", "familiar")
        page = list(rows.values_list(*columns)[:READ])
        entries = [
            Entry(query_id, np.frombuffer(data, "<f4"), asked, least, frozenset(words), familiar)
            for query_id, _, data, asked, words, least, familiar in page
            if data
        ]
        if entries and held.table is None:
            held.table = QueryTable(len(entries[0].vector))
        if held.table is not None:
            held.table.put(entries)
        held.seq = page[-1][1] if len(page) == READ else last
    return held.table


def _warm(tenant_id: uuid.UUID) -> None:
    """Read what this process has not read, so that no batch holds its locks for as long."""
    with tenant_scope(tenant_id):
        model = _live()
        if not StandingArrival.objects.exists():
            return
        held = _held(tenant_id, model)
        with held.lock:
            _caught_up(held, model)
    # Its files may have to be fetched.
    model_store.space(model, tenant_id)


def _live() -> str:
    found = VectorClock.objects.values_list("live", flat=True).first()
    return found or model_store.default_model()


# --- A batch ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _New:
    """An asset that arrived, and when at the latest; its vectors, with what each stands for."""

    asset: Asset
    arrived: Arrived
    segments: Sequence[dict | None]
    made_at: Any


def match_batch() -> Batch:
    """Compare some of what waits, and forget it. In the caller's transaction and scope."""
    waiting = list(
        StandingArrival.objects.select_for_update(skip_locked=True, of=("self",))
        .order_by("id")
        .values_list("id", "asset_id", "made_at")[:ASSETS]
    )
    if not waiting:
        return Batch()
    model = _live()
    found = _read(model, {asset_id: made_at for _, asset_id, made_at in waiting})
    taken = {one.asset.id for one in found.taken}
    done = [row_id for row_id, asset_id, _ in waiting if asset_id not in found.left]
    alerts = _match(model, found.taken) if taken else 0
    StandingArrival.objects.filter(pk__in=done)._raw_delete("default")
    return Batch(len(done), alerts)


@dataclass
class _Read:
    taken: list[_New] = field(default_factory=list)
    # For the next batch.
    left: set[uuid.UUID] = field(default_factory=set)


def _read(model: str, wanted: dict[uuid.UUID, Any]) -> _Read:
    """The assets that are there, ready and shown; what is held back comes again once it is let go."""
    # Not deleted, nor embedded anew, before what they found is stored.
    rows = Asset.objects.select_for_update(no_key=True, of=("self",)).filter(
        pk__in=wanted, dataset__deleted_at=None, status=Asset.State.READY
    )
    assets = {one.id: one for one in rows.exclude(moderation__in=Asset.HIDDEN).order_by("pk")}
    read, count = _Read(), 0
    stored: defaultdict[uuid.UUID, list[Vector]] = defaultdict(list)
    for one in Vector.objects.filter(asset_id__in=assets, model=model).order_by("seq").iterator():
        stored[one.asset_id].append(one)
    words = lexical.held_words(assets)
    for asset_id, asset in assets.items():
        vectors = stored.get(asset_id, [])
        if count and count + len(vectors) > VECTORS:
            read.left.add(asset_id)
            continue
        count += len(vectors)
        values = as_matrix([one.data for one in vectors]) if vectors else np.zeros((0, 1), np.float32)
        arrived = Arrived(values, [one.modality for one in vectors], words.get(asset_id, frozenset()))
        read.taken.append(_New(asset, arrived, [one.segment for one in vectors], wanted[asset_id]))
    return read


def _match(model: str, new: Sequence[_New]) -> int:
    tenant_id = current_tenant_id()
    held = _held(tenant_id, model)
    with held.lock:
        table = _caught_up(held, model)
        matches = table.match([one.arrived for one in new], _curves(tenant_id, model)) if table else []
    alone = _by_filter_alone(new)
    if not matches and not alone:
        return 0
    queries = StandingQuery.objects.select_for_update(no_key=True).filter(
        pk__in={one.query for one in (*matches, *alone)}, state=StandingQuery.State.ACTIVE
    )
    there = {row.id: row for row in queries.order_by("pk")}
    # What this process holds of a query that was changed to a filter alone says nothing of it.
    matches = [one for one in matches if one.query in there and not there[one.query].filter_only]
    matches += [one for one in alone if one.query in there]
    news = [one for one in matches if there[one.query].since < new[one.asset].made_at]
    kept = _meeting(news, there, new)
    return _tell(sorted(kept, key=lambda one: (one.query, new[one.asset].asset.id)), there, new)


def _curves(tenant_id: uuid.UUID, model: str) -> dict[str, Relevance]:
    """How likely scores are, by what asks; nothing in a space that was not calibrated."""
    whole = model_store.space(model, tenant_id).relevance
    if whole is None:
        return {}
    judged = relevance.corrected(relevance.Judge(whole, "text"), tenant_id, model)
    return {"text": whole if judged is None else judged.relevance, "image": whole}


def _by_filter_alone(new: Sequence[_New]) -> list[Match]:
    rows = StandingQuery.objects.filter(filter_only=True, of_audits=False, state=StandingQuery.State.ACTIVE)
    ids = rows.values_list("pk", flat=True)
    return [Match(pk, place, -1, 0.0, None) for pk in ids for place in range(len(new))]


# --- What else was asked for -----------------------------------------------------------------------------


def _meeting(
    matches: Sequence[Match], there: dict[uuid.UUID, StandingQuery], new: Sequence[_New]
) -> list[Match]:
    """The matches that datasets, kinds, filters and left-out assets leave, as a search's restriction does."""
    asked: dict[uuid.UUID, Query | None] = {}
    # Queries with the same filter are answered together.
    filtered: defaultdict[str, list[Match]] = defaultdict(list)
    kept = []
    for match in matches:
        if match.query not in asked:
            asked[match.query] = _readable(there[match.query])
        query, asset = asked[match.query], new[match.asset].asset
        if query is None or not _is_open(query, asset):
            continue
        if query.conditions:
            row = there[match.query]
            same = json.dumps([row.query.get("filter"), row.query.get("datasets")], sort_keys=True)
            filtered[same].append(match)
        else:
            kept.append(match)
    for some in filtered.values():
        kept += _filtered(some, asked, there, new)
    return kept


def _readable(row: StandingQuery) -> Query | None:
    try:
        return query_of(row.query)
    except Invalid as error:
        give_up(row.pk, str(error))
        return None


def _is_open(query: Query, asset: Asset) -> bool:
    return (
        (query.datasets is None or asset.dataset_id in query.datasets)
        and (query.modalities is None or asset.modality in query.modalities)
        and (query.generated == "include" or (query.generated == "only") == (asset.generation_id is not None))
        and asset.id not in query.like
        and asset.id not in query.unlike
    )


def _filtered(
    some: Sequence[Match],
    asked: dict[uuid.UUID, Query | None],
    there: dict[uuid.UUID, StandingQuery],
    new: Sequence[_New],
) -> Iterator[Match]:
    query = asked[some[0].query]
    if query is None:
        return
    try:
        planned = filters.plan(query.conditions, query.datasets)
    except ServiceError as error:
        # A field has another type by now, or is computed for another model.
        for row in {match.query for match in some}:
            StandingQuery.objects.filter(pk=row).update(problem=str(error))
        return
    healed = [match.query for match in some if there[match.query].problem]
    if healed:
        StandingQuery.objects.filter(pk__in=healed).update(problem="")
    meeting = filters.live_of(planned, {new[match.asset].asset.id for match in some})
    yield from (match for match in some if new[match.asset].asset.id in meeting)


# --- Alerts ----------------------------------------------------------------------------------------------

_INSERT = """
INSERT INTO standing_alert (
    id, tenant_id, standing_query_id, asset_id, score, relevance, modality, segment, read_at, digest, audit, created_at
)
SELECT one.id, %(tenant)s, one.query, one.asset, one.score, one.relevance, one.modality, one.segment::jsonb,
    one.read_at, one.digest, one.audit, %(now)s
FROM unnest(
    %(ids)s::uuid[], %(queries)s::uuid[], %(assets)s::uuid[], %(scores)s::float8[], %(relevances)s::float8[],
    %(modalities)s::text[], %(segments)s::text[], %(read)s::timestamptz[], %(digests)s::boolean[],
    %(audits)s::uuid[]
) AS one (id, query, asset, score, relevance, modality, segment, read_at, digest, audit)
ON CONFLICT (tenant_id, standing_query_id, asset_id) DO NOTHING
RETURNING id
"""


def _tell(matches: Sequence[Match], there: dict[uuid.UUID, StandingQuery], new: Sequence[_New]) -> int:
    """Store the alerts that are new, and have the webhooks told of them; how many."""
    now = timezone.now()
    rows = [_alert(match, new[match.asset], there[match.query], now) for match in matches]
    return _store(rows, there, {one.asset.id: one.asset.dataset_id for one in new}, now)


def tell_of_audit(queries: Sequence[StandingQuery], asset: Asset, audit_id: uuid.UUID) -> int:
    """Store that an audit of the asset meets these, whose rows are locked, and have the webhooks told; how many are
    new. In the caller's transaction."""
    now = timezone.now()
    match = Match(uuid.UUID(int=0), 0, -1, 0.0, None)
    new = _New(asset, Arrived(np.zeros((0, 1), np.float32), ()), (), now)
    rows = [_alert(replace(match, query=one.pk), new, one, now) for one in queries]
    for row in rows:
        row.audit = audit_id
    return _store(rows, {one.pk: one for one in queries}, {asset.id: asset.dataset_id}, now)


def _store(
    rows: Sequence[StandingAlert],
    there: Mapping[uuid.UUID, StandingQuery],
    datasets: Mapping[uuid.UUID, uuid.UUID],
    now: dt.datetime,
) -> int:
    if not rows:
        return 0
    given: dict[str, Any] = {
        "tenant": str(current_tenant_id()),
        "now": now,
        "ids": [str(row.id) for row in rows],
        "queries": [str(row.standing_query_id) for row in rows],
        "assets": [str(row.asset_id) for row in rows],
        "scores": [row.score for row in rows],
        "relevances": [row.relevance for row in rows],
        "modalities": [row.modality for row in rows],
        "segments": [None if row.segment is None else json.dumps(row.segment) for row in rows],
        "read": [row.read_at for row in rows],
        "digests": [row.digest for row in rows],
        "audits": [None if row.audit is None else str(row.audit) for row in rows],
    }
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, given)
        stored = {row[0] for row in cursor.fetchall()}
    if stored:
        tell_listeners()
    told = [
        row for row in rows if row.id in stored and not row.digest and not there[row.standing_query_id].muted
    ]
    if told:
        events = (event_of(row, datasets[row.asset_id]) for row in told)
        webhooks.emit_all("standing_query.matched", events, ids=[row.id for row in told])
    return len(stored)


def _alert(match: Match, one: _New, query: StandingQuery, now: dt.datetime) -> StandingAlert:
    row = StandingAlert(id=uuid7(), standing_query_id=match.query, asset_id=one.asset.id)
    if match.part >= 0:
        row.score, row.modality = match.score, one.arrived.kinds[match.part]
        row.segment = one.segments[match.part]
    row.relevance = match.relevance
    row.read_at = None if query.inbox else now
    row.digest = query.frequency == StandingQuery.Frequency.HOURLY and not query.muted
    return row
