"""Two versions of a document, clause by clause (`ml.documents.clauses`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from django.utils.translation import gettext as _

from ml.documents import Document
from ml.documents.clauses import (
    MAX_CLAUSES,
    Change,
    Clause,
    TooManyClauses,
    changed_words,
    compare,
    near_duplicates,
    of_text,
)
from tenants.datasets import content_responses, documents, shapes
from tenants.datasets.models import Asset
from tenants.errors import Conflict, Invalid
from tenants.shapes import UNSET

__all__ = ["MAX_CLAUSES", "alike_in", "compare_assets"]

#: Characters of a plain text that are compared.
MAX_TEXT = 1_000_000


def compare_assets(
    before: Asset, after: Asset, *, unchanged: bool = False, start: int = 0, limit: int = 50
) -> shapes.DocumentComparison:
    """What `after` changes; of the changes those from `start` on. Reads files: in no scope.

    Raises Invalid where these are no two documents or texts, or have more than MAX_CLAUSES; Conflict while one of them
    is not read.
    """
    if before.pk == after.pk:
        raise Invalid(_("Choose another document to compare this one with."), pointer="/later_id")
    old, new = _read(before, "/asset_id"), _read(after, "/later_id")
    with _bounded():
        changes = compare(old, new)
    counts = Counter(one.kind for one in changes)
    listed = changes if unchanged else [one for one in changes if one.kind != "same"]
    return shapes.DocumentComparison(
        before=str(before.pk),
        after=str(after.pk),
        counts=shapes.ClauseCounts(
            changed=counts["changed"],
            added=counts["added"],
            removed=counts["removed"],
            moved=counts["moved"],
            same=counts["same"],
        ),
        results=[_change(old, new, one) for one in listed[start : start + limit]],
        next=str(start + limit) if start + limit < len(listed) else None,
    )


def alike_in(asset: Asset, limit: int = 50) -> list[shapes.AlikeClauses]:
    """Clauses of one document that say nearly the same. Raises as `compare_assets`."""
    read = _read(asset, "/asset_id")
    with _bounded():
        pairs = near_duplicates(read)
    return [
        shapes.AlikeClauses(one=_clause(read, one), other=_clause(read, other), alike=alike)
        for one, other, alike in pairs[:limit]
    ]


@contextmanager
def _bounded() -> Iterator[None]:
    try:
        yield
    except TooManyClauses as error:
        raise Invalid(
            _("Documents of up to %(most)s clauses can be compared.") % {"most": MAX_CLAUSES}
        ) from error


def _read(asset: Asset, pointer: str) -> Document:
    if asset.modality != Asset.Modality.TEXT:
        raise Invalid(_("Only documents and texts can be compared."), pointer=pointer)
    if documents.is_document(asset.blob.media_type):
        read = documents.stored(asset.tenant_id, asset.blob.sha256)
        if read is None:
            raise Conflict(_("What is in this document has not been read. Wait until it is ready."))
        return read
    return of_text(content_responses.read_text(asset, 4 * MAX_TEXT)[:MAX_TEXT])


def _change(old: Document, new: Document, change: Change) -> shapes.ClauseChange:
    before = _clause(old, change.before) if change.before else None
    after = _clause(new, change.after) if change.after else None
    differs = before is not None and after is not None and change.alike < 1
    words = changed_words(before.text, after.text) if before and after and differs else None
    return shapes.ClauseChange(
        kind=change.kind,
        alike=change.alike,
        before=before,
        after=after,
        words=UNSET
        if words is None
        else [shapes.ChangedWords(change=what, text=text) for what, text in words],
    )


def _clause(document: Document, clause: Clause) -> shapes.Clause:
    return shapes.Clause(
        number=clause.number or None,
        page=clause.page,
        start_char=clause.start,
        end_char=clause.end,
        text=document.text[clause.start : clause.end],
    )
