"""Writing an export: a tenant's rows and files as a stream of named files, with flat memory.

Rows are read page by page in short scopes, so what is added or deleted meanwhile may be in the export or not; an
asset whose file went meanwhile is left out by whoever reads it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
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
from tenants.datasets.models import Asset, Blob, Dataset, TranscriptSegment
from tenants.errors import Conflict
from tenants.events.models import AuditEvent, Webhook
from tenants.generation.models import Generation, GenerationOutput
from tenants.pipeline.transfer import export_layout as layout
from tenants.retrieval.index import dimension_of
from tenants.retrieval.models import Vector
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

    def __init__(self, tenant_id: uuid.UUID, sink: Sink, manifest: IO[bytes], tick: Tick) -> None:
        self.tenant_id, self.sink, self.manifest, self.tick = tenant_id, sink, manifest, tick
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


def write_export(
    *, tenant_id: uuid.UUID, sink: Sink, with_vectors: bool, tick: Tick = lambda count: None
) -> dict[str, Any]:
    """Write a tenant's export; returns its header. `tick` is called with the number of rows since the last call.

    Raises Conflict if a file that should be there is missing in the storage.
    """
    with tempfile.TemporaryFile(dir=settings.SPOOL_DIR) as manifest:
        writer = Writer(tenant_id, sink, manifest, tick)
        # In the order of their names, so that the manifest is sorted.
        with writer.file(layout.README) as stream:
            stream.write("".join(layout.readme()).encode())
        _write_rows(writer)
        for kind in sorted(storage.KINDS):
            _write_files(writer, kind)
        outputs = writer.pages(
            lambda: GenerationOutput.objects.filter(generation__dataset__deleted_at=None), layout.OUTPUT
        )
        writer.lines("generation_outputs.jsonl", outputs)
        generations = writer.pages(
            lambda: Generation.objects.filter(dataset__deleted_at=None), layout.GENERATION
        )
        writer.lines("generations.jsonl", generations)
        _write_members(writer)
        transcripts = writer.pages(
            lambda: TranscriptSegment.objects.filter(asset__dataset__deleted_at=None), layout.TRANSCRIPT
        )
        writer.lines("transcripts.jsonl", transcripts)
        if with_vectors:
            _write_vectors(writer)
        writer.lines("webhooks.jsonl", writer.pages(Webhook.objects.all, layout.WEBHOOK))
        return _write_header(writer)


def _datasets() -> QuerySet[Dataset]:
    return Dataset.objects.filter(deleted_at=None)


def _assets() -> QuerySet[Asset]:
    return Asset.objects.filter(dataset__deleted_at=None).annotate(sha256=F("blob__sha256"))


def _blobs() -> QuerySet[Blob]:
    return Blob.objects.filter(references__gt=0)


def _write_rows(writer: Writer) -> None:
    writer.lines("assets.jsonl", writer.pages(_assets, layout.ASSET))
    writer.lines("audit.jsonl", writer.pages(AuditEvent.objects.all, layout.AUDIT))
    writer.lines("blobs.jsonl", writer.pages(_blobs, layout.BLOB, key="sha256"))
    writer.lines("datasets.jsonl", writer.pages(_datasets, layout.DATASET))


def _write_files(writer: Writer, kind: str) -> None:
    fields = ("sha256", "has_thumbnail", "clean_type")
    for row in writer.pages(_blobs, fields, key="sha256"):
        made = {"clean": bool(row["clean_type"]), "thumbnail": row["has_thumbnail"]}
        if made.get(kind, True):
            _write_file(writer, kind, row["sha256"])


def _write_file(writer: Writer, kind: str, sha256: str) -> None:
    try:
        source = storage.open_blob(storage.path_of(writer.tenant_id, sha256, kind))
    except FileNotFoundError as error:
        with tenant_scope(writer.tenant_id):
            if not _blobs().filter(sha256=sha256).exists():
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
        lambda: Vector.objects.filter(asset__dataset__deleted_at=None, model__in=models),
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
    with writer.sink.open(layout.HEADER) as stream:
        stream.write(json.dumps(header, indent=2).encode() + b"\n")
    return header
