"""Standing queries: searches that are asked of every asset that arrives, and what they found (alerts).

An asset that becomes ready leaves a row in an outbox, in the same transaction; the job of
`tenants.retrieval.standing_matching` compares it with all queries of the tenant. Each query is kept as a vector of
every model that the tenant's assets are written for, so that a promotion switches both at once.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import msgspec
import numpy as np
from django.db import transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils import timezone
from django.utils.translation import gettext as _

from ml.media import MediaError
from tenants.clock import shared_now
from tenants.datasets.models import Asset
from tenants.errors import Conflict, IndexRebuilding, Invalid, NotAllowed, NotFound, Unavailable
from tenants.events import webhooks
from tenants.events.services import record
from tenants.jobs import server_sent_events as sse
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.retrieval import filters, model_routing, model_store, query_pictures, saved, shapes
from tenants.retrieval.index.memory import read_index_status, vector_cache
from tenants.retrieval.index.vectors import as_bytes, locked_clock
from tenants.retrieval.models import (
    StandingAlert,
    StandingArrival,
    StandingClock,
    StandingQuery,
    StandingVector,
)
from tenants.retrieval.query import encoding, relevance
from tenants.retrieval.query.lexical import sought_words
from tenants.retrieval.query.ranking import rank, restriction
from tenants.retrieval.query.result_page import passages
from tenants.retrieval.saved import Body, Who, may_change
from tenants.retrieval.types import Hit, Query
from tenants.scope import current_tenant_id, narrowing, tenant_scope, whole_tenant
from tenants.shapes import UNSET
from tenants.valkey import Unavailable as ValkeyAway
from tenants.valkey import client, tenant_key

JOB = "match_standing"
# Queries of a workspace; those of a filter alone are asked of Postgres one by one, so they are few.
MOST, MOST_FILTERS = 100_000, 200
# Alerts are kept for so long, the newest so many.
KEEP_DAYS, MOST_ALERTS = 90, 100_000
# As alike as the best so many of today, where nobody knows what is alike enough.
USUAL = 10
BATCH = 2_000
# Alerts that a digest lists; the others are counted. And digests that are sent at a time.
IN_DIGEST, DIGESTS = 100, 100
PARTS = ("text", "image", "audio", "video", "vector", "like")

State, Frequency = StandingQuery.State, StandingQuery.Frequency


@dataclass(frozen=True)
class Asked:
    """A query in one model's space, as `StandingVector` keeps it."""

    data: bytes = b""
    asked: str = ""
    words: tuple[str, ...] = ()
    least: float = 1.0
    familiar: float = 1.0
    problem: str = ""


@dataclass(frozen=True)
class Prepared:
    """A search that was checked and encoded for each model that is written; for none where it is a filter alone."""

    body: dict[str, Any]
    min_score: float | None = None
    models: Mapping[str, Asked] = field(default_factory=dict)

    @property
    def filter_only(self) -> bool:
        return is_filter_only(self.body)


def is_filter_only(body: Body) -> bool:
    """Whether a search asks by no words, picture, sound, vector or asset."""
    return not any(body.get(part) for part in PARTS)


# --- Read ------------------------------------------------------------------------------------------------


def list_standing(who: Who) -> QuerySet[StandingQuery]:
    """What they may see, newest first, in the tenant's scope; of who is narrowed as `saved.list_saved` says."""
    rows = StandingQuery.objects.order_by("-id")
    if not who.moderates:
        rows = rows.filter(of_audits=False)
    to = narrowing()
    if to is None or to.datasets is None:
        return rows
    mine = Q() if who.member_id is None else Q(owner=who.member_id)
    return rows.filter(mine | Q(query__datasets__isnull=False))


def get_standing(standing_id: uuid.UUID | None, who: Who) -> StandingQuery:
    """Raises NotFound."""
    row = None if standing_id is None else list_standing(who).filter(pk=standing_id).first()
    if row is None:
        raise NotFound(_("This standing query does not exist."))
    return row


