"""Fingerprints of files, of whatever origin: made in the limited process that examines, never in this one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from ml.auditing import Subject
from ml.detectors.base import PROCESS_DIED
from tenants.datasets import storage
from tenants.datasets.models import Asset
from tenants.datasets.selectors import get_asset
from tenants.errors import Invalid, Unavailable
from tenants.long_requests import FINGERPRINTING
from tenants.moderation import known_content
from tenants.moderation.audits.evidence import fingerprints_of
from tenants.pipeline.assets.uploads import Upload
from tenants.pipeline.audits.examining import examiner
from tenants.scope import tenant_scope

SPEC = "fingerprints"

Prints = dict[str, Any]


def of_file(path: Path, *, modality: str, media_type: str, sha256: str) -> Prints:
    """The fingerprints of a local file; of a text its digest only. Takes seconds: outside of any scope.

    Raises Invalid where the file cannot be decoded, Unavailable where it cannot be looked at now.
    """
    if modality == Asset.Modality.TEXT:
        return {"sha256": sha256}
    examination = examiner().examine(Subject(modality, media_type, path), [SPEC])
    error = examination.about.get("error")
    if error and error["type"] != PROCESS_DIED:
        raise Invalid(
            _("The file cannot be decoded: %(detail)s.") % {"detail": error["detail"]}, pointer="/file"
        )
    if error or any(part.finding.state == "failed" for part in examination.parts):
        raise Unavailable(_("The file could not be checked; try again."))
    return {**fingerprints_of(examination), "sha256": sha256}


def of_upload(upload: Upload) -> Prints:
    """As `of_file`, of what was sent. Raises Unavailable while as many as may are being looked at."""
    path = getattr(upload.content, "temporary_file_path", None)
    with _slot():
        return of_file(
            Path(path()) if path else Path(),
            modality=upload.modality,
            media_type=upload.media_type,
            sha256=upload.sha256,
        )


def of_asset(tenant_id: uuid.UUID, asset_id: uuid.UUID) -> Prints:
    """What the asset's last audit saw, else what is seen now. Opens its own scope. Raises NotFound, as `of_upload`."""
    with tenant_scope(tenant_id):
        asset = get_asset(asset_id)
        stored = known_content.stored_fingerprints(asset_id)
    if stored:
        return {**stored, "sha256": asset.blob.sha256}
    with _slot():
        return look_at(asset)


def look_at(asset: Asset) -> Prints:
    """The fingerprints of an asset's file, seen now. Outside of any scope; raises as `of_file`."""
    blob = asset.blob
    with TemporaryDirectory(dir=settings.SPOOL_DIR, prefix="prints-") as folder:
        path = storage.path_of(asset.tenant_id, blob.sha256)
        with storage.local(path, Path(folder)) as local:
            return of_file(
                Path(local), modality=asset.modality, media_type=blob.media_type, sha256=blob.sha256
            )


@contextmanager
def _slot() -> Iterator[None]:
    with FINGERPRINTING.taken() as there:
        if not there:
            raise Unavailable(_("Other files are being checked; try again in a few seconds."))
        yield
