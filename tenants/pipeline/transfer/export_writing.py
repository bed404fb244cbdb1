"""Writing an export: a tenant's rows and files as a stream of named files, with flat memory.

Rows are read page by page in short scopes, so what is added or deleted meanwhile may be in the export or not; an
asset whose file went meanwhile is left out by whoever reads it.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from django.conf import settings
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts.models import Membership, Tenant
from tenants.datasets import storage
from tenants.datasets.models import (
    Asset,
    Blob,
    Dataset,
    DatasetVersion,
    DatasetVersionAsset,
    TranscriptSegment,
)
from tenants.errors import Conflict, NotFound
from tenants.events.models import AuditEvent, Webhook
from tenants.generation.models import Generation, GenerationOutput
from tenants.learning.dataset_versions import as_source
from tenants.moderation.record import signatures
from tenants.pipeline.transfer import export_layout as layout
from tenants.retrieval.index import dimension_of
from tenants.retrieval.models import SavedSearch, StandingQuery, Vector
from tenants.scope import tenant_scope

PAGE = 500
# What a spreadsheet would take for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
Tick = Callable[[int], None]


class Sink(Protocol):
    """Where an export goes: takes one named file after the other."""

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]: ...


class FolderSink:
    """An export as files in a folder that is empty or not there yet."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(folder.iterdir()):
            raise Conflict(_("%(folder)s is not empty. Choose a new folder.") % {"folder": folder})
        self.folder = folder

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("xb") as stream:
            yield stream


class ZipSink:
    """An export as one zip file. Stored files are not compressed: most of them are already."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        entry = zipfile.ZipInfo(name, timezone.now().timetuple()[:6])
        squeeze = name.endswith((".jsonl", ".csv", ".json", ".txt"))
        entry.compress_type = zipfile.ZIP_DEFLATED if squeeze else zipfile.ZIP_STORED
        entry.external_attr = 0o600 << 16
        with self.archive.open(entry, "w", force_zip64=True) as stream:
            yield stream


class Measured(io.RawIOBase):
    """A stream that knows length and SHA-256 of what went through it."""

    def __init__(self, sink: IO[bytes]) -> None:
        self.sink, self.sha, self.length = sink, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self.sink.write(view)
        self.sha.update(view)
        self.length += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self.length


class Writer:
    """One export on its way into a sink; keeps the manifest and the counts."""

    def __init__(
        self, tenant_id: uuid.UUID, sink: Sink, manifest: IO[bytes], tick: Tick, wanted: Wanted
    ) -> None:
        self.tenant_id, self.sink, self.manifest, self.tick = tenant_id, sink, manifest, tick
        self.wanted = wanted
        self.counts: dict[str, int] = {}

    @contextmanager
    def file(self, name: str) -> Iterator[Measured]:
        with self.sink.open(name) as stream:
            measured = Measured(stream)
            yield measured
        entry = {"path": name, "bytes": measured.length, "sha256": measured.sha.hexdigest()}
        self.manifest.write(json.dumps(entry).encode() + b"\n")

    def lines(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        count = 0
        with self.file(name) as stream:
            for row in rows:
                line = json.dumps(layout.plain(row), ensure_ascii=False)
                stream.write(line.encode() + b"\n")
                count += 1
        self.counts[name] = count

    def pages(
        self, rows: Callable[[], QuerySet], fields: tuple[str, ...], key: str = "id"
    ) -> Iterator[dict[str, Any]]:
        """Rows in the order of a unique key, a page in each scope."""
        last = None
        while True:
            with tenant_scope(self.tenant_id):
                page = (
                    rows().order_by(key)
                    if last is None
                    else rows().order_by(key).filter(**{f"{key}__gt": last})
                )
                found = list(page.annotate(page_key=F(key)).values("page_key", *fields)[:PAGE])
            if not found:
                return
            last = found[-1].pop("page_key")
            for row in found:
                row.pop("page_key", None)
                yield row
            self.tick(len(found))


@dataclass(frozen=True)
class Wanted:
    """What is exported: everything, or what belongs to a version of a dataset. In the tenant's scope."""

    version: DatasetVersion | None = None

    def datasets(self) -> QuerySet[Dataset]:
        rows = Dataset.objects.filter(deleted_at=None)
        return rows.filter(pk=self.version.dataset_id) if self.version else rows

    def versions(self) -> QuerySet[DatasetVersion]:
        made = DatasetVersion.objects.filter(
            state=DatasetVersion.State.READY, dataset_id__in=self.datasets().values("pk")
        )
        return made.filter(pk=self.version.pk) if self.version else made

    def lines(self) -> QuerySet[DatasetVersionAsset]:
        return DatasetVersionAsset.objects.filter(version_id__in=self.versions().values("pk"))

    def assets(self) -> QuerySet[Asset]:
        rows = Asset.objects.filter(dataset__deleted_at=None).annotate(sha256=F("blob__sha256"))
        return rows.filter(pk__in=self.lines().values("asset_id")) if self.version else rows

    def blobs(self) -> QuerySet[Blob]:
        rows = Blob.objects.filter(references__gt=0)
        return rows.filter(pk__in=self.assets().values("blob_id")) if self.version else rows

    def transcripts(self) -> QuerySet[TranscriptSegment]:
        rows = TranscriptSegment.objects.filter(asset__dataset__deleted_at=None)
        return rows.filter(asset_id__in=self.lines().values("asset_id")) if self.version else rows

    def vectors(self) -> QuerySet[Vector]:
        rows = Vector.objects.filter(asset__dataset__deleted_at=None)
        return rows.filter(asset_id__in=self.lines().values("asset_id")) if self.version else rows

    def require_version(self) -> None:
        """Raises NotFound where the version was deleted meanwhile: what was written may lack something."""
        if self.version and not self.versions().exists():
            raise NotFound(_("This version was deleted while it was exported."))


