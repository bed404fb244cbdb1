"""Items of a stream as assets: prepared in bulk, stored in one transaction with whatever else says how far it came.

Exactly once in effect: an item has an external id, and who sends it again finds the asset that is there. What an
import does with a batch of rows is done here with a batch of items (`transfer.import_batches`, `assets.bulk`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.db import OperationalError, transaction
from django.utils.translation import gettext

from tenants.accounts import quotas, trials
from tenants.accounts.models import Tenant
from tenants.datasets.importers import Item
from tenants.errors import Invalid, QuotaExceeded, ServiceError, Unavailable
from tenants.pipeline.assets import bulk
from tenants.pipeline.assets.embedding import SWITCHES
from tenants.pipeline.assets.uploads import MAX_EXTERNAL_ID
from tenants.pipeline.transfer.import_batches import Batch, prepare_again
from tenants.retrieval import model_routing
from tenants.retrieval.index import ModelSwitched
from tenants.scope import tenant_scope

#: Items and bytes that are stored at once; bytes of one item.
MAX_ITEMS, MAX_BYTES, MAX_LINE = 256, 1 << 20, 512 << 10
#: Of two transactions that wait for each other Postgres ends one; it is tried again.
TRIES = 3

_decoder = msgspec.json.Decoder()
#: Shared by all streams of a process: preparing computes.
_pool = ThreadPoolExecutor(settings.STREAM_THREADS, "prepare-stream")

Committing = Callable[[Sequence[bulk.Entry]], None]


class Malformed(Invalid):
    """A line that is no item."""

    slug, title = "malformed", "The line cannot be read"


@dataclass(frozen=True)
class Written:
    """What became of a batch. From `stopped_at` on nothing was tried, for the reason `problem`."""

    entries: list[bulk.Entry]
    stopped_at: int
    problem: ServiceError | None = None


def read_line(line: bytes, row: int) -> Item:
    """A line of NDJSON: `{"id", "text", "metadata"?, "key"?}`. Raises Malformed, Invalid."""
    if len(line) > MAX_LINE:
        raise Malformed(f"A line has at most {MAX_LINE // 1024} kB.")
    try:
        found = _decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Malformed("The line is not JSON in UTF-8.") from error
    if not isinstance(found, dict):
        raise Malformed('A line is an object: {"id": "…", "text": "…"}.')
    if unknown := sorted(found.keys() - {"id", "text", "metadata", "key"}):
        raise Malformed(f"Unknown field {unknown[0][:60]!r}: there are id, text, metadata and key.")
    return item_of(found, row)


def item_of(found: Mapping[str, Any], row: int, *, derived: str = "") -> Item:
    """An item by its fields; `derived` is the id of one that names none. Raises Invalid."""
    external_id = found.get("id")
    if isinstance(external_id, int) and not isinstance(external_id, bool):
        external_id = str(external_id)
    external_id = external_id or derived
    if not isinstance(external_id, str) or not 1 <= len(external_id) <= MAX_EXTERNAL_ID:
        raise Invalid(
            f"An item has an id, a text of 1 to {MAX_EXTERNAL_ID} characters that is its own: by it an item that is "
            "sent again is known.",
            pointer="/id",
        )
    text, values = found.get("text"), found.get("metadata")
    if not isinstance(text, str) or not text.strip():
        raise Invalid("Send the text of the item.", pointer="/text")
    if values is not None and not isinstance(values, dict):
        raise Invalid("Metadata is an object.", pointer="/metadata")
    return Item(row=row, name=f"line {row}", external_id=external_id, text=text, metadata=dict(values or {}))


class StreamWriter:
    """Stores what one stream brings. Of one thread at a time.

    `replace`: other content under the same id takes the place of what it stood for; else it is refused.
    """

    def __init__(self, tenant_id: uuid.UUID, dataset_id: uuid.UUID, *, replace: bool, actor: str) -> None:
        self._tenant_id, self._dataset_id = tenant_id, dataset_id
        self._replace, self._actor = replace, actor
        # Processor time that was spent and is not charged yet.
        self._owed_s = 0.0
        # How many of the batch at hand are stored.
        self._done = 0

    def write(self, items: Sequence[Item], commit: Committing | None = None) -> Written:
        """Store items in their order; each has its outcome once this returns, and the commit is done.

        `commit` is called in each transaction with the entries that it stores. Where the plan's quota ends, what fits
        is stored and the rest not tried. Raises NotFound for a dataset that is gone, TrialEnded, Unavailable,
        StorageFull, OperationalError, and then stored nothing of what has no outcome yet.
        """
        batch, self._done = Batch(), 0
        for item in items:
            batch.add(item, Path(settings.SPOOL_DIR))
        entries = batch.entries
        try:
            with tenant_scope(self._tenant_id):
                # A stream outlives the request or the job that it began with.
                tenant = Tenant.objects.get(pk=self._tenant_id)
                if tenant.trial_ends_at is not None and trials.is_over(tenant):
                    raise trials.ended(tenant.trial_ends_at)
                quotas.check_room({"cpu_s": self._owed_s})
                # What follows a second version of the same id is sorted out once that is stored.
                bulk.sort_out(self._dataset_id, self._segments(entries)[0], replace=self._replace)
            batch.prepare(_pool, model_routing.opened_spaces(self._tenant_id))
            self._owed_s += batch.finish()
            self._store(entries, commit)
        except QuotaExceeded as error:
            return Written(entries, self._done, error)
        return Written(entries, len(entries))

    def _segments(self, entries: Sequence[bulk.Entry]) -> list[list[bulk.Entry]]:
        """Parts in which no id occurs twice, where versions of one take each other's place."""
        parts: list[list[bulk.Entry]] = [[]]
        seen: set[str] = set()
        for entry in entries:
            if self._replace and entry.external_id in seen:
                parts.append([])
                seen = set()
            seen.add(entry.external_id)
            parts[-1].append(entry)
        return parts

    def _store(self, entries: Sequence[bulk.Entry], commit: Committing | None) -> None:
        """All of them, or over quota as many as fit; then raises QuotaExceeded."""
        try:
            self._store_at_once(entries, commit)
        except QuotaExceeded:
            if len(entries) == 1:
                raise
            middle = len(entries) // 2
            self._store(entries[:middle], commit)
            self._store(entries[middle:], commit)

    def _store_at_once(self, entries: Sequence[bulk.Entry], commit: Committing | None) -> None:
        before = [_Outcome.of(entry) for entry in entries]
        for _round in range(SWITCHES):
            try:
                self._store_prepared(entries, commit)
                return
            except (bulk.NotPrepared, ModelSwitched):
                _undo(entries, before)
                self._owed_s += prepare_again(entries, model_routing.opened_spaces(self._tenant_id))
            except BaseException:
                _undo(entries, before)
                raise
        raise Unavailable(gettext("The models of this workspace are changing."))

    def _store_prepared(self, entries: Sequence[bulk.Entry], commit: Committing | None) -> None:
        before = [_Outcome.of(entry) for entry in entries]
        for left in reversed(range(TRIES)):
            try:
                with tenant_scope(self._tenant_id), transaction.atomic():
                    for part in self._segments(entries):
                        bulk.store(
                            dataset_id=self._dataset_id,
                            entries=part,
                            replace=self._replace,
                            actor=self._actor,
                        )
                    if commit is not None:
                        commit(entries)
                    quotas.charge(amounts={"cpu_s": self._owed_s})
                self._owed_s = 0.0
                self._done += len(entries)
                return
            except OperationalError as error:
                _undo(entries, before)
                if not left or not _deadlock(error):
                    raise


@dataclass(frozen=True)
class _Outcome:
    """What a transaction sets of an entry, to be set back where it is undone."""

    outcome: str
    reason: str
    slug: str
    asset_id: uuid.UUID | None
    same_as: bulk.Entry | None

    @classmethod
    def of(cls, entry: bulk.Entry) -> _Outcome:
        return cls(entry.outcome, entry.reason, entry.slug, entry.asset_id, entry.same_as)


def _undo(entries: Sequence[bulk.Entry], before: Sequence[_Outcome]) -> None:
    for entry, was in zip(entries, before, strict=True):
        entry.outcome, entry.reason, entry.slug = was.outcome, was.reason, was.slug
        entry.asset_id, entry.same_as = was.asset_id, was.same_as


def _deadlock(error: OperationalError) -> bool:
    return getattr(error.__cause__, "pgcode", "") in ("40P01", "40001")
