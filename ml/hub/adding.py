"""A model of the hub, or a folder, as a joint space among the prepared models: whole or not at all.

Both towers are exported to ONNX and compared with the original; the mean of each side and the axes are taken from the
sentences and pictures that come with the product. What was fetched is not kept, its digests are.
"""

from __future__ import annotations

import errno
import importlib.metadata
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ml.alignment.installed import (
    MANIFEST,
    SCHEME,
    SHIPPED_SPACES,
    added_dir,
    added_folder,
    added_slugs,
)
from ml.compression.store import FORMAT, is_intact, locked, read_manifest
from ml.hub.fetching import AddingError, Limits, Source, fetch, take_folder
from ml.hub.layouts import Layout, read_layout

KIND = "two-tower"
TOWERS = ("text", "image")
PRECISIONS = ("int8", "fp16", "fp32")
#: Numbers of a vector, unless the model has fewer or others are asked for.
DIMENSION = 256
MOST_DIMENSIONS = 4096
#: An axis along which nothing was seen says nothing: so many texts at least for the axes.
FITTING_TEXTS = 1500
TIMED = 20
#: The last version of every name that was ever added: vectors of one that was removed never meet those of the next.
VERSIONS = ".versions.json"
ADDING, REMOVED = ".adding-", ".removed-"
#: Names of what ships, and of tenants' own.
RESERVED = frozenset({"cman", "open", "prior"})
#: Free space that is asked for, in bytes of weights: the original, both towers as fp32, and what is kept.
ROOM = 4
_NAME = re.compile(r"[a-z][a-z0-9-]{0,49}")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What to add. ``dimension`` 0 keeps the model's own; ``languages``: those that its text tower reads."""

    source: str  #: ``hf:owner/model`` or ``hf:/path/to/folder``
    name: str = ""  #: by default made from the source's
    revision: str = ""
    dimension: int = -1  #: -1: 256, or the model's own where that is less
    precision: str = "int8"
    languages: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Added:
    """A space that is here now."""

    slug: str
    folder: Path
    manifest: dict[str, Any]


def add_space(wanted: Wanted, tell: Tell) -> Added:
    """Fetch, check, export and keep; ``tell`` gets a sentence for each step.

    Raises AddingError; then nothing is left.
    """
    name = _name_of(wanted)
    if wanted.precision not in PRECISIONS:
        raise AddingError(f"precision {wanted.precision!r} is none of {', '.join(PRECISIONS)}")
    if not -1 <= wanted.dimension <= MOST_DIMENSIONS:
        raise AddingError(f"a vector has 1 to {MOST_DIMENSIONS} numbers, not {wanted.dimension}")
    with _explained(), locked(added_dir() / "add"):
        _clear_leftovers()
        slug = _free_slug(name)
        scratch = Path(tempfile.mkdtemp(prefix=ADDING, dir=added_dir()))
        try:
            building = scratch / slug
            manifest = _build(wanted, slug, building, scratch, tell)
            _remember_version(slug)
            scratch.chmod(0o755)
            building.rename(added_dir() / slug)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return Added(slug, added_dir() / slug, manifest)


def take_away(slug: str) -> Path:
    """Move a space out of sight in one step; where it lies now. Raises AddingError where there is none."""
    if slug not in added_slugs():
        known = ", ".join(added_slugs()) or "none"
        raise AddingError(f"there is no space {slug!r} that was added here; there are: {known}")
    away = added_dir() / f"{REMOVED}{slug}"
    shutil.rmtree(away, ignore_errors=True)
    added_folder(slug).rename(away)
    return away


def put_back(slug: str) -> None:
    """Undo ``take_away``."""
    (added_dir() / f"{REMOVED}{slug}").rename(added_folder(slug))


def damaged_file(slug: str) -> str:
    """What of a space that was added is missing or damaged, by its digests; empty where all is whole."""
    from ml.alignment.storage import SpaceError, read_space

    folder = added_folder(slug)
    try:
        read_space(folder)
    except SpaceError as error:
        return str(error)
    return next((f"{folder / name}" for name in TOWERS if not is_intact(folder / name, FORMAT)), "")


# --- Names -----------------------------------------------------------------------------------------------


def _name_of(wanted: Wanted) -> str:
    if not wanted.source.startswith("hf:") or wanted.source == "hf:":
        raise AddingError(f"{wanted.source!r} is not of the form hf:owner/model or hf:/path/to/folder")
    last = wanted.source.removeprefix("hf:").rstrip("/").rpartition("/")[2]
    name = wanted.name or re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")
    if not _NAME.fullmatch(name):
        raise AddingError(
            f"{name!r} cannot name a space: small letters, digits and '-', a letter first, at most 50. Say --name"
        )
    if name in RESERVED or name.startswith("cman-"):
        raise AddingError(f"{name!r} is a name of spaces that come with the product. Say --name")
    return name


