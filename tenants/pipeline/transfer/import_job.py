"""The job of an import: read, prepare beside that, store in batches, each with its lines of the receipt.

A batch, its receipt and the position after it are one transaction, so a killed attempt loses nothing that was
stored and stores nothing twice. After a death rows are taken one by one, and the row that kills twice is passed over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction
from django.utils.translation import gettext, gettext_lazy
from django.utils.translation import gettext as _

from tenants.accounts import quotas
from tenants.datasets import importers
from tenants.datasets.models import Import, ImportRow
from tenants.errors import QuotaExceeded, ServiceError, Unavailable
from tenants.events.services import record
from tenants.jobs import fair_queue, job_log
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.pipeline.assets import bulk
from tenants.pipeline.assets.embedding import SWITCHES
from tenants.pipeline.assets.uploads import MAX_CAPTIONS
from tenants.pipeline.transfer import import_receipts, import_sources, imports
from tenants.pipeline.transfer.import_batches import FULL, Batch, prepare_again, read_batches
from tenants.retrieval import model_routing
from tenants.retrieval.index import ModelSwitched
from tenants.scope import tenant_scope

# Its places are its own, whatever waits in other queues (`standalone.programs`).
QUEUE = "import"
# How long an import may keep its place while others wait for one.
TURN_S = 20.0
POSTPONE_S = 5.0
# One attempt among others, two at the row that ends them, and one that passes over it.
ATTEMPTS = 4


@job(
    "import_assets",
    queue=QUEUE,
    label=gettext_lazy("Import"),
    max_attempts=ATTEMPTS,
    on_end=imports.on_end,
    kept=True,
)
def run_import(claimed: jobs.Claim) -> None:
    """Import what is left of this job's source. Raises ServiceError for a source that cannot be read on."""
    with tenant_scope(claimed.tenant_id):
        found = Import.objects.select_related("dataset").filter(dataset__deleted_at=None)
        row = found.filter(pk=claimed.arguments["import"]).first()
        busy = row is not None and _has_older_job(claimed)
    if row is None:
        jobs.succeed(claimed, result={"note": "The dataset was deleted."}, cpu_s=0, gpu_s=0, used={})
    elif busy:
        # One import of a tenant at a time: a tenant with many does not take every place.
        jobs.give_turn(claimed, delay_s=POSTPONE_S)
    else:
        ImportRun(claimed, row).run()


def _has_older_job(claimed: jobs.Claim) -> bool:
    others = Job.objects.filter(kind=claimed.kind, state=Job.State.RUNNING)
    return others.filter(pk__lt=claimed.job_id).exists()


