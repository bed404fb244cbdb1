"""The joint spaces that vectors are made in: those that ship or were added, and tenants' own, in the storage.

A model's id is `space id:version`. What ships is a folder beside `ml.alignment.space`; what an operator added lies
among the prepared models (`ml.alignment.installed`). A tenant's own space lies under `TENANT/model/ID.VERSION/`;
`files.json`, written last, names its files with their digests. A process copies them to SPACES_DIR once, and nothing is
used of them before every digest fits. A space that is missing or damaged is an error: never does another one answer in
its place.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
import time
import uuid
from collections import OrderedDict
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.files.storage import default_storage
from django.utils.translation import gettext as _

from ml.alignment.installed import MANIFEST, folder_of
from ml.alignment.own_tower import SCHEME
from ml.indexes import files
from ml.indexes.files import FileStamp
from tenants.datasets import storage
from tenants.errors import Invalid, ModelUnavailable, StorageFull, room_on_disk
from tenants.retrieval.cache import SingleFlight

if TYPE_CHECKING:
    from ml.alignment.space import JointSpace

log = logging.getLogger(__name__)

# The spaces that ship and that a new tenant's vectors are made in, the best first.
DEFAULTS = ("open:2", "prior:2")
# Numbers of a vector, at most: what a query and a row of an export may hold.
MAX_DIMENSION = 4_096
KIND = "model"
NAME = "files.json"
FETCHED = ".fetched"
# Numbers of a space are stored in one or two bytes and held in four.
GROWS = 4
# Local copies that no process opened for so long are removed.
UNUSED_S = 7 * 24 * 3600
_OWN = re.compile(r"[a-z]+-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):[0-9]+")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def is_own(model: str) -> bool:
    """Whether an id is that of a tenant's own model."""
    return bool(_OWN.fullmatch(model))


def model_of(space: JointSpace) -> str:
    """The model's id, as stored with every vector."""
    return f"{space.id}:{space.version}"


def path_of(tenant_id: uuid.UUID, model: str, name: str = "") -> str:
    """Where a file of a tenant's own space lies in the storage; without a name its folder."""
    return f"{tenant_id}/{KIND}/{_folder_name(model)}" + (f"/{name}" if name else "")


def _folder_name(model: str) -> str:
    return model.replace(":", ".")


@cache
def default_model() -> str:
    """What a tenant that never chose a model searches by: `settings.DEFAULT_MODEL`, or the first of `DEFAULTS` whose
    encoders were prepared on this machine. Once a tenant has vectors, its clock says which model they are of."""
    if settings.DEFAULT_MODEL:
        return str(settings.DEFAULT_MODEL)
    return next((one for one in DEFAULTS[:-1] if _is_prepared(one)), DEFAULTS[-1])


def _is_prepared(model: str) -> bool:
    from ml.alignment.storage import missing_models

    folder = folder_of(model)
    return folder is not None and not missing_models(json.loads((folder / MANIFEST).read_text("utf-8")))


# --- Keeping ---------------------------------------------------------------------------------------------


def keep_space(*, tenant_id: uuid.UUID, model: str, folder: Path) -> None:
    """Take the files of a tenant's own space into the storage: all of `folder`. In no scope, as it copies.

    Safe to repeat. Raises Invalid for another id than the manifest's, SpaceError for damaged files.
    """
    if not is_own(model):
        raise Invalid(
            _("%(model)s is no id of a workspace's own model.") % {"model": f"{model!r}"}, pointer="/model"
        )
    if _require(_load(folder), model).dimension > MAX_DIMENSION:
        raise Invalid(
            _("A vector of a model has at most %(most)s numbers.") % {"most": MAX_DIMENSION}, pointer="/model"
        )
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != NAME)
    if strange := [name for name in names if not _FILE.fullmatch(name)]:
        raise Invalid(
            _("A file of a model cannot be called %(value)s.") % {"value": f"{strange[0]!r}"},
            pointer="/model",
        )
    stamps = files.stamp_files(folder, names, threads=1)
    for name in names:
        with (folder / name).open("rb") as stream:
            storage.put(path_of(tenant_id, model, name), stream)
    body = {name: asdict(stamp) for name, stamp in stamps.items()}
    storage.put(path_of(tenant_id, model, NAME), json.dumps(body, sort_keys=True).encode())


