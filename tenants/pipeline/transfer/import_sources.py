"""What an import reads: an uploaded file that is kept, a folder, or a bucket's prefix with sealed credentials."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import vault
from tenants.accounts.vault import InvalidToken
from tenants.datasets import storage
from tenants.datasets.models import Dataset, Import
from tenants.errors import Conflict
from tenants.jobs.models import Job
from tenants.jobs.services import UNFINISHED
from tenants.scope import current_tenant_id

# A draft or a failed import can be started (again) for so long.
KEEP_SOURCE = dt.timedelta(days=7)
PURPOSE = b"import-credentials:"


@contextmanager
def source_of(row: Import) -> Iterator[Path | str]:
    """The uploaded file as a local path, or the folder, or the bucket's prefix. Raises Conflict if a file is gone."""
    if row.source != Import.Source.UPLOAD:
        yield Path(row.location) if row.source == Import.Source.FOLDER else row.location
        return
    with ExitStack() as stack:
        try:
            kept = storage.local(storage.import_path(row.tenant_id, row.id), settings.SPOOL_DIR)
            path = stack.enter_context(kept)
        except FileNotFoundError as error:
            raise Conflict(
                _("The file of this import is no longer kept. Upload it again: nothing is imported twice.")
            ) from error
        yield path


def forget_source(row: Import) -> None:
    """Remove the uploaded file and the bucket's credentials."""
    if row.source == Import.Source.UPLOAD:
        storage.drop(storage.import_path(row.tenant_id, row.id))
    Import.objects.filter(pk=row.pk).update(secret=None)


def forget_sources(dataset: Dataset) -> None:
    """Before a dataset goes."""
    for row in Import.objects.filter(dataset=dataset):
        forget_source(row)


def collect_sources() -> int:
    """Drop files and credentials of imports that nobody will go on with: without a row, or old and not running."""
    dropped = 0
    for row in Import.objects.exclude(secret=None):
        if _is_over(row):
            forget_source(row)
    for name in storage.kept_imports(current_tenant_id()):
        row = Import.objects.filter(pk=name).first()
        if row is None or _is_over(row):
            storage.drop(storage.import_path(current_tenant_id(), name))
            dropped += 1
    return dropped


def _is_over(row: Import) -> bool:
    """A draft or a failed import can be started (again) for KEEP_SOURCE; then only its receipt stays."""
    old = row.created_at < timezone.now() - KEEP_SOURCE
    return old and not Job.objects.filter(UNFINISHED, pk=row.job_id).exists()


def sealed(secret: Mapping[str, str]) -> bytes:
    return vault.seal(json.dumps(dict(secret)).encode(), purpose=PURPOSE, owner=current_tenant_id())


def secret_of(row: Import) -> dict[str, str] | None:
    """The credentials of a bucket, or None. Raises Conflict if they were sealed under a key that is not here."""
    if not row.secret:
        return None
    try:
        return json.loads(vault.unseal(bytes(row.secret), purpose=PURPOSE, owner=row.tenant_id))
    except InvalidToken as error:
        raise Conflict(_("The credentials of this import can no longer be read. Start it again.")) from error