def list_alerts(
    who: Who, *, standing_id: uuid.UUID | None = None, read: bool | None = None
) -> QuerySet[StandingAlert]:
    """Newest first, of assets that are shown; of audits, for who moderates, of all. In the tenant's scope."""
    rows = StandingAlert.objects.select_related("asset", "standing_query").order_by("-id")
    rows = rows.filter(_told(), asset__dataset__deleted_at=None)
    if not who.moderates:
        rows = rows.filter(standing_query__of_audits=False)
    to = narrowing()
    if to is not None and to.datasets is not None:
        rows = rows.filter(standing_query__in=list_standing(who).order_by().values("pk"))
    if standing_id is not None:
        rows = rows.filter(standing_query=standing_id)
    return rows if read is None else rows.filter(read_at__isnull=not read)


def _told() -> Q:
    """What is blocked or held back is told by audits alone."""
    return Q(standing_query__of_audits=True) | ~Q(asset__moderation__in=Asset.HIDDEN)


def get_alert(alert_id: uuid.UUID | None, who: Who) -> StandingAlert:
    """Raises NotFound."""
    row = None if alert_id is None else list_alerts(who).filter(pk=alert_id).first()
    if row is None:
        raise NotFound(_("This alert does not exist."))
    return row


def count_unread(who: Who, most: int) -> int:
    """How many alerts nobody has read, counted up to `most`. In the tenant's scope."""
    return len(list_alerts(who, read=False).values_list("pk", flat=True)[:most])


def mark_read(
    who: Who,
    *,
    alert_ids: Collection[uuid.UUID] | None = None,
    standing_id: uuid.UUID | None = None,
    read: bool = True,
) -> int:
    """Mark these alerts (None: all, or all of one query) as read, or as unread, for the workspace; how many changed."""
    with tenant_scope(current_tenant_id()):
        rows = list_alerts(who, standing_id=standing_id, read=not read)
        if alert_ids is not None:
            rows = rows.filter(pk__in=alert_ids)
        chosen = StandingAlert.objects.filter(pk__in=rows.order_by().values("pk"))
        tell_listeners()
        return chosen.update(read_at=timezone.now() if read else None)