def _free_slug(name: str) -> str:
    taken = [slug for slug in added_slugs() if slug.rpartition("-")[0] == name]
    if taken:
        raise AddingError(
            f"there is a space {taken[0]!r} already. Say another --name, or remove it first: "
            f"manage.py remove_space {taken[0]}"
        )
    slug = f"{name}-{_versions().get(name, 0) + 1}"
    if (SHIPPED_SPACES / slug).exists():
        raise AddingError(f"there is a space {slug!r} that comes with the product. Say another --name")
    return slug


def _versions() -> dict[str, int]:
    try:
        found = json.loads((added_dir() / VERSIONS).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember_version(slug: str) -> None:
    name, _, version = slug.rpartition("-")
    part = added_dir() / f"{VERSIONS}.part"
    part.write_text(json.dumps(_versions() | {name: int(version)}, sort_keys=True))
    part.replace(added_dir() / VERSIONS)


def _clear_leftovers() -> None:
    """What killed runs left."""
    for path in (*added_dir().glob(f"{ADDING}*"), *added_dir().glob(f"{REMOVED}*")):
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _explained() -> Iterator[None]:
    """What a disk or a model's files say, as AddingError."""
    from ml.compression.quantise import ParityError
    from ml.compression.towers import NotExportable
    from ml.encoders.base import EncoderUnavailable

    try:
        yield
    except (ParityError, NotExportable, EncoderUnavailable) as error:
        raise AddingError(str(error)) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise AddingError(f"the disk with {added_dir()} is full: make room, then run it again") from error
        raise AddingError(f"a file cannot be read or written: {error}") from error


# --- Building --------------------------------------------------------------------------------------------


def _build(wanted: Wanted, slug: str, building: Path, scratch: Path, tell: Tell) -> dict[str, Any]:
    """Every file of the space in ``building``; its manifest comes back."""
    source = _source(wanted, scratch, tell)
    size = source.weight_bytes
    _require_room(ROOM * size, f"{size / 1e6:,.0f} MB of weights")
    layout = read_layout(source.folder, scratch / "converted")
    tell(f"{layout.kind}, {size / 1e6:,.0f} MB of weights; exporting both towers")
    # Under a name without the marks that an encoder's name may not have.
    model = scratch / "model"
    model.symlink_to(layout.folder.resolve())
    building.mkdir()
    towers = {tower: _export_tower(model, tower, wanted, source, building, tell) for tower in TOWERS}
    return _fit(wanted, slug, layout, source, towers, building, tell)


def _source(wanted: Wanted, scratch: Path, tell: Tell) -> Source:
    named = wanted.source.removeprefix("hf:")
    path = Path(named).expanduser()
    if path.is_dir():
        if wanted.revision:
            raise AddingError(f"{named} is a folder, which has no revision {wanted.revision!r}")
        return take_folder(path)
    if path.is_absolute() or named.startswith((".", "~")):
        raise AddingError(f"there is no folder {named}")
    return fetch(
        named,
        wanted.revision or "main",
        scratch / "source",
        wanted.limits,
        tell,
        lambda size: _require_room(ROOM * size, named),
    )


def _require_room(wanted: int, what: str) -> None:
    free = shutil.disk_usage(added_dir()).free
    if free < wanted:
        raise AddingError(
            f"{what}: adding needs {wanted / 1e9:.1f} GB for a while, and {free / 1e9:.1f} GB are free in {added_dir()}"
        )


def _export_tower(
    model: Path, tower: str, wanted: Wanted, source: Source, building: Path, tell: Tell
) -> dict[str, Any]:
    """One tower in ``building/TOWER``; what the space's manifest says of it."""
    from ml.compression.export import calibration_items, export
    from ml.encoders.onnx import open_export

    made, tried = export(
        f"hf:{model}#{tower}", tower, precision=wanted.precision, folder=building, halved=True
    )
    (building / f".{tower}.lock").unlink(missing_ok=True)
    _name_source(building / tower, f"hf:{source.name}#{tower}")
    items = calibration_items(tower, None)[:TIMED]
    encoder = open_export(made)
    encoder.encode(items[:1])
    start = time.perf_counter()
    for item in items:
        encoder.encode([item])
    milliseconds = 1000 * (time.perf_counter() - start) / len(items)
    for attempt in tried:
        parity = attempt.parity
        tell(
            f"{tower} {attempt.precision}: cosine to the original {parity.least:.4f} at least, {parity.cosine:.4f} on "
            f"average ({parity.items} items){'' if attempt.kept else ', refused'}"
        )
    tell(f"{tower}: {made.bytes / 1e6:,.1f} MB, {milliseconds:.1f} ms each, one at a time")
    return {
        "precision": made.entry["precision"],
        "version": made.entry["version"],
        "dimension": made.entry["dimension"],
        "parity": made.entry["parity"],
        "bytes": made.bytes,
        "ms": round(milliseconds, 1),
    }


def _name_source(folder: Path, spec: str) -> None:
    """The export's own manifest names where it was made, which is gone; say what it was made of."""
    manifest = read_manifest(folder)
    assert manifest is not None  # noqa: S101 (just written)
    manifest["models"]["encoder"]["spec"] = spec
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def _fit(
    wanted: Wanted,
    slug: str,
    layout: Layout,
    source: Source,
    towers: dict[str, dict[str, Any]],
    building: Path,
    tell: Tell,
) -> dict[str, Any]:
    from ml.alignment.storage import write_space
    from ml.alignment.two_towers import TwoTowerSpace, all_axes, fitted_axes
    from ml.compression.store import find_export
    from ml.encoders.onnx import open_export

    widths = {tower: entry["dimension"] for tower, entry in towers.items()}
    if len(set(widths.values())) != 1:
        raise AddingError(f"its towers do not meet: {widths} numbers")
    width = next(iter(widths.values()))
    count = _dimension(wanted, width)
    encoders = {tower: open_export(find_export(tower, building)) for tower in TOWERS}
    texts, pictures = encoders["text"].encode(fitting_texts()), encoders["image"].encode(fitting_pictures())
    if not (np.isfinite(texts).all() and np.isfinite(pictures).all()):
        raise AddingError("it gives numbers that are none (NaN) for ordinary texts and pictures")
    means = texts.mean(axis=0), pictures.mean(axis=0)
    reduction: dict[str, Any] = {"method": "none", "from": width}
    if count == width:
        axes = all_axes(width)
    elif count in layout.matryoshka:
        axes, reduction["method"] = all_axes(width, count), "matryoshka"
    else:
        axes, kept = fitted_axes(texts - means[0], pictures - means[1], count)
        reduction |= {"method": "pca", "kept_variance": round(kept, 4)}
    space = TwoTowerSpace(*means, axes)
    tell(f"{count} numbers a vector ({_told(reduction)})")
    name, _, version = slug.rpartition("-")
    manifest = {
        "id": name,
        "version": version,
        "kind": KIND,
        "dimension": count,
        "encoders": {
            "text": f"{SCHEME}{slug}#text",
            "image": [f"{SCHEME}{slug}#image"],
            "text_version": towers["text"]["version"],
        },
        "languages": list(wanted.languages or (("zh",) if layout.kind == "chinese_clip" else ("en",))),
        "layout": layout.kind,
        "reduction": reduction,
        "source": source.as_dict(),
        "towers": towers,
        "fitted_on": {"texts": len(texts), "pictures": len(pictures)},
        "made_with": {
            one: importlib.metadata.version(one) for one in ("onnxruntime", "torch", "transformers")
        },
    }
    write_space(building, space.arrays(), manifest)
    return json.loads((building / MANIFEST).read_text("utf-8"))


def _dimension(wanted: Wanted, width: int) -> int:
    if wanted.dimension > width:
        raise AddingError(f"its vectors have {width} numbers, not {wanted.dimension}")
    if wanted.dimension == -1:
        return min(DIMENSION, width)
    count = wanted.dimension or width
    if count > MOST_DIMENSIONS:
        raise AddingError(f"a vector has at most {MOST_DIMENSIONS} numbers: say --dimension")
    return count


def _told(reduction: dict[str, Any]) -> str:
    if reduction["method"] == "none":
        return "the model's own"
    if reduction["method"] == "matryoshka":
        return f"the first of {reduction['from']}"
    return f"principal axes of {reduction['from']}, with {reduction['kept_variance']:.1%} of the variance"


def fitting_texts() -> list[str]:
    """Sentences and phrases that come with the product."""
    from ml.alignment.vocabulary import written_phrases
    from ml.compression.export import _spread
    from ml.compression.prepare import SENTENCES

    phrases = list(dict.fromkeys(phrase.text for phrase in written_phrases()))
    return [*SENTENCES, *_spread(phrases, FITTING_TEXTS)]


def fitting_pictures() -> Sequence[Any]:
    """Those that come with the product, and the four quarters of each."""
    from ml.compression.export import calibration_items

    found = []
    for picture in calibration_items("image", None):
        height, width = picture.shape[0] // 2, picture.shape[1] // 2
        quarters = [picture[y : y + height, x : x + width] for y in (0, height) for x in (0, width)]
        found += [picture, *quarters]
    return found
