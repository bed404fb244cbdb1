"""A new tenant from an export: same names, captions, metadata and dates, under ids of its own.

The tenant stays suspended until it is complete. What breaks off half-way is removed with `erase_tenant`.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Any, TypeVar

from django.db import IntegrityError
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _

from ml.documents import Document
from ml.media import MediaError, sniff
from tenants.accounts import quotas
from tenants.accounts.models import Tenant
from tenants.accounts.services import create_tenant
from tenants.datasets import documents, metadata, scanning, storage
from tenants.datasets.content_responses import THUMBNAILS
from tenants.datasets.metadata import stored_bytes
from tenants.datasets.models import (
    Asset,
    Blob,
    Dataset,
    DatasetVersion,
    DatasetVersionAsset,
    Facet,
    TranscriptSegment,
)
from tenants.datasets.services import collect_blobs, create_dataset, update_dataset
from tenants.errors import Invalid, ServiceError
from tenants.events.services import record
from tenants.learning.classifiers.scoring import score_assets
from tenants.learning.dataset_versions import MOST_VERSIONS, digest_of
from tenants.moderation.audits import standing as standing_audits
from tenants.pipeline.assets import services
from tenants.pipeline.assets.uploads import ACCEPTED, MAX_TEXT, vectors_of
from tenants.pipeline.transfer import export_rows
from tenants.pipeline.transfer.export_layout import file_name
from tenants.pipeline.transfer.export_reading import ExportFile
from tenants.retrieval import MODALITIES, model_routing, query, saved, standing
from tenants.retrieval.index import NewVector, add_vectors
from tenants.scope import tenant_scope

SHOWN = tuple(sorted(set(export_rows.MODERATION) - set(Asset.HIDDEN)))
BATCH = 200
# Characters of an id.
ID = 36
HEAD = documents.HEAD_BYTES
# Of what was read of a document, as long as reading lets it be.
MOST_PARSED = 256 << 20
ACTOR = "import_tenant"
T = TypeVar("T")


def import_tenant(
    export: ExportFile, *, slug: str, name: str = "", plan: str = "starter"
) -> tuple[Tenant, dict[str, int]]:
    """Make a tenant from a checked export; returns it with counts of what came in.

    Raises Invalid for rows that cannot be stored, Conflict for a slug that is taken, QuotaExceeded if the plan is too
    small for it, Infected.
    """
    tenant = create_tenant(slug=slug, name=name or export.name or slug, plan=plan)
    Tenant.objects.filter(pk=tenant.pk).update(state=Tenant.State.SUSPENDED)
    counts = TenantImport(export, tenant.id).run()
    Tenant.objects.filter(pk=tenant.pk).update(state=Tenant.State.ACTIVE)
    return tenant, counts


class TenantImport:
    """One export on its way into one new tenant, table by table, in transactions of a few hundred rows."""

    def __init__(self, export: ExportFile, tenant_id: uuid.UUID) -> None:
        self.export, self.tenant_id = export, tenant_id
        self.datasets: dict[uuid.UUID, Dataset] = {}
        names = ("datasets", "assets", "left_out", "files", "vectors", "to_embed")
        self.counts = dict.fromkeys((*names, "standing_queries", "standing_left_out"), 0)

    def run(self) -> dict[str, int]:
        try:
            for step in (
                self._datasets,
                self._blobs,
                self._assets,
                self._versions,
                self._transcripts,
                self._vectors,
            ):
                step()
        except IntegrityError as error:
            # Rows were checked one by one; what is left is that two are the same, or that one names no other.
            raise Invalid(
                _("The export names something twice that may be there once, or that is not there.")
            ) from error
        self._index_words()
        self._standing_queries()
        self._embed_the_rest()
        self._finish()
        return self.counts

    def new_id(self, old: uuid.UUID) -> uuid.UUID:
        """The id of a row here: its moment, which orders lists, stays; the rest is this tenant's own."""
        own = hashlib.sha256(self.tenant_id.bytes + old.bytes).digest()
        return uuid.UUID(bytes=old.bytes[:8] + bytes([0x80 | own[0] & 0x3F]) + own[1:8])

    def _datasets(self) -> None:
        for row in self.export.rows("datasets.jsonl", export_rows.dataset):
            with tenant_scope(self.tenant_id):
                made = create_dataset(
                    name=row["name"],
                    description=row["description"],
                    metadata_schema=row["metadata_schema"],
                    duplicates=row["duplicates"],
                )
                if row["retention_days"] is not None:
                    update_dataset(dataset_id=made.id, retention_days=row["retention_days"])
                Dataset.objects.filter(pk=made.id).update(created_at=row["created_at"])
            self.datasets[row["id"]] = made
            self.counts["datasets"] += 1

    def _blobs(self) -> None:
        for row in self.export.rows("blobs.jsonl", export_rows.blob):
            if self._has(file_name("original", row["sha256"])):
                self._blob(row)
                self.counts["files"] += 1

    def _has(self, name: str) -> bool:
        try:
            self.export.source.open(name).close()
        except Invalid:
            return False
        return True

    def _blob(self, row: dict[str, Any]) -> None:
        """Row first, then files, so that upkeep never takes them for orphans."""
        scan = self._look_at(row)
        document = self._read_before(row) if row["document"] is not None else None
        told = documents.summary(document) if document is not None else None
        made, created_at = {**row, "scan": scan, "document": told}, row["created_at"]
        with tenant_scope(self.tenant_id):
            # Held by the import itself until the assets are counted.
            blob = Blob.objects.create(**made, references=1)
            Blob.objects.filter(pk=blob.pk).update(created_at=created_at)
        wanted = {"original": True, "clean": bool(row["clean_type"]), "thumbnail": row["has_thumbnail"]}
        for kind in [kind for kind, there in wanted.items() if there]:
            with self.export.source.open(file_name(kind, row["sha256"])) as stream:
                storage.put(storage.path_of(self.tenant_id, row["sha256"], kind), stream)
        for kind, content in documents.as_stored(document).items() if document else ():
            storage.put(storage.path_of(self.tenant_id, row["sha256"], kind), content)

    def _read_before(self, row: dict[str, Any]) -> Document:
        """What was read of a document where it was exported, which is believed as far as it has the form of that."""
        name = file_name("parsed", row["sha256"])
        with self.export.source.open(name) as stream:
            content = stream.read(MOST_PARSED + 1)
        try:
            if not documents.is_document(row["media_type"]) or len(content) > MOST_PARSED:
                raise ValueError(name)
            return Document.from_json(json.loads(content))
        except (ValueError, RecursionError) as error:
            raise Invalid(_("%(name)s is not what is read of a document.") % {"name": name}) from error

    def _look_at(self, row: dict[str, Any]) -> dict[str, Any]:
        """Whether the files are what the row says; served types decide what a browser does with them."""
        self._check_type(file_name("original", row["sha256"]), row["media_type"])
        if row["clean_type"]:
            self._check_type(file_name("clean", row["sha256"]), row["clean_type"])
        if row["has_thumbnail"]:
            self._check_type(file_name("thumbnail", row["sha256"]), *THUMBNAILS)
        with self.export.source.open(file_name("original", row["sha256"])) as stream:
            if storage.digest(stream) != (row["sha256"], row["bytes"]):
                raise Invalid(
                    _("The file %(sha256)s has another length or content than blobs.jsonl says.")
                    % {"sha256": row["sha256"]}
                )
            return scanning.check_upload(stream)

    def _check_type(self, name: str, *media_types: str) -> None:
        said = " or ".join(media_types)
        if not set(media_types) <= set(ACCEPTED):
            raise Invalid(
                _("%(name)s is said to be %(said)s, which no file of a workspace is.")
                % {"name": name, "said": said}
            )
        with self.export.source.open(name) as stream:
            head = stream.read(HEAD)
        # Always a download, whatever it holds.
        if any(documents.is_document(one) and documents.may_be(head, one) for one in media_types):
            return
        found = sniff(head)
        # Texts came as texts, whatever they look like, and are served as nothing else.
        if found not in media_types and media_types != ("text/plain",):
            raise Invalid(
                _("%(name)s is %(value)s, not %(said)s.")
                % {"name": name, "value": found or "of an unknown kind", "said": said}
            )

    def _assets(self) -> None:
        for batch in _batches(self.export.rows("assets.jsonl", export_rows.asset)):
            with tenant_scope(self.tenant_id):
                blobs = {
                    b.sha256: b for b in Blob.objects.filter(sha256__in={row["sha256"] for row in batch})
                }
                # Without its file an asset was deleted while the export ran.
                there = [row for row in batch if row["sha256"] in blobs]
                assets = [self._asset(row, blobs[row["sha256"]]) for row in there]
                size = sum(asset.blob.bytes + asset.metadata_bytes for asset in assets)
                quotas.charge(amounts={"assets": len(assets), "bytes": size})
                Asset.objects.bulk_create(assets)
                for made, row in zip(assets, there, strict=True):
                    made.created_at = row["created_at"]
                Asset.objects.bulk_update(assets, ["created_at"])
                Facet.objects.bulk_create(facet for asset in assets for facet in _facets(asset))
            self.counts["assets"] += len(there)
            self.counts["left_out"] += len(batch) - len(there)

    def _asset(self, row: dict[str, Any], blob: Blob) -> Asset:
        fields = {name: value for name, value in row.items() if name not in ("id", "dataset_id", "sha256")}
        if row["dataset_id"] not in self.datasets:
            raise Invalid(
                _("assets.jsonl names a dataset that is not there: %(dataset_id)s.")
                % {"dataset_id": row["dataset_id"]}
            )
        if fields["status"] == Asset.State.READY:
            # Until its vectors are here.
            fields["status"] = Asset.State.PENDING
        if fields["generation_id"] is not None:
            fields["generation_id"] = self.new_id(fields["generation_id"])
        fields["metadata_bytes"] = stored_bytes(row["metadata"])
        return Asset(id=self.new_id(row["id"]), dataset=self.datasets[row["dataset_id"]], blob=blob, **fields)

    def _versions(self) -> None:
        """As they were made; assets that are not in the export count as gone."""
        made: dict[uuid.UUID, DatasetVersion] = {}
        for row in self.export.rows("dataset_versions.jsonl", export_rows.dataset_version):
            if row["dataset_id"] not in self.datasets:
                raise Invalid(_("dataset_versions.jsonl names a dataset that is not there."))
            fields = {name: value for name, value in row.items() if name not in ("id", "dataset_id", "gone")}
            version = DatasetVersion(
                id=self.new_id(row["id"]), dataset=self.datasets[row["dataset_id"]], state="ready", **fields
            )
            with tenant_scope(self.tenant_id):
                if DatasetVersion.objects.filter(dataset=version.dataset).count() >= MOST_VERSIONS:
                    raise Invalid(_("A dataset has at most %(most)s versions.") % {"most": MOST_VERSIONS})
                version.save(force_insert=True)
                DatasetVersion.objects.filter(pk=version.pk).update(created_at=row["created_at"])
            made[row["id"]] = version
        for batch in _batches(
            self.export.rows("dataset_version_assets.jsonl", export_rows.dataset_version_asset)
        ):
            if any(row["version_id"] not in made for row in batch):
                raise Invalid(_("dataset_version_assets.jsonl names a version that is not there."))
            rows = [(made[row["version_id"]], self.new_id(row["asset_id"]), row["digest"]) for row in batch]
            with tenant_scope(self.tenant_id):
                known = self._known([asset_id for _version, asset_id, _digest in rows])
                DatasetVersionAsset.objects.bulk_create(
                    DatasetVersionAsset(version=version, asset_id=asset_id, digest=digest)
                    for version, asset_id, digest in rows
                    if asset_id in known and known[asset_id].dataset_id == version.dataset_id
                )
        for version in made.values():
            self._check_version(version)

    def _check_version(self, version: DatasetVersion) -> None:
        with tenant_scope(self.tenant_id):
            gone = version.asset_count - DatasetVersionAsset.objects.filter(version=version).count()
            if gone < 0 or (not gone and digest_of(version.id) != version.digest):
                raise Invalid(
                    _("The version %(name)s lists something else than its count or digest says.")
                    % {"name": f"{version.name!r}"}
                )
            DatasetVersion.objects.filter(pk=version.pk).update(gone=gone)

    def _transcripts(self) -> None:
        for batch in _batches(self.export.rows("transcripts.jsonl", export_rows.transcript)):
            rows = [{**row, "asset_id": self.new_id(row["asset_id"])} for row in batch]
            with tenant_scope(self.tenant_id):
                known = self._known([row["asset_id"] for row in rows])
                TranscriptSegment.objects.bulk_create(
                    TranscriptSegment(**row) for row in rows if row["asset_id"] in known
                )

    def _known(self, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Asset]:
        return {asset.id: asset for asset in Asset.objects.filter(pk__in=set(ids))}

    def _vectors(self) -> None:
        with tenant_scope(self.tenant_id):
            model = model_routing.live()
        for batch in self.export.vectors():
            # Of another model they would be compared with queries that mean something else.
            rows = [self._vector(row) for row in batch if row["model"] == model]
            if rows:
                # A space may have to be fetched: in no scope.
                dimension = model_routing.space(model, self.tenant_id).dimension
                if any(len(vector.values) != dimension for _asset, vector in rows):
                    raise Invalid(
                        _("A vector of %(model)s has %(dimension)s numbers.")
                        % {"model": model, "dimension": dimension}
                    )
                with tenant_scope(self.tenant_id):
                    self._store_vectors(model, rows)

    def _vector(self, row: dict[str, Any]) -> tuple[uuid.UUID, NewVector]:
        try:
            segment = json.loads(row["segment"]) if row["segment"] else None
            asset_id = self.new_id(uuid.UUID(row["asset_id"]))
        except (ValueError, TypeError, RecursionError) as error:
            raise Invalid(_("vectors.parquet holds an id or segment that cannot be read.")) from error
        metadata.check_json(segment, "/segment")
        if row["modality"] not in MODALITIES or not isinstance(segment, dict | None):
            raise Invalid(_("vectors.parquet holds an unknown modality or segment."))
        return asset_id, NewVector(row["modality"], row["vector"], segment)

    def _store_vectors(self, model: str, rows: list[tuple[uuid.UUID, NewVector]]) -> None:
        known = self._known(asset_id for asset_id, _ in rows)
        known = {asset_id: asset for asset_id, asset in known.items() if asset.moderation in SHOWN}
        mine = [(asset_id, vector) for asset_id, vector in rows if asset_id in known]
        grouped = groupby(mine, key=lambda row: row[0])
        quotas.charge(amounts={"vectors": len(mine)})
        add_vectors(
            model=model, vectors=[(known[a], [vector for _, vector in group]) for a, group in grouped]
        )
        score_assets([known[asset_id] for asset_id in dict.fromkeys(asset_id for asset_id, _ in mine)])
        pending = Asset.objects.filter(pk__in=known, status=Asset.State.PENDING)
        pending.update(status=Asset.State.READY)
        self.counts["vectors"] += len(mine)

    def _index_words(self) -> None:
        """What the embed job would do for those that need none."""
        for page in self._pages(status=Asset.State.READY):
            texts = {
                asset.id: self._text_of(asset) for asset in page if asset.modality == Asset.Modality.TEXT
            }
            with tenant_scope(self.tenant_id):
                query.index_texts([_entry(asset, texts.get(asset.id, "")) for asset in page])

    def _text_of(self, asset: Asset) -> str:
        if documents.is_document(asset.blob.media_type):
            found = documents.stored(self.tenant_id, asset.blob.sha256)
            return documents.visible_text(found) if found else ""
        with storage.open_blob(storage.path_of(self.tenant_id, asset.blob.sha256)) as stream:
            return stream.read(4 * MAX_TEXT).decode("utf-8", "replace")

    def _standing_queries(self) -> None:
        """Encoded anew, by the models of this installation; what cannot be asked here is left out. Nobody is a member
        yet, so that owners alone change them."""
        who = saved.Who(ACTOR)
        for row in self.export.rows("standing_queries.jsonl", export_rows.standing_query):
            query = self._here(row["query"])
            try:
                if standing_audits.is_of_audits(query):
                    with tenant_scope(self.tenant_id):
                        prepared = standing_audits.prepare(query)
                else:
                    prepared = standing.prepare(
                        tenant_id=self.tenant_id, query=query, min_score=row["min_score"]
                    )
                with tenant_scope(self.tenant_id):
                    given = {name: row[name] for name in ("muted", "inbox", "frequency")}
                    made = standing.create_standing(who=who, name=row["name"], prepared=prepared, **given)
                    if row["state"] != made.state:
                        standing.change_standing(who=who, standing_id=made.pk, state=row["state"])
            except (ServiceError, MediaError, ValueError, TypeError, KeyError, AttributeError):
                self.counts["standing_left_out"] += 1
                continue
            self.counts["standing_queries"] += 1

    def _here(self, value: Any) -> Any:
        """A search with the ids of datasets and assets as they are here; others stay, and are found by nobody."""
        if isinstance(value, dict):
            return {name: self._here(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self._here(one) for one in value]
        try:
            old = uuid.UUID(value) if isinstance(value, str) and len(value) == ID else None
        except ValueError:
            old = None
        if old is None:
            return value
        return str(self.datasets[old].id if old in self.datasets else self.new_id(old))

    def _embed_the_rest(self) -> None:
        # What was held back stays so: nobody here has looked at it.
        for page in self._pages(status=Asset.State.PENDING, moderation__in=SHOWN):
            with tenant_scope(self.tenant_id):
                for asset in page:
                    services.admit(asset, 1 + vectors_of(asset.captions), "import")
            self.counts["to_embed"] += len(page)

    def _pages(self, **wanted: object) -> Iterator[list[Asset]]:
        last = uuid.UUID(int=0)
        while True:
            with tenant_scope(self.tenant_id):
                rows = Asset.objects.select_related("blob", "dataset").filter(pk__gt=last, **wanted)
                page = list(rows.order_by("pk")[:BATCH])
            if not page:
                return
            yield page
            last = page[-1].pk

    def _finish(self) -> None:
        with tenant_scope(self.tenant_id):
            uses = (
                Asset.objects.filter(blob=OuterRef("pk"))
                .order_by()
                .values("blob")
                .annotate(n=Count("pk"))
                .values("n")
            )
            Blob.objects.update(references=Coalesce(Subquery(uses), 0))
            record(actor=ACTOR, verb="tenant.imported", details=self.counts)
        with tenant_scope(self.tenant_id):
            collect_blobs()


def _facets(asset: Asset) -> Iterator[Facet]:
    return metadata.facets_of(asset.id, asset.metadata, asset.dataset.metadata_schema)


def _entry(asset: Asset, text: str) -> query.Entry:
    """What the asset is found by in words, in the caller's scope."""
    spoken = TranscriptSegment.objects.filter(asset=asset).order_by("start_s").values_list("text", flat=True)
    said = [text] if text else [*asset.captions, *spoken]
    return query.entry_of(asset, asset.dataset.metadata_schema, said)


def _batches(rows: Iterator[T]) -> Iterator[list[T]]:
    while batch := list(islice(rows, BATCH)):
        yield batch
