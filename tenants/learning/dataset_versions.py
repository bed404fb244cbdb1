"""Versions of a dataset: named lists of assets that nobody changes, which trainings and exports refer to.

A version lists assets and the digest of each as it was then, and copies nothing: what is erased leaves it, and an asset
whose captions were changed since is known by its digest (docs/adr/0072-versions-list-assets-and-copy-nothing.md).

The digest of an asset is the SHA-256 of its content's SHA-256 in hex, a line feed, and its captions as a JSON array in
UTF-8 (`["a", "b"]`); that of a version is the SHA-256 of these digests (32 bytes each), sorted. So two versions with
the same digest hold the same files with the same captions, whatever their assets are called.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from django.db import IntegrityError, connection
from django.db.models import Count, Exists, OuterRef, QuerySet, Sum
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from tenants.datasets import metadata
from tenants.datasets.models import Asset, DatasetVersion, DatasetVersionAsset
from tenants.datasets.selectors import get_assets, is_any, list_assets, require_dataset, visible_assets
from tenants.errors import Conflict, Invalid, NotFound, NotReady
from tenants.events.services import record
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.learning import shapes
from tenants.learning.models import LearntModel
from tenants.names import check_name
from tenants.retrieval import filters
from tenants.scope import current_tenant_id, tenant_scope
from tenants.shapes import UNSET, JsonObject

KIND = "make_dataset_version"
MAX_NAME, MAX_NOTE = 100, 2_000
#: Versions of one dataset, assets of one version, and lines of all versions of one dataset together.
MOST_VERSIONS, MOST_ASSETS, MOST_LINES = 100, 1_000_000, 10_000_000
#: Assets that a request may name one by one.
MOST_NAMED = 10_000
#: So many are written down while the request waits; more are by a job.
AT_ONCE = 5_000
#: Characters of a filter, as JSON.
MAX_FILTER = 10_000
#: Models that are named as having learnt from a version.
MOST_USES = 50

NO_VERSION = gettext_noop("This version of the dataset does not exist.")
ADDED, REMOVED, CHANGED = "added", "removed", "changed"
CHANGES = (ADDED, REMOVED, CHANGED)


@dataclass(frozen=True)
class Chosen:
    """What a version is made from: named assets, or all that meet these conditions; nothing: the whole dataset."""

    assets: Sequence[uuid.UUID | None] | None = None
    status: str = ""
    modality: str = ""
    tag: str = ""
    filter: JsonObject = field(default_factory=dict)

    def told(self) -> JsonObject:
        """As it stands at the version."""
        if self.assets is not None:
            return {"assets": len(set(self.assets))}
        named = {name: getattr(self, name) for name in ("status", "modality", "tag", "filter")}
        return {name: value for name, value in named.items() if value}


# --- Making ----------------------------------------------------------------------------------------------


def make_version(
    *, dataset_id: uuid.UUID, name: str, note: str = "", chosen: Chosen | None = None, actor: str = ""
) -> tuple[DatasetVersion, Job | None]:
    """List what is chosen under a name: at once, or for more than AT_ONCE assets by a job, which is returned.

    The list is what one statement sees. Raises NotFound for a dataset or an asset that is not there, Invalid for a
    name or a filter that cannot be, for nothing and for too much, Conflict for a name that is taken and where the
    dataset has as many versions as it may.
    """
    chosen = chosen or Chosen()
    check_name(name.strip())
    fields = {"name": _checked(name, "/name", 1, MAX_NAME), "note": _checked(note, "/note", 0, MAX_NOTE)}
    try:
        with tenant_scope(current_tenant_id()):
            require_dataset(dataset_id)
            _lock(dataset_id)
            rows = _rows(dataset_id, chosen)
            count = _checked_count(dataset_id, rows)
            row = DatasetVersion(
                dataset_id=dataset_id, made_from=chosen.told(), asset_count=count, created_by=actor, **fields
            )
            queued = None
            if count > AT_ONCE:
                queued = jobs.enqueue(kind=KIND, arguments={"version": str(row.id)}, reserve={})
                row.job_id = queued.id
            row.save(force_insert=True)
            if queued is None:
                _write_down(row, rows)
            return row, queued
    except IntegrityError as error:
        raise Conflict(
            _("This dataset has a version %(name)s already.") % {"name": f"{fields['name']!r}"}
        ) from error


def _checked(text: str, pointer: str, least: int, most: int) -> str:
    kept = text.strip()
    if not least <= len(kept) <= most:
        raise Invalid(
            _("%(least)s to %(most)s characters.") % {"least": least, "most": most}, pointer=pointer
        )
    metadata.check_text(kept, pointer)
    return kept


def _lock(dataset_id: uuid.UUID) -> None:
    """One new version of a dataset at a time: held to the end of the transaction. Uploads go on."""
    with connection.cursor() as cursor:
        name = f"versions:{dataset_id}"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])


def _rows(dataset_id: uuid.UUID, chosen: Chosen) -> QuerySet[Asset]:
    if chosen.assets is None:
        rows = list_assets(
            dataset_id=dataset_id, status=chosen.status, modality=chosen.modality, tag=chosen.tag
        )
        if not chosen.filter:
            return rows
        if len(json.dumps(chosen.filter)) > MAX_FILTER:
            raise Invalid(
                _("A filter has at most %(filter)s characters.") % {"filter": MAX_FILTER}, pointer="/filter"
            )
        met = filters.matching_assets(filters.parse(chosen.filter), [dataset_id])
        return rows.filter(pk__in=met.values("pk"))
    if not 1 <= len(chosen.assets) <= MOST_NAMED:
        raise Invalid(
            _("Name 1 to %(most)s assets; choose more of them by a filter or a tag.") % {"most": MOST_NAMED},
            pointer="/assets",
        )
    ids = {one for one in chosen.assets if one is not None}
    rows = visible_assets().filter(is_any("pk", ids), dataset_id=dataset_id)
    if None in chosen.assets or rows.count() < len(ids):
        raise NotFound(_("This asset is not in the dataset."))
    return rows


def _checked_count(dataset_id: uuid.UUID, rows: QuerySet[Asset]) -> int:
    """How many assets would be listed. Raises Invalid, Conflict."""
    mine = DatasetVersion.objects.filter(dataset_id=dataset_id)
    if mine.count() >= MOST_VERSIONS:
        raise Conflict(
            _("A dataset has at most %(most)s versions. Delete one that is no longer needed.")
            % {"most": MOST_VERSIONS}
        )
    count = rows.order_by()[: MOST_ASSETS + 1].count()
    if not count:
        raise Invalid(_("There is no asset to list: a version of nothing says nothing."))
    if count > MOST_ASSETS:
        raise Invalid(
            _("A version lists at most %(most)s assets. Choose fewer, by a filter or a tag.")
            % {"most": f"{MOST_ASSETS:,}"}
        )
    if (mine.aggregate(lines=Sum("asset_count"))["lines"] or 0) + count > MOST_LINES:
        raise Conflict(
            _(
                "All versions of a dataset list at most %(most)s assets in total. Delete one that is no longer needed."
            )
            % {"most": f"{MOST_LINES:,}"}
        )
    return count


# Captions as JSON, as Python's `json.dumps(…, ensure_ascii=False)` writes them.
_DIGEST = """sha256(convert_to(blob.sha256 || E'\\n' || (CASE WHEN asset.caption = '' THEN '[]'::jsonb
    ELSE jsonb_build_array(asset.caption) || asset.more_captions END)::text, 'UTF8'))"""


def _write_down(row: DatasetVersion, rows: QuerySet[Asset]) -> None:
    """List these assets in a version that has a row, and count what is listed. In the caller's transaction.

    Held until the commit, in the order in which erasures lock assets: who erases one meanwhile waits, and finds the
    line.
    """
    chosen, parameters = rows.order_by().values("pk").query.sql_with_params()
    tenant = str(current_tenant_id())
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO dataset_version_asset (id, tenant_id, version_id, asset_id, digest)
            SELECT gen_random_uuid(), asset.tenant_id, %s, asset.id, {_DIGEST}
            FROM asset JOIN blob ON blob.tenant_id = asset.tenant_id AND blob.id = asset.blob_id
            WHERE asset.tenant_id = %s AND asset.id IN ({chosen})
            ORDER BY asset.id FOR KEY SHARE OF asset""",  # noqa: S608 (both are ours)
            [str(row.id), tenant, *parameters],
        )
    row.digest = digest_of(row.id)
    counted = assets_of(row).order_by().values("modality").annotate(count=Count("pk"))
    row.kinds = {one["modality"]: one["count"] for one in counted.order_by("modality")}
    row.asset_count, row.state = sum(row.kinds.values()), DatasetVersion.State.READY
    if not row.asset_count:
        raise Invalid(_("There is no asset to list: a version of nothing says nothing."))
    row.save(update_fields=["digest", "kinds", "asset_count", "state"])
    details = {"dataset": str(row.dataset_id), "name": row.name, "assets": row.asset_count}
    record(actor=row.created_by, verb="dataset.version_made", target=str(row.id), details=details)


