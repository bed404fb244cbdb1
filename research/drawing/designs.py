"""The drawings that teach and judge: emoji designs with open licences, by name, fetched and drawn reproducibly.

``python -m research.drawing fetch`` runs `npm pack` for the packages below and puts the rasteriser resvg-py into the
data folder, nowhere else. Designs: OpenMoji (CC BY-SA 4.0), Twemoji (CC BY 4.0), Fluent UI Emoji (MIT, flat and
modern), Noto (Apache-2.0); labels and tags: emojibase-data (MIT).

Concepts are split by family (``family``), by hash, so that no family is in two splits: TRAIN teaches the generator,
JUDGE fits the judge, TEST is seen by neither.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

#: The weights that the TRAIN split alone taught: what is measured on concepts that they never saw. Not in the wheel.
SPLIT_WEIGHTS = Path(__file__).parent / "weights" / "split.safetensors"
SIDE = 64
PACKAGES = {
    "openmoji": "openmoji@17.0.0",
    "twemoji": "@twemoji/svg@15.0.0",
    "fluent": "fluentui-emoji@1.3.0",
    "noto": "emoji-datasource-google@16.0.0",
    "names": "emojibase-data@17.0.0",
}
RASTERISER = "resvg-py==0.5.0"
#: What a concept may belong to, and all of them together: what the weights that ship are taught.
TRAIN, JUDGE, TEST = "train", "judge", "test"
ALL = "all"
#: Shares of the families: of 100, those below the first number test, those below the second fit the judge.
TESTED, JUDGED = 16, 46
#: emojibase's groups of flags and of components: no picture of anything.
_NO_PICTURE = (2, 9)
#: Of a person, a woman and a man who do the same, one stands for all: the rest would leak between splits.
_VARIANTS = re.compile(r"^(man|woman|men|women)\b(?!$)|skin tone|^keycap|^regional indicator")
#: Words that say nothing about the family.
_GENERIC = frozenset(
    (
        "face",
        "person",
        "people",
        "symbol",
        "sign",
        "button",
        "medium",
        "small",
        "large",
        "light",
        "dark",
        "black",
        "white",
        "the",
        "of",
    )
)
_COLOURS = frozenset(["red", "orange", "yellow", "green", "blue", "purple", "brown", "pink", "grey"])


@dataclass(frozen=True)
class Design:
    """One concept. ``pictures`` maps a style to its row in ``Designs.pixels``."""

    id: str
    label: str
    tags: tuple[str, ...]
    split: str
    #: Arrows, letters and hands say something else in the mirror.
    mirrors: bool
    pictures: dict[str, int]

    @property
    def described(self) -> str:
        """The label and the tags, as a caption names several things."""
        return f"{self.label}: {', '.join(self.tags)}" if self.tags else self.label


@dataclass(frozen=True)
class Designs:
    """All concepts, and their drawings on white: uint8 [n, 64, 64, 3]."""

    concepts: tuple[Design, ...]
    pixels: Pixels

    def of(self, split: str) -> list[Design]:
        """The concepts of one split, or ALL of them, in a fixed order."""
        return [one for one in self.concepts if split in (one.split, ALL)]


def data_folder() -> Path:
    """``$DATA_DIR/drawing``, else ``var/drawing`` of the repository."""
    return Path(os.environ.get("DATA_DIR") or Path(__file__).resolve().parents[2] / "var") / "drawing"


def load_designs(folder: Path | None = None) -> Designs | None:
    """What ``fetch`` made, or None where it was not run."""
    path = (folder or data_folder()) / "designs.npz"
    if not path.is_file():
        return None
    with np.load(path) as kept:
        rows = json.loads(str(kept["concepts"]))
        return Designs(tuple(_design(row) for row in rows), kept["pixels"])


def fetch(folder: Path | None = None) -> Designs:
    """Fetch the packages, draw every concept in every style, and write ``designs.npz``."""
    folder = folder or data_folder()
    packages = {name: _package(spec, folder) for name, spec in PACKAGES.items()}
    _install_rasteriser(folder)
    rows: list[dict[str, Any]] = []
    pixels: list[Pixels] = []
    for row in _listed(packages["names"]):
        drawn = {style: pic for style, path in _sources(row, packages) if (pic := _drawn(path)) is not None}
        if drawn:
            numbers = {style: len(pixels) + place for place, style in enumerate(drawn)}
            pixels += drawn.values()
            rows.append(_concept(row, numbers))
    np.savez(folder / "designs.npz", concepts=json.dumps(rows), pixels=np.stack(pixels))
    return Designs(tuple(_design(row) for row in rows), np.stack(pixels))


def family(label: str) -> str:
    """What a label is about, without colours and what goes with it: "red heart" and "heart with arrow" are "heart"."""
    head = re.split(r"[:,]| with | in | on | of ", label.lower())[0]
    words = [word for word in re.findall(r"[a-z’'-]+", head) if word not in _GENERIC]
    plain = [word for word in words if word not in _COLOURS]
    return (plain or words or [label])[-1]


def split_of(label: str) -> str:
    """The split of a label's family: the same for ever."""
    place = int.from_bytes(hashlib.sha256(f"drawing:{family(label)}".encode()).digest()[:4], "big") % 100
    return TEST if place < TESTED else JUDGE if place < JUDGED else TRAIN


