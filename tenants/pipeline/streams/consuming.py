"""The job that reads a source: poll, store a batch with its position and dead letters, then acknowledge.

One job a source, and its lease says who reads: a batch is stored only while the job is held, in the same transaction.
A worker that is killed loses nothing that was stored and stores nothing twice: the next one goes on behind the stored
position; what the broker hands out again is known by its id.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants.datasets.importers import Item
from tenants.datasets.models import StreamDeadLetter, StreamSource
from tenants.errors import Conflict, Invalid, NotFound, TrialEnded
from tenants.events.services import record
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import JobDispatch
from tenants.pipeline.assets import bulk
from tenants.pipeline.streams import sources
from tenants.pipeline.streams.brokers import BrokerAway, Consumer, Message, consumer_of
from tenants.pipeline.streams.sources import MAX_BODY, MOST_LETTERS, State
from tenants.pipeline.streams.writing import MAX_ITEMS, MAX_LINE, Malformed, StreamWriter, item_of
from tenants.scope import tenant_scope

# How long the broker is asked to wait for an item, how often the job looks whether it is still wanted, and how long a
# source keeps its place while others wait for one.
POLL_S, LOOK_S, TURN_S = 1.0, 2.0, 5.0
# Between tries to reach a broker, which become rarer.
MOST_WAIT_S = 60.0
# Dead letters that are replayed at once.
MOST_REPLAYED = 200


@job(sources.JOB, queue="import", label=gettext_lazy("Read a stream"), max_attempts=5, on_end=sources.on_end)
def read_stream(claimed: jobs.Claim) -> None:
    """Read a source until it is paused or gone, or others want the place. Raises LeaseLost, Cancelled."""
    with tenant_scope(claimed.tenant_id):
        row = sources.list_sources().filter(pk=claimed.arguments["source"]).first()
    if row is None:
        jobs.succeed(claimed, result={"note": "The source was deleted."}, cpu_s=0, gpu_s=0, used={})
    else:
        Reading(claimed, row).run()


class Reading:
    """One turn of reading a source."""

    def __init__(self, claimed: jobs.Claim, row: StreamSource) -> None:
        self._claimed, self._row = claimed, row
        self._writer = writer_of(row)
        self._began = self._looked_at = time.monotonic()
        self._count = self._told = 0

    def run(self) -> None:
        consumer: Consumer | None = None
        try:
            with tenant_scope(self._claimed.tenant_id):
                login = sources.login_of(self._row)
            consumer = consumer_of(self._row, login)
            position = consumer.open(self._row.position)
            if position != self._row.position:
                self._update(position=position)
            self._read(consumer)
        except BrokerAway as error:
            self._wait(error)
        except (Conflict, Invalid, NotFound, TrialEnded) as error:
            # No broker's fault, and nothing that passes by itself.
            self._pause(error.detail)
        finally:
            if consumer is not None:
                consumer.close()

    def _read(self, consumer: Consumer) -> None:
        self._look(consumer)
        while True:
            if not self._is_active():
                if self._end():
                    return
                continue
            messages = consumer.poll(MAX_ITEMS, POLL_S)
            if messages and not self._store(consumer, messages):
                return
            if time.monotonic() - self._looked_at >= LOOK_S:
                self._look(consumer)
                if time.monotonic() - self._began >= TURN_S and _others_wait():
                    jobs.give_turn(self._claimed)
                    return

    # --- Storing ---

    def _store(self, consumer: Consumer, messages: Sequence[Message]) -> bool:
        """Store what came, then acknowledge it; False where the source was paused."""

        def commit(entries: Sequence[bulk.Entry]) -> None:
            jobs.held(self._claimed)
            self._keep(consumer, messages, entries)

        items = [item_from(self._row, message, row) for row, message in enumerate(messages)]
        written = self._writer.write(items, commit)
        if written.stopped_at:
            consumer.commit(messages[: written.stopped_at])
            self._count += written.stopped_at
        if written.problem is not None:
            self._pause(_("%(detail)s Then resume this source.") % {"detail": written.problem.detail})
            return False
        if any(entry.outcome == bulk.FAILED for entry in written.entries) and self._has_too_many_letters():
            self._pause(
                _(
                    "%(most)s items became no asset. Look at the dead letters, delete them, and resume this source."
                )
                % {"most": f"{MOST_LETTERS:,}"}
            )
            return False
        return True

    def _keep(self, consumer: Consumer, messages: Sequence[Message], entries: Sequence[bulk.Entry]) -> None:
        """Position, figures and dead letters, in the transaction that stores these entries."""
        letters = [
            letter_of(self._row, messages[one.row], one) for one in entries if one.outcome == bulk.FAILED
        ]
        StreamDeadLetter.objects.bulk_create(letters, ignore_conflicts=True)
        # All before the first of them are stored, and the consumer was not told yet.
        position = consumer.behind(messages[: entries[-1].row + 1])
        counted = [entry.outcome for entry in entries]
        added = counted.count(bulk.IMPORTED)
        StreamSource.objects.filter(pk=self._row.pk).update(
            position=position,
            stored=F("stored") + added,
            refused=F("refused") + len(letters),
            duplicate=F("duplicate") + len(counted) - added - len(letters),
            last_item_at=timezone.now(),
            problem="",
            failures=0,
        )

    def _has_too_many_letters(self) -> bool:
        with tenant_scope(self._claimed.tenant_id):
            return sources.list_letters(self._row.id).count() >= MOST_LETTERS

    # --- Its state ---

    def _is_active(self) -> bool:
        with tenant_scope(self._claimed.tenant_id):
            state = sources.list_sources().filter(pk=self._row.pk).values_list("state", flat=True).first()
        return state == State.ACTIVE

    def _look(self, consumer: Consumer) -> None:
        """Tell how far it is. Raises LeaseLost, Cancelled."""
        self._looked_at = time.monotonic()
        if self._count != self._told:
            self._told = self._count
            jobs.progress(self._claimed, renew=True, done=self._count, total=self._count)
        elif not jobs.is_wanted(self._claimed):
            raise jobs.Cancelled
        self._update(lag=consumer.lag(), failures=0, **({"problem": ""} if self._row.failures else {}))
        self._row.failures = 0

    def _update(self, **columns: Any) -> None:
        with tenant_scope(self._claimed.tenant_id):
            jobs.held(self._claimed)
            StreamSource.objects.filter(pk=self._row.pk).update(**columns)

    def _wait(self, error: BrokerAway) -> None:
        """Try again after a while, without a place meanwhile."""
        failures = self._row.failures + 1
        self._update(failures=failures, problem=_("%(detail)s It is tried again.") % {"detail": error.detail})
        jobs.give_turn(self._claimed, delay_s=min(MOST_WAIT_S, 2.0 ** min(failures, 10)))

    def _pause(self, problem: str) -> None:
        with tenant_scope(self._claimed.tenant_id):
            jobs.held(self._claimed)
            rows = StreamSource.objects.filter(pk=self._row.pk)
            rows.update(state=State.PAUSED, problem=problem[:500])
            record(actor="system", verb="stream_source.paused", target=str(self._row.id))
            jobs.succeed(self._claimed, result=self._result(), cpu_s=0, gpu_s=0, used={})

    def _end(self) -> bool:
        """End the job of a source that is paused or gone; False if it was resumed just now."""
        with tenant_scope(self._claimed.tenant_id):
            jobs.held(self._claimed)
            row = StreamSource.objects.select_for_update().filter(pk=self._row.pk).first()
            if (
                row is not None
                and row.state == State.ACTIVE
                and sources.list_sources().filter(pk=row.pk).exists()
            ):
                return False
            jobs.succeed(self._claimed, result=self._result(), cpu_s=0, gpu_s=0, used={})
            return True

    def _result(self) -> dict[str, Any]:
        return {"source": str(self._row.id), "read": self._count}


def _others_wait() -> bool:
    return JobDispatch.objects.filter(queue__in=("media", "import"), waiting=True).exists()


# --- From messages to items --------------------------------------------------------------------------------


def writer_of(row: StreamSource) -> StreamWriter:
    replace = row.on_change == StreamSource.OnChange.REPLACE
    return StreamWriter(row.tenant_id, row.dataset_id, replace=replace, actor=f"stream:{row.id.hex[-12:]}")


def item_from(row: StreamSource, message: Message, number: int) -> Item:
    """A message as an item by the source's mapping; what is wrong with it becomes its `error`."""
    try:
        if len(message.body) > MAX_LINE:
            raise Malformed(f"An item has at most {MAX_LINE // 1024} kB.")
        found = message.record(row.mapping.get("body", ""))
        return item_of(_mapped(found, row.mapping), number, derived=_derived(row, message))
    except Invalid as error:
        return Item(row=number, name=message.position, error=error.detail)


