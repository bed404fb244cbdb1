"""A space on disk: ``space.safetensors`` and a ``manifest.json`` that vouches for it. No pickles, no torch."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ml.alignment import adapted_space, layout, learned_space, tower_space, traditional, two_towers
from ml.alignment.projection import Placing, Projection, TextReader
from ml.compression import is_prepared

TENSORS = "space.safetensors"
MANIFEST = "manifest.json"
_TENSORS_PATH = re.compile(rf"(?:\.\./[\w-]+/)?{re.escape(TENSORS)}")

Arrays = dict[str, NDArray[Any]]

SHIPPED = Path(__file__).parent / "spaces"

Shapes = dict[str, tuple[str, tuple[int, ...]]]

#: Type and shape of every tensor of a prior; -1 is any length.
_PRIOR: Shapes = {
    "text_mean": ("float32", (384,)),
    "phrases": ("int8", (-1, 384)),
    "phrase_scales": ("float32", (-1,)),
    "phrase_classes": ("int16", (-1,)),
    "phrase_sizes": ("int16", (-1,)),
    "ridge": ("float16", (384, 1000)),
    "axes": ("float16", (1000, layout.CLASS_DIMENSIONS)),
    "sight_axes": ("float16", (1000, layout.SIGHT_DIMENSIONS)),
    "hub_bank": ("float16", (-1, layout.CLASS_DIMENSIONS)),
    "hub_level": ("float32", (1,)),
    "text_axes": ("float16", (384, layout.TEXT_DIMENSIONS)),
    "text_from_classes": ("float16", (layout.CLASS_DIMENSIONS, layout.TEXT_DIMENSIONS)),
}


#: What a space may be, by ``kind`` in its manifest: written knowledge, heads beside it, linear maps alone, texts
#: mapped to a picture tower, such a space adapted to pairs, or two towers that learnt to meet.
KINDS: dict[str, Shapes] = {
    "prior": _PRIOR,
    "cman": learned_space.SHAPES,
    "linear": traditional.SHAPES,
    "tower": tower_space.SHAPES,
    "adapted": adapted_space.SHAPES,
    "two-tower": two_towers.SHAPES,
}

#: What spaces of a kind may hold beside.
OPTIONAL: dict[str, Shapes] = {"tower": tower_space.OPTIONAL, "adapted": tower_space.OPTIONAL}

#: The prepared models of an encoder that is not one model of its own name.
MADE_OF = {"bilingual": ("minilm",), "multilingual": ("minilm", "e5")}

#: Kinds whose own parts say how wide they are; the others have the layout of this code.
OWN_DIMENSION = frozenset({"tower", "adapted", "two-tower"})


class SpaceError(RuntimeError):
    """The files of a space are missing, damaged or not of this kind; the message says which."""


def write_space(folder: Path, arrays: Arrays, manifest: dict[str, Any]) -> None:
    """Write both files; equal arrays and settings give equal bytes. ``manifest["kind"]`` is by default a prior."""
    _check(arrays, folder, manifest.get("kind", "prior"))
    folder.mkdir(parents=True, exist_ok=True)
    content = save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)})
    (folder / TENSORS).write_bytes(content)
    body = manifest | {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / MANIFEST).write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")


def read_space(folder: Path) -> tuple[Placing, dict[str, Any]]:
    """What places texts and pictures as ``folder`` says, and its manifest. Raises SpaceError."""
    manifest = _read_manifest(folder)
    kind = manifest.get("kind", "prior")
    arrays = _read_arrays(_tensors(folder, manifest), manifest["sha256"])
    _check(arrays, folder, kind)
    try:
        if kind == "linear":
            return traditional.Linear(**arrays), manifest
        if kind == "cman":
            return learned_space.unpacked(arrays, _named_prior(manifest)), manifest
        if kind == "tower":
            return _of_dimension(tower_space.unpacked(arrays, **_parts(manifest)), manifest), manifest
        if kind == "adapted":
            return _of_dimension(adapted_space.unpacked(arrays, **_parts(manifest)), manifest), manifest
        if kind == "two-tower":
            return _of_dimension(two_towers.unpacked(arrays), manifest), manifest
    except ValueError as error:
        raise SpaceError(f"{folder / TENSORS}: {error}") from error
    return unpacked(arrays), manifest


def _of_dimension(
    placing: tower_space.TowerSpace | adapted_space.AdaptedSpace | two_towers.TwoTowerSpace,
    manifest: dict[str, Any],
) -> Placing:
    if placing.dimension != manifest["dimension"]:
        raise ValueError(f"its parts make {placing.dimension} dimensions, not {manifest['dimension']}")
    return placing


def missing_models(manifest: dict[str, Any]) -> list[str]:
    """Names of the models that a space's bundled encoders need and that were not prepared on this machine."""
    specs = [*manifest["encoders"]["image"], manifest["encoders"]["text"]]
    names = [spec.removeprefix("bundled:") for spec in specs if spec.startswith("bundled:")]
    needed = [model for name in names for model in MADE_OF.get(name, (name,))]
    return [model for model in dict.fromkeys(needed) if not is_prepared(model)]


