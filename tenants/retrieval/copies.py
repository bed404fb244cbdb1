"""Copies of tenants' vectors in other engines: which engines there are, and opening, checking and removing copies."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Collection, Iterator

from django.db import DatabaseError, connection, transaction
from django.utils.translation import gettext as _

from tenants.errors import Invalid
from tenants.retrieval.engines import Copy, Engine
from tenants.retrieval.models import IndexGeneration, IndexPointer
from tenants.retrieval.opened import NotHere, folder_of
from tenants.retrieval.opening import Current
from tenants.retrieval.pgvector import Pgvector
from tenants.scope import current_tenant_id

log = logging.getLogger(__name__)

ENGINES: dict[str, Engine] = {IndexPointer.Engine.PGVECTOR: Pgvector()}
_repairing: set[uuid.UUID] = set()
_lock = threading.Lock()


def engine_of(name: str) -> Engine:
    """Raises Invalid for one that is not known."""
    if name not in ENGINES:
        raise Invalid(
            _("Engines are %(names)s; %(name)s is none of them.")
            % {"names": ", ".join(IndexPointer.Engine.values), "name": f"{name!r}"},
            "/to",
        )
    return ENGINES[name]


def opened_copy(engine: str, current: Current) -> Copy:
    """The copy that is published. In the tenant's scope. Raises NotHere, and has it repaired, where it is missing."""
    generation = IndexGeneration.objects.filter(pk=current.id).first()
    copy = generation and ENGINES[engine].open(
        generation.pk, seq=generation.seq, details={**generation.details, "rows": generation.vectors}
    )
    if not copy:
        _repair(current_tenant_id(), current.id)
        raise NotHere
    return copy


def is_there(generation: IndexGeneration) -> bool:
    """Whether what a generation is made of exists: its files, or its copy. In the tenant's scope."""
    if generation.engine in ENGINES:
        return ENGINES[generation.engine].is_there(generation.pk)
    return (folder_of(generation.tenant_id, generation.pk) / "manifest.json").exists()


def of_tenant() -> Iterator[tuple[Engine, uuid.UUID]]:
    """Every copy of the active tenant, also one that nothing refers to."""
    for engine in ENGINES.values():
        for copy_id, _size in list(engine.copies()):
            yield engine, copy_id


def tidy(kept: Collection[str]) -> None:
    """Remove the active tenant's copies but those whose ids are kept; one that is in use stays until the next time."""
    for engine, copy_id in of_tenant():
        if str(copy_id) not in kept:
            try:
                with transaction.atomic():
                    engine.drop(copy_id)
            except DatabaseError:
                log.warning("a copy could not be dropped", extra={"copy": str(copy_id)}, exc_info=True)


def _repair(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> None:
    """In a thread and a transaction of its own: that of the search which noticed may be rolled back."""
    with _lock:
        if generation_id in _repairing:
            return
        _repairing.add(generation_id)

    def run() -> None:
        # Imported here: what repairs an index stands above what reads it.
        from tenants.retrieval import lifecycle

        try:
            lifecycle.repair(tenant_id=tenant_id, generation_id=generation_id, reason="the copy is gone")
        except Exception:
            # Upkeep looks for missing copies as well.
            log.exception("the repair of an index could not be begun")
        finally:
            with _lock:
                _repairing.discard(generation_id)
            connection.close()

    threading.Thread(target=run, name="repair-index", daemon=True).start()