def _mapped(found: Mapping[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    item = {role: found.get(name) for role, name in mapping.items() if role in ("id", "text")}
    name = mapping.get("metadata", "")
    if name == "*":
        item["metadata"] = {key: value for key, value in found.items() if key not in mapping.values()}
    elif isinstance(values := found.get(name), str):
        try:
            item["metadata"] = json.loads(values)
        except (ValueError, RecursionError) as error:
            raise Invalid("Metadata is an object.") from error
    else:
        item["metadata"] = values
    return item


def _derived(row: StreamSource, message: Message) -> str:
    """The id of an item that names none: by its place in the stream, or its content."""
    if message.known_as.startswith("content:"):
        return message.known_as
    return f"stream:{row.id.hex[-12:]}:{message.known_as}"[:200]


def letter_of(row: StreamSource, message: Message, entry: bulk.Entry) -> StreamDeadLetter:
    body = message.body.decode("utf-8", "replace").replace("\0", "\ufffd")
    return StreamDeadLetter(
        source=row,
        dataset_id=row.dataset_id,
        position=message.position[:120],
        external_id=entry.external_id[:200],
        slug=entry.slug,
        reason=entry.reason,
        body=body[:MAX_BODY],
        whole=len(body) <= MAX_BODY,
    )


# --- Replaying -------------------------------------------------------------------------------------------


def replay_letters(
    *, tenant_id: uuid.UUID, source_id: uuid.UUID, letter_ids: Sequence[uuid.UUID] | None, actor: str
) -> tuple[int, int]:
    """Try dead letters again (None: the oldest ones), at most MOST_REPLAYED: how many were stored, and are left.

    Those that are stored, or known, are deleted; others say why they are refused now. In no scope. Raises NotFound,
    QuotaExceeded.
    """
    with tenant_scope(tenant_id):
        row = sources.get_source(source_id)
        rows = sources.list_letters(source_id).filter(whole=True).order_by("id")
        if letter_ids is not None:
            rows = rows.filter(pk__in=letter_ids)
        letters = list(rows[:MOST_REPLAYED])
    if not letters:
        return 0, 0

    def commit(entries: Sequence[bulk.Entry]) -> None:
        done = [letters[entry.row].pk for entry in entries if entry.outcome != bulk.FAILED]
        StreamDeadLetter.objects.filter(pk__in=done).delete()
        for entry in entries:
            if entry.outcome == bulk.FAILED:
                told = {"reason": entry.reason, "slug": entry.slug}
                StreamDeadLetter.objects.filter(pk=letters[entry.row].pk).update(**told)
        StreamSource.objects.filter(pk=source_id).update(stored=F("stored") + len(done))
        record(actor=actor, verb="stream_source.letters_replayed", target=str(source_id))

    items = [item_from(row, _message_of(row, letter), number) for number, letter in enumerate(letters)]
    written = writer_of(row).write(items, commit)
    if written.problem is not None:
        raise written.problem
    stored = sum(entry.outcome != bulk.FAILED for entry in written.entries)
    return stored, len(letters) - stored


def _message_of(row: StreamSource, letter: StreamDeadLetter) -> Message:
    fields = None
    if row.kind == StreamSource.Kind.REDIS:
        try:
            fields = json.loads(letter.body)
        except ValueError:
            fields = {}
    known_as = letter.position
    if known_as.startswith("sha256:"):
        known_as = f"content:{known_as.removeprefix('sha256:')}"
    return Message(position=letter.position, body=letter.body.encode(), known_as=known_as, fields=fields)