def write_export(
    *,
    tenant_id: uuid.UUID,
    sink: Sink,
    with_vectors: bool,
    tick: Tick = lambda count: None,
    version: DatasetVersion | None = None,
) -> dict[str, Any]:
    """Write a tenant's export, or with `version` what that lists; returns its header. `tick` is called with the number
    of rows since the last call.

    Raises Conflict if a file that should be there is missing in the storage, KeyUnreadable where nothing can sign,
    NotFound for a version that is deleted meanwhile.
    """
    with tempfile.TemporaryFile(dir=settings.SPOOL_DIR) as manifest:
        writer = Writer(tenant_id, sink, manifest, tick, Wanted(version))
        # In the order of their names, so that the manifest is sorted.
        with writer.file(layout.README) as stream:
            stream.write("".join(layout.readme()).encode())
        _write_rows(writer)
        for kind in sorted(storage.KINDS):
            _write_files(writer, kind)
        if version is None:
            _write_of_workspace(writer)
        writer.lines("transcripts.jsonl", writer.pages(writer.wanted.transcripts, layout.TRANSCRIPT))
        if with_vectors:
            _write_vectors(writer)
        if version is None:
            writer.lines("webhooks.jsonl", writer.pages(Webhook.objects.all, layout.WEBHOOK))
        return _write_header(writer)


def _write_of_workspace(writer: Writer) -> None:
    """What belongs to no dataset alone, up to the transcripts."""
    outputs = writer.pages(
        lambda: GenerationOutput.objects.filter(generation__dataset__deleted_at=None), layout.OUTPUT
    )
    writer.lines("generation_outputs.jsonl", outputs)
    generations = writer.pages(lambda: Generation.objects.filter(dataset__deleted_at=None), layout.GENERATION)
    writer.lines("generations.jsonl", generations)
    _write_members(writer)
    searches = writer.pages(lambda: SavedSearch.objects.filter(private_to=None), layout.SEARCH)
    writer.lines("saved_searches.jsonl", searches)
    writer.lines("standing_queries.jsonl", writer.pages(StandingQuery.objects.all, layout.STANDING))


def _write_rows(writer: Writer) -> None:
    wanted = writer.wanted
    writer.lines("assets.jsonl", writer.pages(wanted.assets, layout.ASSET))
    if wanted.version is None:
        writer.lines("audit.jsonl", writer.pages(AuditEvent.objects.all, layout.AUDIT))
    writer.lines("blobs.jsonl", writer.pages(wanted.blobs, layout.BLOB, key="sha256"))
    lines = writer.pages(wanted.lines, layout.VERSION_ASSET)
    named = ({**line, "digest": bytes(line["digest"]).hex()} for line in lines)
    writer.lines("dataset_version_assets.jsonl", named)
    writer.lines("dataset_versions.jsonl", writer.pages(wanted.versions, layout.DATASET_VERSION))
    writer.lines("datasets.jsonl", writer.pages(wanted.datasets, layout.DATASET))


def _write_files(writer: Writer, kind: str) -> None:
    fields = ("sha256", "has_thumbnail", "clean_type", "document")
    for row in writer.pages(writer.wanted.blobs, fields, key="sha256"):
        is_read = row["document"] is not None
        made = {"clean": bool(row["clean_type"]), "thumbnail": row["has_thumbnail"]}
        made |= {"parsed": is_read, "words": is_read}
        if made.get(kind, True):
            _write_file(writer, kind, row["sha256"])