def shape_of(row: StandingQuery) -> shapes.StandingQuery:
    return shapes.StandingQuery(
        id=str(row.id),
        name=row.name,
        query=row.query,
        state=row.state,
        muted=row.muted,
        deliver=[name for name, told in zip(shapes.DELIVER, (not row.muted, row.inbox), strict=True) if told],
        frequency=row.frequency,
        min_score=row.min_score,
        problem=row.problem or None,
        created_by=row.created_by,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


def alert_shape(row: StandingAlert) -> shapes.Alert:
    matched = shapes.Matched(modality=row.modality, segment=row.segment or UNSET) if row.modality else None
    return shapes.Alert(
        id=str(row.id),
        standing_query=str(row.standing_query_id),
        asset=str(row.asset_id),
        dataset=str(row.asset.dataset_id),
        score=row.score,
        relevance=None if row.relevance is None else round(row.relevance, 4),
        matched=matched,
        segment=row.segment or UNSET,
        audit=None if row.audit is None else str(row.audit),
        read=row.read_at is not None,
        at=row.created_at,
        created_at=row.created_at,
    )


def passages_of(tenant_id: uuid.UUID, rows: Sequence[StandingAlert]) -> list[str]:
    """What was found in each, of texts and of what is said; "" elsewhere. Reads storage: in no scope."""
    found = [(row.asset, Hit(row.asset_id, row.score or 0.0, row.modality, row.segment)) for row in rows]
    return passages(tenant_id, found)


# --- Live --------------------------------------------------------------------------------------------------

# In the place of a job's id, in what the server's edge follows (`tenants.jobs.server_sent_events`).
FOLLOWED = "alerts"
RETRY_MS = 10_000
# Unread alerts that an event counts.
COUNTED = 100


@dataclass(frozen=True)
class Inbox:
    """What listeners are told of: the newest alert of the workspace, and how many are unread, at most COUNTED."""

    newest: str
    unread: int

    @property
    def version(self) -> str:
        return f"{self.newest}-{self.unread}"

    @property
    def event(self) -> str:
        data = msgspec.json.encode({"newest": self.newest or None, "unread": self.unread}).decode()
        return f"event: alerts\nid: {self.version}\ndata: {data}\n\n"


def read_inbox() -> Inbox:
    """In the tenant's scope; for whoever sees all of it."""
    newest = StandingAlert.objects.order_by("-id").values_list("pk", flat=True).first()
    unread = count_unread(Who(), COUNTED)
    return Inbox(str(newest or ""), unread)


def open_stream(watcher: str) -> tuple[str, dict[str, str]]:
    """Body and headers of an answer with the inbox, from which the server's edge goes on. In the tenant's scope.

    `watcher` (accounts.watchers) is who is told, as long as they may be.
    """
    inbox = read_inbox()
    headers = sse.headers_of(f"{current_tenant_id()} {FOLLOWED} {inbox.version} {watcher}")
    return f"retry: {RETRY_MS}\n\n{inbox.event}", headers


def channel(tenant_id: uuid.UUID) -> str:
    return tenant_key(tenant_id, FOLLOWED)


def tell_listeners() -> None:
    """On commit, that alerts came or were read; they read the rows, so a lost message is only a late one."""
    transaction.on_commit(partial(_publish, current_tenant_id()), robust=True)


def _publish(tenant_id: uuid.UUID) -> None:
    with suppress(ValkeyAway):
        client().publish(channel(tenant_id), "")


# --- As a vector -----------------------------------------------------------------------------------------


def prepare(*, tenant_id: uuid.UUID, query: Body, min_score: float | None = None) -> Prepared:
    """Check a search and encode it, in no scope but short ones of its own.

    `min_score` -1 to 1, for what has no relevance; None: as alike as the best USUAL of today. Raises Invalid, NotFound,
    ModelUnavailable, Busy, MediaError.
    """
    with tenant_scope(tenant_id):
        body = saved.checked(query)
        asked = query_of(body)
        filters.plan(asked.conditions, asked.datasets)
        models = model_routing.written(tenant_id).models
    if is_filter_only(body):
        narrows = body.get("generated") == "only"
        if not narrows and not any(body.get(part) for part in ("filter", "datasets", "modalities")):
            raise Invalid(_("Say what to look for: words, a picture, an asset, or a filter."), "/query")
        if min_score is not None:
            raise Invalid(_("A filter alone has no score."), "/min_score")
        return Prepared(body)
    live, *beside = models
    found = {live: _encode(tenant_id, body, live, min_score)}
    # Where relevance is known, that is what says how much is enough.
    min_score = None if found[live].asked else min_score
    for model in beside:
        found[model] = _encode_or_say(tenant_id, body, model, min_score)
    return Prepared(body, min_score, found)


def _encode(tenant_id: uuid.UUID, body: Body, model: str, min_score: float | None) -> Asked:
    query = query_of(body)
    picture = query_pictures.opened(tenant_id, query.image_file) if query.image_file else nullcontext()
    with picture as path:
        encoded = encoding.encode(tenant_id, replace(query, image=path, hybrid=False, highlight=False), model)
    space = model_store.space(model, tenant_id)
    judge = relevance.judge_of(space, encoded.vector, query, encoded)
    data = as_bytes(encoded.vector)
    if judge is None:
        unlike = query.unlike or query.unlike_text
        never_known = unlike or encoded.parts.keys() - {"text", "audio", "image"}
        if query.min_relevance and min_score is None and never_known:
            raise Invalid(
                _("Relevance is not known of such a search: send min_score instead of min_relevance."),
                "/query/min_relevance",
            )
        if min_score is None:
            min_score = _usual_score(tenant_id, query, model, encoded.vector)
        return Asked(data, least=min_score)
    # 0 asks for everything, of which nobody wants to be told.
    least = query.min_relevance or judge.line
    familiar = space.familiarity_of(encoded.vector, judge.words)
    return Asked(
        data,
        judge.asked,
        tuple(sought_words(judge.words)) if judge.reads else (),
        least,
        1.0 if familiar is None else familiar,
    )


def _encode_or_say(tenant_id: uuid.UUID, body: Body, model: str, min_score: float | None) -> Asked:
    """For a model that does not answer yet: what it cannot ask is said of the query once it does."""
    try:
        return _encode(tenant_id, body, model, min_score)
    except (Invalid, NotFound, MediaError) as error:
        return Asked(problem=str(error))


def _usual_score(tenant_id: uuid.UUID, query: Query, model: str, vector: np.ndarray) -> float:
    """What the USUAL-th best of the assets that are there has in this model. Raises Invalid where there are fewer."""
    try:
        with tenant_scope(tenant_id):
            now = read_index_status(tenant_id, model)
            state = vector_cache.of(tenant_id, model).refresh(now)
            only = restriction(query, state, now)
            hits = rank(state.searched_for(query.generated), vector, USUAL, only).hits
    except IndexRebuilding:
        hits = []
    if len(hits) < USUAL:
        raise Invalid(
            _(
                "Relevance is not known of such a search, and there are too few assets to tell what is alike: send "
                "min_score, a cosine from -1 to 1."
            ),
            "/min_score",
        )
    return float(hits[-1].score)


def query_of(body: Body) -> Query:
    """A search as it is kept, to be asked."""
    like, unlike = body.get("like") or {}, body.get("unlike") or {}
    ids = partial(map, uuid.UUID)

    def named(part: str, what: str = "asset") -> uuid.UUID | None:
        found = (body.get(part) or {}).get(what)
        return uuid.UUID(found) if found else None

    return Query(
        text=(body.get("text") or "").strip(),
        image_file=named("image", "file"),
        image_asset=named("image"),
        audio_asset=named("audio"),
        video_asset=named("video"),
        vector=_vector(body.get("vector")),
        like=list(ids(like.get("assets") or [])),
        unlike=list(ids(unlike.get("assets") or [])),
        unlike_text=(unlike.get("text") or "").strip(),
        datasets=list(ids(body["datasets"])) if body.get("datasets") else None,
        modalities=body.get("modalities"),
        conditions=filters.parse(body.get("filter")),
        task=body.get("task") or "general",
        weights=body.get("weights") or {},
        hybrid=body.get("hybrid"),
        generated=body.get("generated") or "",
        min_relevance=body.get("min_relevance"),
    )


def _vector(values: Any) -> np.ndarray | None:
    if not values:
        return None
    vector = np.asarray(values, np.float64)
    return (vector / max(float(np.linalg.norm(vector)), 1e-9)).astype(np.float32)


def encode_missing(tenant_id: uuid.UUID, model: str, *, is_over: Callable[[], bool]) -> bool:
    """Encode what has not been encoded for a model that is written beside; whether all of it is, before `is_over()`.

    In no scope. Safe to repeat, and to be killed: what is stored is not missing.
    """
    while True:
        with tenant_scope(tenant_id):
            done = StandingVector.objects.filter(model=model, standing_query=OuterRef("pk"))
            rows = StandingQuery.objects.filter(~Exists(done), filter_only=False)
            some = list(rows.order_by("pk").values_list("pk", "query", "min_score", "changed_at")[:50])
        if not some:
            return True
        if is_over():
            return False
        for pk, body, min_score, changed_at in some:
            asked = _encode_or_say(tenant_id, body, model, min_score)
            with tenant_scope(tenant_id):
                locked_clock()
                # Of one that was changed meanwhile the next round makes another.
                if StandingQuery.objects.filter(pk=pk, changed_at=changed_at).exists():
                    _store(pk, {model: asked})


# --- Changing them ---------------------------------------------------------------------------------------


def create_standing(
    *,
    who: Who,
    name: str,
    prepared: Prepared,
    muted: bool = False,
    inbox: bool = True,
    frequency: str = Frequency.AT_ONCE,
) -> StandingQuery:
    """Keep a search that `prepare` made; it is told what arrives from now on. Raises Invalid, Conflict, Unavailable."""
    with tenant_scope(current_tenant_id()):
        _require_written(prepared)
        _check_room(prepared)
        row = StandingQuery.objects.create(
            name=saved.checked_name(name),
            muted=muted,
            inbox=inbox,
            frequency=frequency,
            since=shared_now(),
            owner_id=who.member_id,
            created_by=who.actor,
            **_columns(prepared),
        )
        _store(row.pk, prepared.models)
        record(actor=who.actor, verb="standing_query.created", target=str(row.id))
        return row


def change_standing(
    *,
    who: Who,
    standing_id: uuid.UUID,
    name: str | None = None,
    state: str | None = None,
    muted: bool | None = None,
    inbox: bool | None = None,
    frequency: str | None = None,
    prepared: Prepared | None = None,
) -> StandingQuery:
    """Change what is given; what arrived while it was paused is not told. Raises NotFound, NotAllowed, Invalid."""
    with tenant_scope(current_tenant_id()):
        if prepared is not None:
            _require_written(prepared)
        row = _to_change(standing_id, who)
        if name is not None:
            row.name = saved.checked_name(name)
        row.muted = row.muted if muted is None else muted
        if inbox is False and row.inbox:
            StandingAlert.objects.filter(standing_query=row, read_at=None).update(read_at=timezone.now())
        row.inbox = row.inbox if inbox is None else inbox
        row.frequency = row.frequency if frequency is None else frequency
        if state is not None and state != row.state:
            row.state = state
            if state == State.ACTIVE:
                if prepared is None:
                    _require_asked(row)
                row.since = shared_now()
        if prepared is not None:
            if prepared.filter_only and not row.filter_only:
                _check_room(prepared)
            for column, value in _columns(prepared).items():
                setattr(row, column, value)
            row.problem = ""
        row.save()
        if prepared is not None:
            # Also of models that are not written now, and may be once more.
            StandingVector.objects.filter(standing_query=row).delete()
            _store(row.pk, prepared.models)
        record(actor=who.actor, verb="standing_query.changed", target=str(row.id))
        return row


def delete_standing(*, who: Who, standing_id: uuid.UUID) -> None:
    """With its alerts. Raises NotFound, NotAllowed."""
    with tenant_scope(current_tenant_id()):
        row = _to_change(standing_id, who)
        # Also of datasets that whoever deletes it does not see.
        with whole_tenant():
            StandingAlert.objects.filter(standing_query=row)._raw_delete("default")
            row.delete()
        record(actor=who.actor, verb="standing_query.deleted", target=str(standing_id))


def require_changeable(standing_id: uuid.UUID, who: Who) -> None:
    """Raises NotFound, NotAllowed. In the tenant's scope."""
    if not may_change(get_standing(standing_id, who), who):
        raise NotAllowed(_("Whoever made the standing query, or an owner of the workspace, may change it."))


def _to_change(standing_id: uuid.UUID, who: Who) -> StandingQuery:
    require_changeable(standing_id, who)
    return StandingQuery.objects.select_for_update().get(pk=standing_id)


def _require_asked(row: StandingQuery) -> None:
    """Raises Conflict for what would find nothing."""
    asked = StandingVector.objects.filter(standing_query=row, model=model_routing.live()).exclude(problem="")
    if problem := asked.values_list("problem", flat=True).first():
        raise Conflict(_("%(problem)s Change its search first.") % {"problem": problem})


def _columns(prepared: Prepared) -> dict[str, Any]:
    return {
        "query": prepared.body,
        "min_score": prepared.min_score,
        "filter_only": prepared.filter_only,
        "names_assets": bool(saved.assets_of(prepared.body)),
        "of_audits": "audit" in prepared.body,
    }


def _check_room(prepared: Prepared) -> None:
    most = MOST_FILTERS if prepared.filter_only else MOST
    if StandingQuery.objects.filter(filter_only=prepared.filter_only).count() >= most:
        if prepared.filter_only:
            message = _(
                "There are %(n)s standing queries of a filter alone; delete some first, or add words."
            )
        else:
            message = _("There are %(n)s standing queries; delete some first.")
        raise Conflict(message % {"n": most})


def _require_written(prepared: Prepared) -> None:
    """Under the clock's lock, so that no model begins to answer without the query. Raises Unavailable."""
    clock = locked_clock()
    if not prepared.filter_only and not {clock.live, *clock.beside} <= prepared.models.keys():
        raise Unavailable(_("The models of this workspace are changing; try again."))


def _store(standing_id: uuid.UUID, models: Mapping[str, Asked]) -> None:
    if not models:
        return
    StandingClock.objects.bulk_create([StandingClock()], ignore_conflicts=True)
    clock = StandingClock.objects.select_for_update().get()
    rows = [
        StandingVector(
            standing_query_id=standing_id,
            model=model,
            seq=clock.last + number,
            data=asked.data,
            asked=asked.asked,
            words=list(asked.words),
            least=asked.least,
            familiar=asked.familiar,
            problem=asked.problem,
        )
        for number, (model, asked) in enumerate(models.items(), start=1)
    ]
    StandingVector.objects.bulk_create(rows, ignore_conflicts=True)
    StandingClock.objects.filter(pk=clock.pk).update(last=clock.last + len(rows))


# --- What arrives ----------------------------------------------------------------------------------------


def note_arrivals(asset_ids: Iterable[uuid.UUID]) -> None:
    """Have assets that have just become ready compared with the standing queries. In the caller's transaction; one
    indexed look where there are none."""
    wanted = list(asset_ids)
    if not wanted or not StandingQuery.objects.filter(state=State.ACTIVE).exists():
        return
    now = shared_now()
    StandingArrival.objects.bulk_create(
        [StandingArrival(asset_id=asset_id, made_at=now) for asset_id in wanted], batch_size=1_000
    )
    if not _is_queued():
        jobs.enqueue(kind=JOB, arguments={}, reserve={})
    else:
        # The one that waits may have begun, and ended, before this commits.
        transaction.on_commit(partial(_ensure, current_tenant_id()), robust=True)


def _ensure(tenant_id: uuid.UUID) -> None:
    with tenant_scope(tenant_id):
        ensure_matching()


def ensure_matching() -> None:
    """Queue the job where something waits and nothing is queued. In the tenant's scope; also for upkeep."""
    if StandingArrival.objects.exists() and not _is_queued():
        jobs.enqueue(kind=JOB, arguments={}, reserve={})


def _is_queued() -> bool:
    return Job.objects.filter(kind=JOB, state=Job.State.QUEUED).exists()


def forget_assets(asset_ids: Collection[uuid.UUID]) -> None:
    """Drop what is told of assets that go, and what waits. In the caller's transaction, which has locked them."""
    for rows in (StandingAlert, StandingArrival):
        rows.objects.filter(asset_id__in=asset_ids)._raw_delete("default")


# --- Webhooks --------------------------------------------------------------------------------------------


def event_of(row: StandingAlert, dataset_id: uuid.UUID) -> dict[str, object]:
    """What webhooks are told of an alert."""
    matched = {"modality": row.modality, **({"segment": row.segment} if row.segment else {})}
    return {
        "alert": row.id,
        "standing_query": row.standing_query_id,
        "asset": row.asset_id,
        "dataset": dataset_id,
        "score": row.score,
        "relevance": None if row.relevance is None else round(row.relevance, 4),
        "matched": matched if row.modality else None,
        **({"audit": row.audit} if row.audit else {}),
    }


def send_digests() -> int:
    """Tell webhooks of the hours that are over, one event a query and hour; how many. In the tenant's scope.

    Its `webhook-id` follows from query and hour. Alerts stop waiting in the transaction that stores the event, so
    whoever is killed here has told nothing, or all. What is stored late for an hour goes with the next.
    """
    waiting = StandingAlert.objects.filter(digest=True)
    if not waiting.exists():
        return 0
    until = shared_now().replace(minute=0, second=0, microsecond=0)
    over = waiting.filter(created_at__lt=until)
    # Who matches holds the query's row, too: nothing is added to its hour from here on.
    due = StandingQuery.objects.select_for_update(no_key=True, skip_locked=True).filter(
        Q(digested=None) | Q(digested__lt=until), pk__in=over.order_by().values("standing_query")
    )
    rows = {row.pk: row for row in due.order_by("pk")[:DIGESTS]}
    over = over.filter(standing_query__in=rows)
    told = _digests({pk for pk, row in rows.items() if not row.muted}, over, until)
    ids = [uuid.uuid5(query_id, until.isoformat()) for query_id in told]
    webhooks.emit_all("standing_query.digest", told.values(), ids=ids)
    over.update(digest=False)
    StandingQuery.objects.filter(pk__in=rows).update(digested=until)
    return len(told)


def _digests(
    queries: Collection[uuid.UUID], over: QuerySet[StandingAlert], until: dt.datetime
) -> dict[uuid.UUID, dict[str, object]]:
    """By query, the newest of its alerts that are shown, and how many there are."""
    shown = over.filter(_told(), standing_query__in=queries, asset__dataset__deleted_at=None)
    shown = shown.select_related("asset")
    each = F("standing_query_id")
    placed = shown.annotate(place=Window(RowNumber(), each, F("id").desc()), total=Window(Count("id"), each))
    found: defaultdict[uuid.UUID, list[Any]] = defaultdict(list)
    for row in placed.filter(place__lte=IN_DIGEST).order_by("standing_query_id", "-id"):
        found[row.standing_query_id].append(row)
    return {
        query_id: {
            "standing_query": query_id,
            "until": webhooks.moment(until),
            "count": rows[0].total,
            "alerts": [
                {**event_of(row, row.asset.dataset_id), "at": webhooks.moment(row.created_at)} for row in rows
            ],
        }
        for query_id, rows in found.items()
    }


# --- Upkeep ----------------------------------------------------------------------------------------------


def tend() -> None:
    """What upkeep does in a tenant that has standing queries; one statement in others. In its scope."""
    if StandingQuery.objects.exists():
        tidy()
        ensure_matching()
        send_digests()


def tidy() -> int:
    """Forget old alerts, and what is left of assets that queries asked by and that are gone; in the tenant's scope."""
    old = StandingAlert.objects.filter(created_at__lt=timezone.now() - dt.timedelta(days=KEEP_DAYS))
    gone = StandingAlert.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:BATCH])).delete()[0]
    newest = StandingAlert.objects.order_by("-id").values_list("pk", flat=True)
    if least := newest[MOST_ALERTS : MOST_ALERTS + 1]:
        surplus = StandingAlert.objects.filter(pk__lte=least[0]).order_by("id").values_list("pk", flat=True)
        gone += StandingAlert.objects.filter(pk__in=list(surplus[:BATCH])).delete()[0]
    named = StandingQuery.objects.filter(names_assets=True, problem="")
    for row in named.iterator():
        wanted = set(saved.assets_of(row.query))
        if Asset.objects.filter(pk__in=wanted).count() < len(wanted):
            give_up(row.pk, _("An asset that it asks by was deleted."))
    return gone


def give_up(standing_id: uuid.UUID, problem: str) -> None:
    """Say why a query finds nothing, and drop what was made of the asset that is gone."""
    StandingVector.objects.filter(standing_query=standing_id).update(data=b"", words=[], problem=problem)
    StandingQuery.objects.filter(pk=standing_id).update(problem=problem, state=State.PAUSED)