def described_prior(manifest: dict[str, Any]) -> dict[str, str]:
    """What a learnt space writes under ``prior``: the shipped prior that ``manifest`` is of, or stands beside."""
    if manifest.get("kind", "prior") == "cman":
        return dict(manifest["prior"])
    return {name: manifest[name] for name in ("id", "version", "sha256")}


class _Parts(TypedDict):
    classes: bool
    stored_hub: float | None


def _parts(manifest: dict[str, Any]) -> _Parts:
    """What some spaces on a tower have and others have not."""
    classes, hub = manifest.get("classes", False), manifest.get("stored_hub")
    if not isinstance(classes, bool):
        raise ValueError("the manifest's classes are neither true nor false")
    if hub is not None and not isinstance(hub, int | float):
        raise ValueError("the manifest's stored_hub is no number")
    return {"classes": classes, "stored_hub": hub}


def _named_prior(manifest: dict[str, Any]) -> Projection:
    """The prior that a learnt space stands beside: one that ships, so that tenants' spaces share its memory."""
    named = manifest.get("prior")
    if not isinstance(named, dict) or not re.fullmatch(
        r"\w+-\w+", f"{named.get('id')}-{named.get('version')}"
    ):
        raise SpaceError("the manifest does not name its prior")
    return _shipped_prior(f"{named['id']}-{named['version']}", str(named.get("sha256")))


@cache
def _shipped_prior(name: str, digest: str) -> Projection:
    placing, manifest = read_space(SHIPPED / name)
    if not isinstance(placing, Projection) or manifest["sha256"] != digest:
        raise SpaceError(f"the space was learnt beside another {name} than the one that is here")
    return placing


def _read_arrays(path: Path, digest: str) -> Arrays:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SpaceError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise SpaceError(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}")
    try:
        arrays: Arrays = load(content)
    except SafetensorError as error:
        raise SpaceError(f"{path} is no safetensors file: {error}") from error
    return arrays


def unpacked(arrays: Arrays) -> Projection:
    """Arrays as stored, to float32 ready for use."""
    sizes = arrays["phrase_sizes"].astype(np.intp)
    reader = TextReader(
        mean=arrays["text_mean"],
        phrases=arrays["phrases"].astype(np.float32) * arrays["phrase_scales"][:, None],
        class_of=arrays["phrase_classes"].astype(np.intp),
        phrase_of=np.repeat(np.arange(len(sizes)), sizes),
        share=np.repeat(1 / sizes, sizes).astype(np.float32),
        ridge=arrays["ridge"].astype(np.float32),
    )
    names = ("axes", "sight_axes", "hub_bank", "text_axes", "text_from_classes")
    matrices = {name: arrays[name].astype(np.float32) for name in names}
    return Projection(reader=reader, hub_level=float(arrays["hub_level"][0]), **matrices)


def _tensors(folder: Path, manifest: dict[str, Any]) -> Path:
    """Its own file, or that of a space beside it: spaces that differ only in an encoder share their tensors."""
    named = manifest.get("tensors", TENSORS)
    if not isinstance(named, str) or not _TENSORS_PATH.fullmatch(named):
        raise SpaceError(f"{folder / MANIFEST}: tensors lie in the folder or in one beside it")
    return folder / named


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SpaceError(f"there is no joint space in {folder}: {path.name} cannot be read") from error
    except ValueError as error:
        raise SpaceError(f"{path} is no JSON: {error}") from error
    needed = {"id", "version", "dimension", "encoders", "sha256"}
    if not isinstance(manifest, dict) or not needed <= manifest.keys():
        raise SpaceError(f"{path} lacks one of {', '.join(sorted(needed))}")
    if manifest["dimension"] != layout.DIMENSION and manifest.get("kind") not in OWN_DIMENSION:
        raise SpaceError(f"{path}: dimension {manifest['dimension']}, this code reads {layout.DIMENSION}")
    return manifest


def _check(arrays: Arrays, folder: Path, kind: str) -> None:
    if kind not in KINDS:
        raise SpaceError(f"{folder / MANIFEST}: there is no kind {kind!r} of space")
    known = KINDS[kind] | OPTIONAL.get(kind, {})
    for name, (dtype, shape) in known.items():
        if name not in arrays:
            if name not in KINDS[kind]:
                continue
            raise SpaceError(f"{folder / TENSORS} lacks the tensor {name!r}")
        found = arrays[name]
        fits = found.ndim == len(shape) and all(
            want in (-1, have) for want, have in zip(shape, found.shape, strict=True)
        )
        if found.dtype != dtype or not fits:
            raise SpaceError(f"{folder / TENSORS}: {name!r} is {found.dtype}{list(found.shape)}, not {dtype}")
    if more := arrays.keys() - known.keys():
        raise SpaceError(
            f"{folder / TENSORS} holds the tensor {min(more)!r}, which no space of kind {kind} has"
        )