def _design(row: dict[str, Any]) -> Design:
    return Design(**row | {"tags": tuple(row["tags"])})


def _package(spec: str, folder: Path) -> Path:
    target = folder / "npm" / re.sub(r"\W+", "-", spec).strip("-")
    if not (target / "package").is_dir():
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", spec], cwd=target, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(next(target.glob("*.tgz"))) as archive:
            archive.extractall(target, filter="data")
    return target / "package"


def _install_rasteriser(folder: Path) -> None:
    target = folder / "python"
    if not target.is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
        subprocess.run([*pip, RASTERISER], check=True)
    sys.path.insert(0, str(target))


def _listed(folder: Path) -> list[dict[str, Any]]:
    rows = json.loads((folder / "en" / "data.json").read_text("utf-8"))
    return [
        row for row in rows if row.get("group", 9) not in _NO_PICTURE and not _VARIANTS.search(row["label"])
    ]


def _concept(row: dict[str, Any], pictures: dict[str, int]) -> dict[str, Any]:
    mirrors = row["group"] not in (1, 8)
    facts = {"id": row["hexcode"], "label": row["label"], "tags": row.get("tags", [])}
    return facts | {"split": split_of(row["label"]), "mirrors": mirrors, "pictures": pictures}


def _sources(row: dict[str, Any], packages: dict[str, Path]) -> list[tuple[str, Path]]:
    code, bare = row["hexcode"], row["hexcode"].replace("-FE0F", "")
    slug = re.sub(r"[^a-z0-9]+", "-", row["label"].lower()).strip("-")
    fluent, noto = packages["fluent"] / "icons", packages["noto"] / "img" / "google" / "64"
    full = f"{code}-FE0F"
    return [
        ("openmoji", _first(packages["openmoji"] / "color" / "svg", "svg", code, bare)),
        ("twemoji", _first(packages["twemoji"], "svg", code.lower(), bare.lower())),
        ("fluent-flat", _first(fluent / "flat", "svg", slug, f"{slug}-default")),
        ("fluent-modern", _first(fluent / "modern", "svg", slug, f"{slug}-default")),
        ("noto", _first(noto, "png", *(name.lower() for name in (code, bare, full)))),
    ]


def _first(folder: Path, ending: str, *names: str) -> Path:
    paths = [folder / f"{name}.{ending}" for name in names]
    return next((path for path in paths if path.is_file()), paths[0])


def _drawn(source: Path) -> Pixels | None:
    """On white, 64 px, reduced from four times the size; None where the style lacks the concept."""
    from PIL import Image

    if not source.is_file():
        return None
    content = source.read_bytes()
    if source.suffix == ".svg":
        import resvg_py

        content = bytes(resvg_py.svg_to_bytes(svg_path=str(source), width=4 * SIDE, height=4 * SIDE))
    picture = Image.open(io.BytesIO(content)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    return np.asarray(white.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))
