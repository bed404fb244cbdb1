"""Where prepared model files lie, and the manifest that vouches for them. Standard library only."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

# --- Folders ---------------------------------------------------------------------------------------------
# Folders that appear whole or not at all, however many processes ask at the same time.


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an advisory lock beside ``folder``; the kernel releases it when the process dies: nothing goes stale."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def replacing(folder: Path, keep: Sequence[str] = ()) -> Iterator[Path]:
    """An empty folder beside that takes ``folder``'s place when the block ends without an error.

    The sub-folders ``keep`` move from the old one to the new one. Needs the lock. Leftovers of killed builds are
    removed first.
    """
    for leftover in folder.parent.glob(f".{folder.name}.building-*"):
        _move(keep, leftover, folder)
        shutil.rmtree(leftover, ignore_errors=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.building-", dir=folder.parent))
    try:
        _open_to_all(building)
        yield building
        _swap(building, folder, keep)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _open_to_all(folder: Path) -> None:
    # By a descriptor: a limited process may not change the modes of names (`ml.sandbox`).
    at = os.open(folder, os.O_RDONLY)
    try:
        os.fchmod(at, 0o755)
    finally:
        os.close(at)


def _swap(building: Path, folder: Path, keep: Sequence[str]) -> None:
    if not folder.exists():
        building.rename(folder)
        return
    # Moved aside first: a folder cannot be replaced in one step. Who reads in between finds none.
    folder.rename(old := building.with_name(building.name + "-old"))
    building.rename(folder)
    _move(keep, old, folder)
    shutil.rmtree(old, ignore_errors=True)


def _move(names: Sequence[str], source: Path, target: Path) -> None:
    for name in names:
        if (source / name).is_dir() and not (target / name).exists():
            target.mkdir(exist_ok=True)
            (source / name).rename(target / name)


# --- Prepared models -------------------------------------------------------------------------------------


MANIFEST = "manifest.json"
#: The folder among the prepared models with encoders that were exported by name.
EXPORTS = "exports"
#: And the one with joint spaces that an operator added (``ml.alignment.installed``).
SPACES = "spaces"
COMMAND = "python -m ml.compression prepare"


class ModelsMissing(RuntimeError):
    """A prepared model file is not there; the message names the command that makes it."""


class WeightsMissing(RuntimeError):
    """A package with weights is not installed, or holds other weights than are known here."""


@dataclass(frozen=True)
class ModelFile:
    """One prepared model: its ONNX file, its version (recipe, weights, precision) and measured parity."""

    id: str
    path: Path
    version: str
    parity: float


def models_dir() -> Path:
    """``CROSSLIGHT_MODELS``, else ``$DATA_DIR/models``, else ``var/models`` under the repository."""
    if named := os.environ.get("CROSSLIGHT_MODELS"):
        return Path(named)
    if data := os.environ.get("DATA_DIR"):
        return Path(data) / "models"
    root = Path(__file__).resolve().parents[2]
    # An installed wheel has no repository around it: then the current directory is the only sensible root.
    base = root if (root / "pyproject.toml").exists() else Path.cwd()
    return base / "var" / "models"


def model_folders() -> list[Path]:
    """Every folder with models that are loaded by name: the prepared ones, and the cache of the Hugging Face hub."""
    return list(dict.fromkeys(map(Path, model_places().values())))


def model_places() -> dict[str, str]:
    """The same as environment variables, for a process that sees no other variables of this one."""
    hub = os.environ.get("HF_HOME") or str(Path("~/.cache/huggingface").expanduser())
    cache = {"HF_HUB_CACHE": os.environ["HF_HUB_CACHE"]} if os.environ.get("HF_HUB_CACHE") else {}
    return {"CROSSLIGHT_MODELS": str(models_dir().absolute()), "HF_HOME": hub, **cache}


def find_model(model_id: str, folder: Path | None = None) -> ModelFile:
    """The prepared file of ``model_id``. Raises ModelsMissing with the command to run."""
    folder = folder or models_dir()
    entry = (read_manifest(folder) or {}).get("models", {}).get(model_id)
    if entry is None or not (folder / entry["file"]).is_file():
        raise ModelsMissing(
            f"model {model_id!r} is not prepared in {folder}: run `{COMMAND} --out {folder}` "
            "(or point CROSSLIGHT_MODELS at a prepared folder)"
        )
    return ModelFile(model_id, folder / entry["file"], entry["version"], entry["parity"])


def is_prepared(model_id: str) -> bool:
    """Whether ``find_model`` finds it."""
    try:
        find_model(model_id)
    except ModelsMissing:
        return False
    return True


def packaged_file(package: str, name: str, digest: str) -> Path:
    """The file ``name`` of an installed package, which is not imported. Raises WeightsMissing, also for other bytes."""
    try:
        found = distribution(package)
    except PackageNotFoundError:
        raise WeightsMissing(f"the package {package} is not installed") from None
    path = Path(str(found.locate_file(name)))
    if not path.is_file() or sha256(path) != digest:
        raise WeightsMissing(f"{path} of the package {package} is not the file that is known here")
    return path


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of ``folder``, or None where it is absent or no JSON object."""
    try:
        content = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_manifest(folder: Path, recipe: str, models: dict[str, Any]) -> None:
    """Record every file beside it, and in folders beside it, with its SHA-256 and size."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    files = {name: _fingerprint(folder / name) for name in names}
    body = {"recipe": recipe, "models": models, "files": files}
    (folder / MANIFEST).write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")


def is_intact(folder: Path, recipe: str) -> bool:
    """True when the manifest is of this recipe and every file still has the digest it names."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.get("recipe") != recipe or not manifest.get("files"):
        return False
    return are_intact(folder, manifest["files"])