def digest_of(version_id: uuid.UUID) -> str:
    """Of the lines that are there, in hex. In the tenant's scope."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT encode(sha256(coalesce(string_agg(digest, ''::bytea ORDER BY digest), '')), 'hex')
            FROM dataset_version_asset WHERE tenant_id = %s AND version_id = %s""",
            [str(current_tenant_id()), str(version_id)],
        )
        return str(cursor.fetchone()[0])


def _on_end(ended: Job) -> None:
    """Show on the version what became of its job. In the transaction that says so."""
    state = DatasetVersion.State.MAKING if ended.state == Job.State.QUEUED else DatasetVersion.State.FAILED
    rows = DatasetVersion.objects.filter(pk=ended.arguments["version"])
    if not rows.update(state=state) and ended.state == Job.State.QUEUED:
        raise Conflict(_("This version was deleted. Make another one."))


@job(KIND, queue="default", label=gettext_lazy("Make a version of a dataset"), on_end=_on_end)
def make_dataset_version(claimed: jobs.Claim) -> None:
    """List the assets of the version of this job, all of them or none. Raises NotFound, Invalid, LeaseLost."""
    begun = time.thread_time()
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        row = DatasetVersion.objects.select_for_update().filter(pk=claimed.arguments["version"]).first()
        if row is None:
            raise NotFound(_("This version was deleted. Make another one."))
        require_dataset(row.dataset_id)
        _write_down(row, _rows(row.dataset_id, Chosen(**row.made_from)))
        result = {"version": str(row.id), "assets": row.asset_count, "digest": row.digest}
        jobs.succeed(claimed, result=result, cpu_s=time.thread_time() - begun, gpu_s=0, used={})