def _write_file(writer: Writer, kind: str, sha256: str) -> None:
    try:
        source = storage.open_blob(storage.path_of(writer.tenant_id, sha256, kind))
    except FileNotFoundError as error:
        with tenant_scope(writer.tenant_id):
            if not Blob.objects.filter(references__gt=0, sha256=sha256).exists():
                return  # deleted meanwhile
        raise Conflict(
            _("The file %(kind)s/%(sha256)s is missing in the storage. Restore it, or delete its assets.")
            % {"kind": kind, "sha256": sha256}
        ) from error
    with source, writer.file(layout.file_name(kind, sha256)) as target:
        while chunk := source.read(storage.CHUNK):
            target.write(chunk)
    writer.counts[f"files/{kind}"] = writer.counts.get(f"files/{kind}", 0) + 1


def _write_members(writer: Writer) -> None:
    members = (
        Membership.objects.filter(tenant_id=writer.tenant_id).select_related("user").order_by("user__email")
    )
    with writer.file("members.csv") as stream:
        text = io.TextIOWrapper(io.BufferedWriter(stream), "utf-8", newline="")
        table = csv.writer(text)
        table.writerow(layout.MEMBER)
        for m in members:
            table.writerow([_cell(m.user.email), _cell(m.user.name), m.role, m.created_at.isoformat()])
        text.flush()
        text.detach().detach()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


def _write_vectors(writer: Writer) -> None:
    with tenant_scope(writer.tenant_id):
        models = list(Vector.objects.order_by("model").values_list("model", flat=True).distinct())
        dimensions = {dimension_of(model) or layout.USUAL_DIMENSION for model in models}
    dimensions = dimensions or {layout.USUAL_DIMENSION}
    schema = layout.vector_schema(dimensions.pop() if len(dimensions) == 1 else 0)
    rows = writer.pages(
        # What a model that comes in the meantime makes of them may not fit into the columns.
        lambda: writer.wanted.vectors().filter(model__in=models),
        ("asset_id", "modality", "model", "segment", "data"),
        key="seq",
    )
    count = 0
    with writer.file(layout.VECTORS) as stream, pq.ParquetWriter(stream, schema) as table:
        while page := list(islice(rows, PAGE)):
            table.write_batch(_batch(page, schema))
            count += len(page)
    writer.counts[layout.VECTORS] = count


def _batch(page: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    vectors = [np.frombuffer(row["data"], dtype="<f4") for row in page]
    columns = [pa.array([str(row["asset_id"]) for row in page])]
    columns += [pa.array([row[name] for row in page]) for name in ("modality", "model")]
    columns.append(
        pa.array([json.dumps(row["segment"]) if row["segment"] else None for row in page], pa.string())
    )
    values, lists = pa.array(np.concatenate(vectors)), schema.field("vector").type
    if pa.types.is_fixed_size_list(lists):
        columns.append(pa.FixedSizeListArray.from_arrays(values, lists.list_size))
    else:
        ends = np.cumsum([0, *map(len, vectors)], dtype=np.int32)
        columns.append(pa.ListArray.from_arrays(pa.array(ends), values))
    return pa.record_batch(columns, schema=schema)


def _write_header(writer: Writer) -> dict[str, Any]:
    version = writer.wanted.version
    with tenant_scope(writer.tenant_id):
        writer.wanted.require_version()
        if version:
            version.refresh_from_db()
    writer.manifest.seek(0)
    with writer.sink.open(layout.MANIFEST) as stream:
        measured = Measured(stream)
        while chunk := writer.manifest.read(storage.CHUNK):
            measured.write(chunk)
    tenant = Tenant.objects.get(pk=writer.tenant_id)
    header = {
        "format": layout.FORMAT,
        "version": layout.VERSION,
        "exported_at": timezone.now().isoformat(),
        "tenant": {"slug": tenant.slug, "name": tenant.name},
        "counts": writer.counts,
        "manifest": {"bytes": measured.length, "sha256": measured.sha.hexdigest()},
    }
    if version:
        header["dataset_version"] = {"dataset": str(version.dataset_id), **as_source(version)}
    ring = signatures.key_ring()
    header["signed_by"] = {"id": ring.public[0].id, "public_key": ring.public[0].pem}
    raw = json.dumps(header, indent=2) + "\n"
    with writer.sink.open(layout.HEADER) as stream:
        stream.write(raw.encode())
    with writer.sink.open(layout.SIGNATURE) as stream:
        stream.write(base64.b64decode(ring.sign(raw).value))
    return header
