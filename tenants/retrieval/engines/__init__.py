"""Engines outside of this process that hold copies of generations: which there are, opening and removing.

There is none at present: what a distributed one has to meet is in `contract`, and the tests keep it true with a slow
one in another process. Searches, builds and upkeep know of engines only what stands here.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Collection, Iterator

from django.db import DatabaseError, connection, transaction

from tenants.retrieval.engines.contract import Engine, EngineMissing, ExternalSegment, SegmentGone
from tenants.retrieval.index import signals
from tenants.retrieval.index.registry import NotHere, folder_of
from tenants.retrieval.models import IndexGeneration
from tenants.retrieval.types import LEFT, Current
from tenants.scope import current_tenant_id

__all__ = [
    "ENGINES",
    "LEFT",
    "EngineMissing",
    "ExternalSegment",
    "SegmentGone",
    "is_there",
    "of_tenant",
    "opened_segment",
    "tidy",
]

log = logging.getLogger(__name__)

ENGINES: dict[str, Engine] = {}
_repairing: set[uuid.UUID] = set()
_lock = threading.Lock()


def opened_segment(engine: str, current: Current) -> ExternalSegment:
    """The published segment. In the tenant's scope. Raises NotHere, and has it repaired, where it is missing."""
    generation = IndexGeneration.objects.filter(pk=current.id).first()
    segment = (
        ENGINES[engine].open(
            generation.pk, seq=generation.seq, details={**generation.details, "rows": generation.vectors}
        )
        if generation and engine in ENGINES
        else None
    )
    if segment is None:
        _repair(current_tenant_id(), current.id)
        raise NotHere
    return segment


def is_there(generation: IndexGeneration) -> bool:
    """Whether what a generation is made of exists: its files, or its copy. In the tenant's scope."""
    if generation.is_external:
        return generation.engine in ENGINES and ENGINES[generation.engine].is_there(generation.pk)
    return (folder_of(generation.tenant_id, generation.pk) / "manifest.json").exists()


def of_tenant() -> Iterator[tuple[Engine, uuid.UUID]]:
    """Every copy of the active tenant, also one that nothing refers to."""
    for engine in ENGINES.values():
        for segment_id, _size in list(engine.segments()):
            yield engine, segment_id


def tidy(kept: Collection[str]) -> None:
    """Remove the active tenant's copies but those whose ids are kept; one that is in use stays until the next time."""
    for engine, segment_id in of_tenant():
        if str(segment_id) not in kept:
            try:
                with transaction.atomic():
                    engine.drop(segment_id)
            except DatabaseError:
                log.warning("a copy could not be dropped", extra={"copy": str(segment_id)}, exc_info=True)


def _repair(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> None:
    """In a thread and a transaction of its own: that of the search which noticed may be rolled back."""
    with _lock:
        if generation_id in _repairing:
            return
        _repairing.add(generation_id)

    def run() -> None:
        try:
            signals.damaged(tenant_id=tenant_id, generation_id=generation_id, reason="the copy is gone")
        except Exception:
            # Upkeep looks for missing copies as well.
            log.exception("the repair of an index could not be begun")
        finally:
            with _lock:
                _repairing.discard(generation_id)
            connection.close()

    threading.Thread(target=run, name="repair-index", daemon=True).start()