def drop_space(*, tenant_id: uuid.UUID, model: str) -> None:
    """Remove a tenant's own space from the storage and from this machine; one that is not there is no error."""
    if is_own(model):
        # What names the others first: half a space is none.
        for path in (path_of(tenant_id, model, NAME), *storage.files_below(path_of(tenant_id, model))):
            default_storage.delete(path)
        shutil.rmtree(_local(tenant_id, model), ignore_errors=True)
        spaces.forget(tenant_id, model)


# --- Opening -------------------------------------------------------------------------------------------------


def space(model: str, tenant_id: uuid.UUID | None = None) -> JointSpace:
    """The space of a model: one that ships, or one of this tenant. May wait for the storage: call it in no scope.

    Raises ModelUnavailable.
    """
    return spaces.get(model, tenant_id)


class Spaces:
    """The spaces that are in memory, tenants' own least recently used first out; what ships stays."""

    def __init__(self, budget_bytes: int | None = None) -> None:
        self._budget = settings.SPACES_MEMORY_BYTES if budget_bytes is None else budget_bytes
        self._own: OrderedDict[tuple[uuid.UUID, str], tuple[JointSpace, int]] = OrderedDict()
        self._built_in: dict[str, JointSpace] = {}
        self._flights: SingleFlight[JointSpace] = SingleFlight()
        self._lock = threading.Lock()

    def get(self, model: str, tenant_id: uuid.UUID | None) -> JointSpace:
        """See `space`."""
        if (shipped := self._built_in.get(model)) is not None:
            return shipped
        if not is_own(model):
            return self._flights.do(model, lambda: self._ship(model))[0]
        if tenant_id is None:
            raise ModelUnavailable(_("The model %(model)s belongs to a workspace.") % {"model": model})
        with self._lock:
            if (found := self._own.get((tenant_id, model))) is not None:
                self._own.move_to_end((tenant_id, model))
                return found[0]
        return self._flights.do((tenant_id, model), lambda: self._fetch(tenant_id, model))[0]

    def opened(self, model: str, tenant_id: uuid.UUID) -> JointSpace | None:
        """The same, if this process has it already: nothing is waited for."""
        if (shipped := self._built_in.get(model)) is not None:
            return shipped
        with self._lock:
            found = self._own.get((tenant_id, model))
        return found[0] if found else None

    def forget(self, tenant_id: uuid.UUID, model: str) -> None:
        with self._lock:
            self._own.pop((tenant_id, model), None)

    def bytes(self) -> int:
        """Of tenants' own spaces, about."""
        with self._lock:
            return sum(size for _, size in self._own.values())

    def _ship(self, model: str) -> JointSpace:
        if model not in self._built_in:
            self._built_in[model] = _shipped(model)
        return self._built_in[model]

    def _fetch(self, tenant_id: uuid.UUID, model: str) -> JointSpace:
        opened, size = _opened(tenant_id, model)
        with self._lock:
            self._own[tenant_id, model] = (opened, size)
            while len(self._own) > 1 and sum(held for _, held in self._own.values()) > self._budget:
                self._own.popitem(last=False)
        return opened


def _shipped(model: str) -> JointSpace:
    # Imported on first use: management commands and migrations need no model runtime.
    from ml.alignment.space import SpaceError

    folder = folder_of(model)
    if folder is None:
        raise ModelUnavailable(_("Unknown model %(model)s.") % {"model": f"{model!r}"})
    try:
        return _require(_load(folder), model)
    except SpaceError as error:
        raise ModelUnavailable(
            _("The model %(model)s is not installed: %(error)s") % {"model": model, "error": error}
        ) from error


def _load(folder: Path) -> JointSpace:
    from ml.alignment.space import JointSpace

    return JointSpace.load(folder)


def _require(found: JointSpace, model: str) -> JointSpace:
    if model_of(found) != model:
        raise Invalid(
            _("These are the files of %(value)s, not of %(model)s.")
            % {"value": model_of(found), "model": model},
            pointer="/model",
        )
    return found