# --- Reading ---------------------------------------------------------------------------------------------


def list_versions(dataset_id: uuid.UUID) -> QuerySet[DatasetVersion]:
    """Newest first."""
    return DatasetVersion.objects.filter(dataset_id=dataset_id, dataset__deleted_at=None).order_by("-id")


def get_version(dataset_id: uuid.UUID | None, version_id: uuid.UUID | None) -> DatasetVersion:
    """Raises NotFound."""
    require_dataset(dataset_id)
    row = list_versions(dataset_id).filter(pk=version_id).first() if dataset_id and version_id else None
    if row is None:
        raise NotFound(_(NO_VERSION))
    return row


def hold_version(dataset_id: uuid.UUID | None, version_id: uuid.UUID | None) -> DatasetVersion:
    """A version that nobody deletes before the caller's transaction has ended. Raises NotFound, NotReady."""
    row = _locked(dataset_id, version_id, for_key=True)
    require_made(row)
    return row


def _locked(dataset_id: uuid.UUID | None, version_id: uuid.UUID | None, *, for_key: bool) -> DatasetVersion:
    require_dataset(dataset_id)
    rows = DatasetVersion.objects.select_for_update(no_key=for_key)
    row = rows.filter(pk=version_id, dataset_id=dataset_id).first()
    if row is None:
        raise NotFound(_(NO_VERSION))
    return row


def require_made(row: DatasetVersion) -> None:
    """Raises NotReady for a version whose list is not there."""
    if row.state == DatasetVersion.State.MAKING:
        raise NotReady(_("This version is still being made; its job says how far it is."))
    if row.state == DatasetVersion.State.FAILED:
        raise NotReady(_("This version was not made: its job ended without one. Delete it and make another."))


def lines_of(version_id: uuid.UUID | str) -> QuerySet[DatasetVersionAsset]:
    return DatasetVersionAsset.objects.filter(version_id=version_id)


def assets_of(row: DatasetVersion) -> QuerySet[Asset]:
    """The assets that it lists and that are still there."""
    return visible_assets().filter(dataset_id=row.dataset_id, pk__in=lines_of(row.id).values("asset_id"))


def page_of(lines: QuerySet[DatasetVersionAsset], after: uuid.UUID | None, size: int) -> list[Asset]:
    """The assets of so many lines, newest first, older than the asset `after`.

    Read by the index over version and asset: as quick however long the list is.
    """
    if after is not None:
        lines = lines.filter(asset_id__lt=after)
    ids = list(lines.order_by("-asset_id").values_list("asset_id", flat=True)[:size])
    found = get_assets(ids)
    return [found[one] for one in ids if one in found]


def count_changed(version_id: uuid.UUID | str) -> int:
    """How many of its assets have other captions than when it was made."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT count(*) FROM dataset_version_asset AS line
            JOIN asset ON asset.tenant_id = line.tenant_id AND asset.id = line.asset_id
            JOIN blob ON blob.tenant_id = asset.tenant_id AND blob.id = asset.blob_id
            WHERE line.tenant_id = %s AND line.version_id = %s AND line.digest <> {_DIGEST}""",  # noqa: S608
            [str(current_tenant_id()), str(version_id)],
        )
        return int(cursor.fetchone()[0])


