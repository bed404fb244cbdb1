"""Adding many assets in one transaction: what `services.add_asset` does for one, in a handful of statements.

Rows come prepared (decoded and encoded), so a stored asset is ready at once and needs no job of its own.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import F

from tenants.accounts import quotas
from tenants.datasets import event_payloads, holds, metadata
from tenants.datasets.models import Asset, Blob, Dataset, Facet, TranscriptSegment
from tenants.datasets.selectors import copies_of
from tenants.datasets.services import learn_schema, lock_dataset, write_blob
from tenants.errors import Conflict, Held, Invalid
from tenants.events.services import record
from tenants.learning.classifiers.scoring import score_assets
from tenants.moderation import policies
from tenants.moderation.reviews.effects import QUARANTINED
from tenants.pipeline.assets.embedding import (
    MEDIA,
    findings,
    keep_renditions,
    lexical_entry,
    modality_of,
    transcript_rows,
)
from tenants.pipeline.assets.prepared import Prepared
from tenants.pipeline.assets.services import erase_rows, has_captions, meter, replace_captions
from tenants.pipeline.assets.uploads import (
    EXCERPT,
    MAX_CAPTIONS,
    MAX_CAPTIONS_LENGTH,
    Upload,
    fits,
    vectors_of,
)
from tenants.pipeline.audits import audit_requests
from tenants.retrieval import query, standing
from tenants.retrieval.index import add_vectors
from tenants.scope import current_tenant_id

# The columns of a blob that decoding and scanning fill.
FOUND = ("scan", "media_type", "width", "height", "has_thumbnail", "clean_type", "details", "document")
IMPORTED, MERGED, DUPLICATE, FAILED = "imported", "merged", "duplicate", "failed"


# How the ids of rows begin that have none of their own (`batches`).
DERIVED = "content:"
TOO_MANY = f"An asset has at most {MAX_CAPTIONS} captions, of {MAX_CAPTIONS_LENGTH:,} characters together."


class NotPrepared(Exception):
    """Rows have to be prepared anew: what they were to be added to has changed since."""


@dataclass
class Entry:
    """One row: what to add, and in the end what became of it (`asset_id` also of the one that was there before).

    `path` is the local file of anything but a text; storage takes it over.
    """

    row: int
    name: str
    external_id: str = ""
    # Whether the source names its external_id; else it was derived from the content.
    has_id: bool = True
    upload: Upload | None = None
    path: Path | None = None
    values: dict[str, Any] = field(default_factory=dict)
    # The row of a table as it was read.
    record: dict[str, Any] = field(default_factory=dict)
    # What it is to be prepared for.
    spaces: query.Spaces = field(default_factory=dict)
    prepared: Prepared | None = None
    outcome: str = ""
    reason: str = ""
    asset_id: uuid.UUID | None = None
    # The earlier row of the same batch that this one repeats, or whose asset its captions go to.
    same_as: Entry | None = None
    # The stored asset that its captions go to.
    adds_to: uuid.UUID | None = None
    # The stored asset whose place it takes, where other content under the same external_id is a later version of it.
    replaces: uuid.UUID | None = None
    # The problem that `reason` tells of.
    slug: str = Invalid.slug

    @property
    def content(self) -> Upload:
        """What a row that could be read wants to add."""
        if self.upload is None:
            raise RuntimeError(f"row {self.row} was not read")
        return self.upload

    def fail(self, reason: str, slug: str = Invalid.slug) -> None:
        self.outcome, self.reason, self.asset_id, self.slug = FAILED, reason[:500], None, slug

    def repeat(self, asset_id: uuid.UUID) -> None:
        self.outcome, self.asset_id = DUPLICATE, asset_id

    @property
    def open(self) -> bool:
        return not self.outcome

    @property
    def wanted(self) -> bool:
        """It becomes an asset of its own, so that it has to be prepared."""
        return self.open and self.adds_to is None

    def take_captions(self, captions: Sequence[str]) -> None:
        """Beside its own; whatever was prepared lacks them."""
        more = vectors_of(captions)
        upload = self.content
        self.upload = replace(upload, captions=(*upload.captions, *captions), vectors=upload.vectors + more)
        self.prepared = None


def store(
    *,
    dataset_id: uuid.UUID,
    entries: Sequence[Entry],
    parent: uuid.UUID | None = None,
    replace: bool = False,
    actor: str = "import",
) -> None:
    """Add the open entries to a dataset and set their outcomes. In the caller's transaction and scope.

    `parent` is the job that adds them: what it brings about are its parts. With `replace`, content that differs from
    what an external_id stands for takes its place, and the asset before is erased; else it fails.

    Raises NotFound for a dataset that is gone, QuotaExceeded (and stores nothing) if they do not all fit, ModelSwitched
    if they were prepared for models that no longer answer, NotPrepared if what they were prepared as has changed.
    """
    dataset = lock_dataset(dataset_id)
    sort_out(dataset_id, entries, replace=replace)
    if replace:
        _erase_replaced(dataset_id, entries, actor)
    new = [entry for entry in entries if entry.wanted]
    if any(entry.prepared is None for entry in new):
        raise NotPrepared
    if new:
        _add(dataset, new, parent, actor)
    _extend([entry for entry in entries if entry.adds_to], parent)
    _settle_repeated(entries)


def sort_out(dataset_id: uuid.UUID, entries: Sequence[Entry], *, replace: bool = False) -> None:
    """Set the outcomes that need no preparing: of metadata that do not fit, and of what is there already."""
    dataset = Dataset.objects.filter(pk=dataset_id).first()
    if dataset is not None:
        _check_values(dataset.metadata_schema, entries)
        find_duplicates(dataset, entries, replace=replace)


def _erase_replaced(dataset_id: uuid.UUID, entries: Sequence[Entry], actor: str) -> None:
    """Erase what the entries take the place of; under a legal hold they fail instead."""
    later = [entry for entry in entries if entry.open and entry.replaces]
    try:
        if later:
            holds.refuse_held([dataset_id])
    except Held as error:
        for entry in later:
            entry.fail(error.detail, error.slug)
        return
    ids = [entry.replaces for entry in later]
    rows = Asset.objects.select_related("blob").select_for_update(of=("self",)).filter(pk__in=ids)
    if gone := list(rows.order_by("pk")) if ids else []:
        erase_rows(gone)
        for asset in gone:
            record(actor=actor, verb="asset.replaced", target=str(asset.id))


def _add(dataset: Dataset, new: Sequence[Entry], parent: uuid.UUID | None, actor: str) -> None:
    blobs = _keep_blobs(new)
    assets = [_asset(dataset, entry, blobs) for entry in new]
    audits = _audits(new, assets)
    Asset.objects.bulk_create(assets)
    _attach(dataset, new, assets)
    # After the clock, which everyone locks before the counters.
    _charge(new, assets)
    for asset, decides in audits:
        audit_requests.audit_upload(asset, decides, actor=actor, parent=parent)
    event_payloads.created(assets)
    _write_files(new, blobs)
    for entry, asset in zip(new, assets, strict=True):
        entry.outcome, entry.asset_id = IMPORTED, asset.id


def _audits(new: Sequence[Entry], assets: Sequence[Asset]) -> list[tuple[Asset, policies.InForce]]:
    """Which of the new assets a policy audits; those that it audits before they are found are held back."""
    found: list[tuple[Asset, policies.InForce]] = []
    if not policies.is_any_in_force():
        return found
    for entry, asset in zip(new, assets, strict=True):
        sha256 = entry.upload.sha256 if entry.upload else ""
        decides = audit_requests.audits_uploads(modality=asset.modality, sha256=sha256)
        if decides is None:
            continue
        if audit_requests.quarantines(decides):
            asset.moderation, asset.status = QUARANTINED, Asset.State.PENDING
        found.append((asset, decides))
    return found


def _settle_repeated(entries: Sequence[Entry]) -> None:
    """A row that repeats an earlier one shares its fate."""
    for entry in entries:
        if entry.same_as is not None and entry.same_as.outcome == FAILED:
            entry.fail(entry.same_as.reason, entry.same_as.slug)
        elif entry.same_as is not None:
            entry.asset_id = entry.same_as.asset_id


def _check_values(schema: metadata.Schema, entries: Sequence[Entry]) -> None:
    limit = quotas.metadata_limit()
    for entry in entries:
        if entry.open:
            try:
                entry.values = metadata.check_metadata(entry.values, schema, at_most=limit)
            except Invalid as error:
                entry.fail(_sentence(error))


def _sentence(error: Invalid) -> str:
    """A pointer is of no use to someone who reads a receipt; the key is."""
    pointer = error.errors[0]["pointer"].removeprefix("/metadata").strip("/")
    return f"{pointer}: {error.detail}" if pointer else error.detail


def find_duplicates(dataset: Dataset, entries: Sequence[Entry], *, replace: bool = False) -> None:
    """What is not to become an asset of its own: content that is there already (duplicate), further captions of a file
    that is there under the same external_id (merged), and an external_id that stands for other content (failed, or with
    `replace` to take its place)."""
    rows = [entry for entry in entries if entry.open and entry.upload]
    ids = [entry.external_id for entry in rows]
    known = {
        asset.external_id: _StoredAsset(asset.id, asset.blob.sha256, asset.captions, asset.metadata)
        for asset in Asset.objects.select_related("blob").filter(dataset=dataset, external_id__in=ids)
    }
    here = _ContentIndex(dataset, [entry for entry in rows if entry.external_id not in known])
    first: dict[str, Entry] = {}
    for entry in rows:
        entry.adds_to = entry.replaces = None
        if entry.external_id in known and replace and known[entry.external_id].differs(entry):
            entry.replaces = known[entry.external_id].asset_id
        elif entry.external_id in known:
            _compare(entry, known[entry.external_id])
        elif (asset_id := here.stored(entry)) is not None:
            entry.repeat(asset_id)
        elif (earlier := first.setdefault(entry.external_id, entry)) is not entry:
            _compare_within(entry, earlier)
        elif (same := here.read(entry)) is not None:
            _repeat_within(entry, same)


@dataclass
class _StoredAsset:
    """A stored asset, with the captions that it will have after the rows so far."""

    asset_id: uuid.UUID
    sha256: str
    captions: list[str]
    metadata: dict[str, Any]

    def differs(self, entry: Entry) -> bool:
        return (self.sha256, self.metadata) != (entry.content.sha256, entry.values)


class _ContentIndex:
    """What of some rows' content a dataset has already, whatever the external_id.

    All of it counts where the dataset skips duplicates. Else only what came from rows without ids counts for such rows:
    their asset may have been merged into another one, and its derived id gone with it.
    """

    def __init__(self, dataset: Dataset, rows: Sequence[Entry]) -> None:
        self._skips = dataset.duplicates == Dataset.Duplicates.SKIP
        asked = [row for row in rows if self._skips or not row.has_id]
        self._stored = copies_of(dataset.id, {row.upload.sha256 for row in asked if row.upload})
        self._read: dict[str, list[Entry]] = {}

    def stored(self, entry: Entry) -> uuid.UUID | None:
        if self._skips or not entry.has_id:
            for asset in self._stored.get(entry.content.sha256, ()):
                if has_captions(asset, entry.content.captions) and (self._skips or _is_like(entry, asset)):
                    return asset.id
        return None

    def read(self, entry: Entry) -> Entry | None:
        """An earlier row with the same content, where such are skipped."""
        if not self._skips:
            return None
        earlier = self._read.setdefault(entry.content.sha256, [])
        for one in earlier:
            if one.upload and set(entry.content.captions) <= set(one.upload.captions):
                return one
        earlier.append(entry)
        return None


def _is_like(entry: Entry, asset: Asset) -> bool:
    """Whether this asset came from a row without an id, too, and says the same as this row."""
    return (asset.external_id or "").startswith(DERIVED) and asset.metadata == entry.values


def _compare(entry: Entry, known: _StoredAsset) -> None:
    if entry.content.sha256 != known.sha256:
        entry.fail(f"The id {entry.external_id!r} stands for other content in this dataset.", Conflict.slug)
        return
    if not (more := _lacking(known.captions, entry)):
        entry.repeat(known.asset_id)
    elif not fits([*known.captions, *more]):
        entry.fail(TOO_MANY)
    else:
        known.captions = [*known.captions, *more]
        entry.adds_to = known.asset_id


def _compare_within(entry: Entry, earlier: Entry) -> None:
    """The same id twice among rows that are not stored yet: captions of the same file come together."""
    if entry.content.sha256 != earlier.content.sha256:
        entry.fail(f"The id {entry.external_id!r} stands for other content in {earlier.name}.", Conflict.slug)
    elif not (more := _lacking(earlier.content.captions, entry)):
        _repeat_within(entry, earlier)
    elif not fits([*earlier.content.captions, *more]):
        entry.fail(TOO_MANY)
    else:
        earlier.take_captions(more)
        entry.outcome, entry.reason, entry.same_as = MERGED, f"Captions of {earlier.name}.", earlier


def _repeat_within(entry: Entry, earlier: Entry) -> None:
    entry.outcome, entry.reason, entry.same_as = DUPLICATE, f"The same as {earlier.name}.", earlier


def _lacking(captions: Sequence[str], entry: Entry) -> list[str]:
    """Those of the row that are not among these."""
    return [caption for caption in entry.content.captions if caption not in captions]


def _extend(entries: Sequence[Entry], parent: uuid.UUID | None) -> None:
    """Give stored assets the captions of these rows; each asset is embedded once more. Raises QuotaExceeded.

    The assets are locked only now: one that was changed or deleted since `sort_out` looked has its rows sorted anew.
    """
    ids = {entry.adds_to for entry in entries if entry.adds_to}
    rows = Asset.objects.select_related("blob").select_for_update(of=("self",)).filter(pk__in=ids)
    for asset in rows.order_by("pk") if ids else ():
        mine = [entry for entry in entries if entry.adds_to == asset.id]
        captions = list(
            dict.fromkeys([*asset.captions, *(c for e in mine if e.upload for c in e.upload.captions)])
        )
        if not fits(captions):
            raise NotPrepared
        ids.discard(asset.id)
        replace_captions(asset, captions, "import", parent)
        for entry in mine:
            entry.outcome, entry.asset_id = MERGED, asset.id
    if ids:
        raise NotPrepared


def _keep_blobs(new: Sequence[Entry]) -> dict[str, Blob]:
    """The rows of all contents with their new references, locked in the order of their ids."""
    wanted = {entry.upload.sha256: entry.upload for entry in new if entry.upload}
    found: dict[str, Blob] = {}
    while len(found) < len(wanted):
        # Again if the collector removed one in between.
        missing = [wanted[sha] for sha in sorted(wanted.keys() - found.keys())]
        Blob.objects.bulk_create(
            [Blob(sha256=u.sha256, bytes=u.bytes, media_type=u.media_type) for u in missing],
            ignore_conflicts=True,
        )
        rows = Blob.objects.select_for_update().filter(sha256__in=list(wanted)).order_by("pk")
        found = {blob.sha256: blob for blob in rows}
    _count_references(Counter(found[entry.upload.sha256].pk for entry in new if entry.upload))
    return found


def _count_references(uses: Counter[uuid.UUID]) -> None:
    for count in set(uses.values()):
        ids = [pk for pk, n in uses.items() if n == count]
        Blob.objects.filter(pk__in=ids).update(references=F("references") + count)


def _charge(new: Sequence[Entry], assets: Sequence[Asset]) -> None:
    size = sum(entry.upload.bytes for entry in new if entry.upload)
    size += sum(asset.metadata_bytes for asset in assets)
    shown = [entry for entry, asset in zip(new, assets, strict=True) if not asset.moderation]
    vectors = sum(entry.prepared.parts for entry in shown if entry.prepared)
    quotas.charge(amounts={"assets": len(new), "bytes": size, "vectors": vectors})
    transaction.on_commit(partial(meter, current_tenant_id(), {"assets": len(new), "bytes": size}))


def _asset(dataset: Dataset, entry: Entry, blobs: dict[str, Blob]) -> Asset:
    upload, prepared = entry.content, entry.prepared
    if prepared is None:
        raise NotPrepared
    return Asset(
        dataset=dataset,
        blob=blobs[upload.sha256],
        modality=modality_of(upload.modality, prepared),
        status=Asset.State.READY,
        external_id=entry.external_id,
        filename=upload.filename,
        caption=upload.caption,
        more_captions=list(upload.captions[1:]),
        excerpt=prepared.words[:EXCERPT]
        if upload.modality in MEDIA or upload.is_document
        else upload.excerpt,
        metadata=entry.values,
        metadata_bytes=metadata.stored_bytes(entry.values),
    )


def _attach(dataset: Dataset, new: Sequence[Entry], assets: Sequence[Asset]) -> None:
    """Everything that hangs on the new assets."""
    Facet.objects.bulk_create(
        facet
        for asset in assets
        for facet in metadata.facets_of(asset.id, asset.metadata, dataset.metadata_schema)
    )
    learn_schema(dataset, *(entry.values for entry in new))
    prepared = [(asset, entry.prepared) for asset, entry in zip(assets, new, strict=True) if entry.prepared]
    shown = [(asset, what) for asset, what in prepared if asset.moderation != QUARANTINED]
    TranscriptSegment.objects.bulk_create(
        row for asset, what in prepared if what.transcript for row in transcript_rows(asset, what)
    )
    query.index_texts(
        lexical_entry(asset, dataset.metadata_schema, entry.upload.text, entry.prepared)
        for asset, entry in zip(assets, new, strict=True)
        if entry.upload and entry.prepared and asset.moderation != QUARANTINED
    )
    # What is held back is embedded once it is let go.
    made_for = set.intersection(*({*what.spaces} for _, what in shown)) if shown else ()
    add_vectors(vectors=[(asset, what.vectors) for asset, what in shown], made_for=made_for)
    score_assets([asset for asset, _ in shown])
    standing.note_arrivals([asset.id for asset, _ in shown])


def _write_files(new: Sequence[Entry], blobs: dict[str, Blob]) -> None:
    """Last: a batch that is refused must not leave its files behind."""
    decoded: dict[uuid.UUID, Blob] = {}
    for entry in new:
        if entry.upload is None or entry.prepared is None:
            continue
        blob = blobs[entry.upload.sha256]
        if entry.upload.modality != Asset.Modality.TEXT or entry.upload.is_document:
            keep_renditions(blob, entry.prepared)
            for column, value in {"scan": entry.upload.scan, **findings(entry.prepared)}.items():
                setattr(blob, column, value)
            decoded[blob.pk] = blob
        write_blob(blob, entry.path or entry.upload.content)
    # Every row is there: this is an UPDATE. bulk_update would write a CASE for each row and column, which was a fifth
    # of all Python in an import of pictures.
    Blob.objects.bulk_create(
        list(decoded.values()), update_conflicts=True, unique_fields=["id"], update_fields=FOUND
    )
