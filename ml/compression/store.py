"""Where prepared model files lie, and the manifest that vouches for them. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
#: The folder among the prepared models with encoders that were exported by name.
EXPORTS = "exports"
COMMAND = "python -m ml.compression prepare"


class ModelsMissing(RuntimeError):
    """A prepared model file is not there; the message names the command that makes it."""


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


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of ``folder``, or None where it is absent or no JSON object."""
    try:
        content = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_manifest(folder: Path, recipe: str, models: dict[str, Any]) -> None:
    """Record every file beside it with its SHA-256 and size."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    files = {name: _fingerprint(folder / name) for name in names}
    body = {"recipe": recipe, "models": models, "files": files}
    (folder / MANIFEST).write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")


def is_intact(folder: Path, recipe: str) -> bool:
    """True when the manifest is of this recipe and every file still has the digest it names."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.get("recipe") != recipe or not manifest.get("files"):
        return False
    return all(
        (folder / name).is_file() and _fingerprint(folder / name) == recorded
        for name, recorded in manifest["files"].items()
    )


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fingerprint(path: Path) -> dict[str, Any]:
    return {"sha256": sha256(path), "bytes": path.stat().st_size}