def are_intact(folder: Path, files: dict[str, Any]) -> bool:
    """True when every file still has the digest and size that a manifest's ``files`` name."""
    return all(
        (folder / name).is_file() and _fingerprint(folder / name) == recorded
        for name, recorded in files.items()
    )


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fingerprint(path: Path) -> dict[str, Any]:
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


# --- Exports ---------------------------------------------------------------------------------------------
# Exported encoders on disk: ``models_dir()/exports/NAME`` with a manifest. Standard library only.


#: Raise it when a reader of this release could not use what the exporter of that one wrote.
FORMAT = "export-1"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class ExportMissing(RuntimeError):
    """There is no such export, or its files are not those that its manifest names."""


@dataclass(frozen=True)
class Export:
    """One exported encoder. ``entry`` is what the exporter recorded: modality, preparation, parity, …"""

    name: str
    folder: Path
    entry: dict[str, Any]

    @property
    def model(self) -> Path:
        return self.folder / MODEL

    @property
    def bytes(self) -> int:
        """Of all its files but the manifest."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.name != MANIFEST)


def exports_dir() -> Path:
    """``exports`` in the folder of prepared models."""
    return models_dir() / EXPORTS


def check_name(name: str) -> str:
    """``name`` if it can name an export, else ValueError."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name an export: small letters, digits, '.', '_' and '-', at most 64"
        )
    return name


def find_export(name: str, folder: Path | None = None) -> Export:
    """The export ``name`` with its files checked against their digests. Raises ExportMissing, ValueError."""
    path = (folder or exports_dir()) / check_name(name)
    manifest = read_manifest(path)
    if manifest is None:
        raise ExportMissing(
            f"there is no exported encoder {name!r} in {path.parent}: "
            f"run `python -m ml.compression export SPEC --name {name}`"
        )
    if manifest.get("recipe") != FORMAT:
        raise ExportMissing(
            f"{path} is {manifest.get('recipe')!r}; this release reads {FORMAT!r}: export it again"
        )
    entry = manifest.get("models", {}).get("encoder")
    if not isinstance(entry, dict) or not (path / MODEL).is_file() or not is_intact(path, FORMAT):
        raise ExportMissing(f"the files in {path} are not those that its {MANIFEST} names: export it again")
    return Export(name, path, entry)


def list_exports(folder: Path | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Name and entry of each export; what has no manifest of this format is left out."""
    found = []
    for path in sorted((folder or exports_dir()).glob(f"*/{MANIFEST}")):
        manifest = read_manifest(path.parent) or {}
        if manifest.get("recipe") == FORMAT and NAME.fullmatch(path.parent.name):
            found.append((path.parent.name, manifest["models"]["encoder"]))
    return found