class ImportRun:
    """One attempt at an import."""

    def __init__(self, claimed: jobs.Claim, row: Import) -> None:
        self._claimed, self._row = claimed, row
        self._began = time.monotonic()
        self._pace = job_log.ThrottledLog(claimed)
        # The rows at which an earlier attempt may have died: what it was preparing and what it had read ahead.
        self._alone = 2 * (FULL + MAX_CAPTIONS) if claimed.attempt > 1 else 0

    def run(self) -> None:
        self._check_cpu()
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(dir=settings.SPOOL_DIR, prefix="import-")))
            pool = stack.enter_context(ThreadPoolExecutor(settings.IMPORT_THREADS, "prepare"))
            batches = read_batches(self._items(stack), folder, alone=self._alone)
            try:
                whole = self._store_batches(batches, pool)
            except (ServiceError, jobs.Cancelled, OperationalError, InterfaceError):
                # The row that was tried is not at fault: the next attempt tries it again.
                with suppress(OperationalError, InterfaceError):
                    self._set_trying(0)
                raise
        if whole:
            self._finish()
        else:
            self._check_cpu()
            jobs.give_turn(self._claimed)

    def _check_cpu(self) -> None:
        """Raises QuotaExceeded once the month's processor time is spent, also by this job so far."""
        with tenant_scope(self._claimed.tenant_id):
            spent = Job.objects.values_list("cost_cpu_s", flat=True).get(pk=self._claimed.job_id)
            quotas.check_room({"cpu_s": spent})

    def _items(self, stack: ExitStack) -> Iterator[importers.Item]:
        row = self._row
        place = stack.enter_context(import_sources.source_of(row))
        reading = importers.open_items(
            place,
            row.format,
            mapping=row.mapping,
            options=row.options,
            after=row.position,
            schema=row.dataset.metadata_schema,
            secret=import_sources.secret_of(row),
        )
        return stack.enter_context(reading)

    def _store_batches(self, batches: Iterator[Batch], pool: ThreadPoolExecutor) -> bool:
        """Store one batch while the next is prepared. False if the turn ended before the source did."""
        waiting: Batch | None = None
        for batch in batches:
            self._prepare_batch(batch, pool)
            if waiting is not None:
                self._store(waiting)
            waiting = batch
            if batch.alone:
                self._store(batch)
                waiting = None
            if self._turn_is_over():
                break
        else:
            self._store(waiting)
            return True
        self._store(waiting)
        return False

    def _prepare_batch(self, batch: Batch, pool: ThreadPoolExecutor) -> None:
        with tenant_scope(self._claimed.tenant_id):
            if batch.alone:
                self._mark_trying(batch)
            bulk.sort_out(self._row.dataset_id, batch.entries)
        batch.prepare(pool, model_routing.opened_spaces(self._claimed.tenant_id))

    def _mark_trying(self, batch: Batch) -> None:
        """Say which row is tried, before it is: negative for the second time, as a worker may end for other reasons. If
        it ends this process twice, the next attempt passes over it."""
        entry = batch.entries[0]
        seen = Import.objects.get(pk=self._row.pk)
        if seen.trying == -entry.row and entry.open:
            entry.fail("The worker stopped twice while it read this row.")
        self._set_trying(-entry.row if abs(seen.trying) == entry.row else entry.row)

    def _set_trying(self, row: int) -> None:
        with tenant_scope(self._claimed.tenant_id):
            Import.objects.filter(pk=self._row.pk).update(trying=row)

    def _store(self, batch: Batch | None) -> None:
        if batch is None:
            return
        try:
            jobs.spend(self._claimed, cpu_s=batch.finish())
            self._store_entries(batch.entries)
        finally:
            batch.clear()
        row = self._row
        failed, done = row.failed, row.imported + row.merged + row.duplicate + row.failed
        jobs.progress(self._claimed, renew=True, done=done, total=max(row.total or 0, done), failed=failed)
        merged = f" {row.merged:,} merged," if row.merged else ""
        counts = f"{row.imported:,} imported,{merged} {row.duplicate:,} known, {failed:,} failed"
        self._pace.write(f"Up to row {row.position:,}: {counts}.")

    def _store_entries(self, entries: list[bulk.Entry]) -> None:
        """All of them, or over quota as many as fit. Raises QuotaExceeded and names the row that did not."""
        try:
            self._store_at_once(entries)
        except QuotaExceeded as error:
            if len(entries) == 1:
                raise QuotaExceeded(
                    _("Stopped before %(name)s: %(detail)s Then retry the job.")
                    % {"name": entries[0].name, "detail": error.detail},
                    **error.extra,
                ) from error
            middle = len(entries) // 2
            self._store_entries(entries[:middle])
            self._store_entries(entries[middle:])

    def _store_at_once(self, entries: list[bulk.Entry]) -> None:
        for _round in range(SWITCHES):
            try:
                self._store_prepared(entries)
                return
            except (ModelSwitched, bulk.NotPrepared):
                # Another model began to answer since they were prepared, or an asset that they go to has changed.
                made = model_routing.opened_spaces(self._claimed.tenant_id)
                jobs.spend(self._claimed, cpu_s=prepare_again(entries, made))
        raise Unavailable(gettext("The models of this workspace are changing."))

    def _store_prepared(self, entries: list[bulk.Entry]) -> None:
        with tenant_scope(self._claimed.tenant_id):
            if jobs.held(self._claimed).cancel_requested:
                raise jobs.Cancelled
            with transaction.atomic():
                bulk.store(dataset_id=self._row.dataset_id, entries=entries, parent=self._claimed.job_id)
            ImportRow.objects.bulk_create(self._receipt_lines(entries))
            self._advance(entries)

    def _receipt_lines(self, entries: list[bulk.Entry]) -> Iterator[ImportRow]:
        failed = self._row.failed
        for entry in entries:
            line = _receipt_line(self._row, entry)
            if line.outcome == ImportRow.Outcome.FAILED:
                failed += 1
                line.record = (
                    import_receipts.kept(entry.record) if failed <= import_receipts.MAX_KEPT_ROWS else None
                )
            yield line

    def _advance(self, entries: list[bulk.Entry]) -> None:
        row = self._row
        counted = {
            outcome: sum(entry.outcome == outcome for entry in entries)
            for outcome in ImportRow.Outcome.values
        }
        changed = {name: getattr(row, name) + count for name, count in counted.items()}
        changed |= {"position": entries[-1].row, "trying": 0}
        Import.objects.filter(pk=row.pk).update(**changed)
        for name, value in changed.items():
            setattr(row, name, value)

    def _turn_is_over(self) -> bool:
        try:
            self._check_cpu()
        except QuotaExceeded:
            return True
        if time.monotonic() - self._began < TURN_S:
            return False
        return fair_queue.is_waiting(QUEUE)

    def _finish(self) -> None:
        with tenant_scope(self._claimed.tenant_id):
            result = imports.result_of(self._row)
            jobs.succeed(self._claimed, result=result, cpu_s=0, gpu_s=0, used={})
            Import.objects.filter(pk=self._row.pk).update(total=_rows_of(result))
            record(actor=self._row.created_by, verb="import.finished", target=str(self._row.id))
        with tenant_scope(self._claimed.tenant_id):
            # After the commit: a file that is gone must not belong to an import that is not done.
            import_sources.forget_source(self._row)


def _rows_of(result: dict) -> int:
    return sum(result[name] for name in ImportRow.Outcome.values)


def _receipt_line(row: Import, entry: bulk.Entry) -> ImportRow:
    return ImportRow(
        job_import=row,
        row=entry.row,
        name=entry.name[:300],
        outcome=entry.outcome,
        asset_id=entry.asset_id,
        reason=entry.reason,
    )
