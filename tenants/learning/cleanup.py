"""What is left over of models: working folders of trainings that have ended, and files of models that were deleted."""

from __future__ import annotations

import shutil
from pathlib import Path

from django.conf import settings
from django.core.files.storage import default_storage

from tenants.datasets.services import may_remove_files
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.learning import scratch
from tenants.learning.models import LearntModel, space_of
from tenants.retrieval import model_routing
from tenants.retrieval.model_store import KIND
from tenants.scope import current_tenant_id


def remove_leftovers() -> int:
    """Remove both of the active tenant; how many there were. In its scope."""
    folder, tenant_id = Path(settings.LEARNING_DIR) / str(current_tenant_id()), current_tenant_id()
    kept = scratch.kept_models(tenant_id)
    busy = Job.objects.filter(jobs.UNFINISHED, kind="finetune").values_list("arguments__model", flat=True)
    under_way = set(busy)
    folders = [path for path in folder.glob("*") if path.name not in under_way]
    over = [model for model in kept if model not in under_way]
    for model in over:
        scratch.drop(tenant_id, model)
    return len(over) + sum(map(_drop_folder, folders)) + sum(map(_drop_space, _orphans()))


def _drop_folder(path: Path) -> bool:
    shutil.rmtree(path, ignore_errors=True)
    return True


def _orphans() -> list[str]:
    """Spaces in the storage whose row is gone."""
    try:
        names, _ = default_storage.listdir(f"{current_tenant_id()}/{KIND}")
    except FileNotFoundError:
        return []
    known = {space_of(pk) for pk in LearntModel.objects.values_list("pk", flat=True)}
    stored = {name.replace(".", ":") for name in names}
    return [space for space in sorted(stored - known) if model_routing.is_own(space)]


def _drop_space(space: str) -> bool:
    if not may_remove_files():
        return False
    model_routing.drop_space(tenant_id=current_tenant_id(), model=space)
    return True