def models_of(version_id: uuid.UUID) -> QuerySet[LearntModel]:
    """The models that learnt from it, or are learning, newest first."""
    named = [{"version": {"id": str(version_id)}}]
    return LearntModel.objects.filter(data__datasets__contains=named).order_by("-id")


def as_source(row: DatasetVersion) -> JsonObject:
    """What a model and an export keep of a version, also after it was deleted."""
    return {
        "id": str(row.id),
        "name": row.name,
        "digest": row.digest,
        "assets": row.asset_count,
        "gone": row.gone,
    }


def version_shape(
    row: DatasetVersion, models: Collection[LearntModel] | None = None
) -> shapes.DatasetVersionShape:
    """The version in the shape of the API; with `models` where they are asked for."""
    used = UNSET if models is None else [shapes.NamedModel(id=str(one.id), name=one.name) for one in models]
    return shapes.DatasetVersionShape(
        id=str(row.id),
        dataset=str(row.dataset_id),
        name=row.name,
        note=row.note,
        state=row.state,
        made_from=row.made_from,
        assets=row.asset_count,
        kinds=row.kinds,
        gone=row.gone,
        digest=row.digest or None,
        models=used,
        job=str(row.job_id) if row.job_id else None,
        created_by=row.created_by,
        created_at=row.created_at,
    )


# --- Comparing -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Of two versions: how many assets only the later one lists, only the earlier one, both with other captions, and
    both alike. What was erased is in neither."""

    added: int
    removed: int
    changed: int
    same: int


def compare(before: DatasetVersion, after: DatasetVersion) -> Comparison:
    """One statement over both lists. Raises NotReady. In the tenant's scope."""
    require_made(before)
    require_made(after)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT count(*) FILTER (WHERE a.asset_id IS NULL), count(*) FILTER (WHERE b.asset_id IS NULL),
                count(*) FILTER (WHERE a.digest <> b.digest), count(*) FILTER (WHERE a.digest = b.digest)
            FROM (SELECT asset_id, digest FROM dataset_version_asset WHERE tenant_id = %s AND version_id = %s) AS a
            FULL JOIN (SELECT asset_id, digest FROM dataset_version_asset WHERE tenant_id = %s AND version_id = %s) AS b
            ON a.asset_id = b.asset_id""",
            [str(current_tenant_id()), str(before.id), str(current_tenant_id()), str(after.id)],
        )
        return Comparison(*cursor.fetchone())


def changes_of(before: DatasetVersion, after: DatasetVersion, change: str) -> QuerySet[DatasetVersionAsset]:
    """The lines of the assets that were `added`, `removed` or `changed` from one version to the other."""
    one, other = (before, after) if change == REMOVED else (after, before)
    theirs = lines_of(other.id).filter(asset_id=OuterRef("asset_id"))
    if change == CHANGED:
        return lines_of(one.id).filter(Exists(theirs.exclude(digest=OuterRef("digest"))))
    return lines_of(one.id).exclude(Exists(theirs))


# --- Deleting --------------------------------------------------------------------------------------------


class VersionInUse(Conflict):
    """Models learnt from the version, or are learning from it."""

    slug, title = "version-in-use", "Models refer to this version"


def delete_version(
    *, dataset_id: uuid.UUID, version_id: uuid.UUID | None, confirmed: bool = False, actor: str = ""
) -> None:
    """Delete a version; its assets stay, and models keep its name and digest.

    Raises NotFound, and VersionInUse for one that a model is learning from, or has learnt from unless `confirmed`.
    """
    with tenant_scope(current_tenant_id()):
        # Who starts a training on it holds it, too: `hold_version`.
        row = _locked(dataset_id, version_id, for_key=False)
        used = list(models_of(row.id)[:MOST_USES])
        if learning := [one for one in used if _is_learning(one)]:
            raise VersionInUse(
                _("%(model)s is learning from this version. Wait until it has, or cancel its job.")
                % {"model": learning[0].name}
            )
        if used and not confirmed:
            raise VersionInUse(
                _(
                    "%(names)s was trained on this version and could not be trained on the same "
                    "assets again. Confirm the deletion: its name and digest are kept."
                )
                % {"names": ", ".join(one.name for one in used[:3])}
            )
        lines_of(row.id)._raw_delete(using="default")
        DatasetVersion.objects.filter(pk=row.pk).delete()
        details = {"dataset": str(dataset_id), "name": row.name, "digest": row.digest}
        record(actor=actor, verb="dataset.version_deleted", target=str(row.id), details=details)


def _is_learning(model: LearntModel) -> bool:
    return Job.objects.filter(jobs.UNFINISHED, pk=model.job_id).exists()