def _opened(tenant_id: uuid.UUID, model: str) -> tuple[JointSpace, int]:
    """A tenant's own space and about how many bytes it holds; a local copy that is damaged is fetched anew."""
    from ml.alignment.space import SpaceError

    folder = _local(tenant_id, model)
    with suppress(SpaceError, Invalid, OSError):
        if _is_whole(folder):
            (folder / NAME).touch()
            return _ready(folder, model), _size(folder)
    shutil.rmtree(folder, ignore_errors=True)
    _take(tenant_id, model, folder)
    try:
        return _ready(folder, model), _size(folder)
    except (SpaceError, Invalid, OSError) as error:
        raise ModelUnavailable(
            _("The model %(model)s is damaged: %(error)s") % {"model": model, "error": error}
        ) from error


def _ready(folder: Path, model: str) -> JointSpace:
    """With a text tower of its own open, if it has one: its files may go afterwards."""
    found = _require(_load(folder), model)
    if found.manifest["encoders"]["text"].startswith(SCHEME):
        found.read([])
    return found


def _size(folder: Path) -> int:
    return GROWS * sum(path.stat().st_size for path in folder.iterdir())


def fetch_space(tenant_id: uuid.UUID, model: str, folder: Path) -> None:
    """The files of a tenant's own space, checked, in a folder that is made. In no scope. Raises ModelUnavailable."""
    _take(tenant_id, model, folder)


# --- Local copies ----------------------------------------------------------------------------------------


def _local(tenant_id: uuid.UUID, model: str) -> Path:
    return settings.SPACES_DIR / str(tenant_id) / _folder_name(model)


def _is_whole(folder: Path) -> bool:
    if not (folder / NAME).exists():
        return False
    return files.first_damage(folder, _stamps((folder / NAME).read_bytes()), verify=True) is None


def _stamps(body: bytes) -> dict[str, FileStamp]:
    """Raises Invalid for what `keep_space` did not write."""
    try:
        found = {
            name: FileStamp(int(one["bytes"]), str(one["digest"])) for name, one in json.loads(body).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Invalid(_("%(name)s cannot be read") % {"name": NAME}) from error
    if not all(_FILE.fullmatch(name) for name in found):
        raise Invalid(_("%(name)s names a file that cannot be one") % {"name": NAME})
    return found


def _take(tenant_id: uuid.UUID, model: str, folder: Path) -> None:
    """Copy the files from the storage; whole or not at all. Raises ModelUnavailable, StorageFull."""
    # A name of its own: several processes may be at it.
    part = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}{FETCHED}")
    try:
        with room_on_disk():
            part.mkdir(parents=True)
            _copy(tenant_id, model, part)
            # Another process may have been faster.
            with suppress(FileExistsError, OSError):
                part.rename(folder)
    except (StorageFull, ModelUnavailable):
        raise
    except FileNotFoundError as error:
        raise ModelUnavailable(_("Files of the model %(model)s are missing.") % {"model": model}) from error
    except Exception as error:
        log.warning("a model cannot be fetched", extra={"model": model}, exc_info=True)
        raise ModelUnavailable(
            _("The model %(model)s cannot be read at the moment.") % {"model": model}
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _copy(tenant_id: uuid.UUID, model: str, part: Path) -> None:
    storage.copy_to(path_of(tenant_id, model, NAME), part / NAME)
    stamps = _stamps((part / NAME).read_bytes())
    for name in stamps:
        storage.copy_to(path_of(tenant_id, model, name), part / name)
    if problem := files.first_damage(part, stamps, verify=True):
        raise ModelUnavailable(
            _("The model %(model)s is damaged: %(problem)s.") % {"model": model, "problem": problem}
        )


def tidy_local() -> None:
    """Remove local copies that nobody opened for long, and what killed fetches left; for upkeep."""
    limit = time.time() - UNUSED_S
    for folder in settings.SPACES_DIR.glob("*/*"):
        # Another process may be at it.
        with suppress(OSError):
            marked = folder / NAME if (folder / NAME).exists() else folder
            if marked.stat().st_mtime < limit:
                shutil.rmtree(folder)


spaces = Spaces()
