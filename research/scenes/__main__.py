"""``python -m research.scenes``: pack the designs and names that `ml.scenes` ships.

Needs what ``python -m research.drawing fetch`` left. One design a thing: Fluent UI Emoji (flat, MIT) where there is
one, else Twemoji (CC BY 4.0). OpenMoji is left out: it is share-alike, and it is the style that the benchmark's judge
is set by. Noto ships its designs at 64 pixels only. Equal packages and an equal Pillow give equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ml.scenes.library import FOLDER, SETS
from research.drawing import designs

#: Pixels of the longer side; of what is drawn large in a picture of 512 pixels hardly any detail is lacking.
SIDE, QUALITY = 192, 80
SYNONYMS = Path(__file__).parent / "synonyms.txt"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "generation-things.md"
#: emojibase's groups: faces, people, animals and nature, food, travel, activities, objects. No flags, and of symbols
#: none but shapes.
GROUPS = (0, 1, 3, 4, 5, 6, 7)
SHAPES = ("geometric",)
#: Things that float where others stand, whatever their size.
SKY = frozenset(
    """airplane|small airplane|helicopter|rocket|flying saucer|satellite|parachute|balloon|kite|fireworks|sun|cloud|star
    |glowing star|shooting star|crescent moon|full moon|ringed planet|rainbow|cloud with rain|cloud with lightning
    |sun behind cloud|cloud with snow|comet|high voltage|new moon|full moon face|sun with face|sparkles
    |cloud with lightning and rain|globe showing Europe-Africa|snowflake|milky way""".replace("\n", "")
    .replace("    ", "")
    .split("|")
)
#: How large things are beside each other, from 0 to 1, by emojibase's sub-groups; and single ones.
SIZES = {
    "animal-mammal": 0.75, "animal-bird": 0.55, "animal-bug": 0.4, "animal-amphibian": 0.45, "animal-reptile": 0.6,
    "animal-marine": 0.6, "plant-flower": 0.5, "plant-other": 0.6, "food-fruit": 0.4, "food-vegetable": 0.4,
    "food-prepared": 0.45, "food-asian": 0.45, "food-sweet": 0.45, "drink": 0.45, "dishware": 0.45,
    "place-building": 1.0, "place-geographic": 1.0, "place-other": 1.0, "place-religious": 1.0,
    "transport-ground": 0.9, "transport-water": 0.9, "transport-air": 0.85, "sky-weather": 0.75, "household": 0.8,
    "musical-instrument": 0.65, "person": 0.85, "person-role": 0.85, "person-fantasy": 0.85, "person-activity": 0.85,
    "person-sport": 0.85, "event": 0.6, "clothing": 0.5,
}  # fmt: skip
ORDINARY = 0.5
SINGLE = {
    "deciduous tree": 1.0, "evergreen tree": 1.0, "palm tree": 1.0, "Christmas tree": 0.95, "cactus": 0.7,
    "elephant": 1.0, "giraffe": 1.0, "mammoth": 1.0, "whale": 1.0, "spouting whale": 1.0, "T-Rex": 1.0,
    "sauropod": 1.0, "dragon": 0.95,
    "horse": 0.9, "cow": 0.9, "ox": 0.9, "mouse": 0.4, "rat": 0.4, "hamster": 0.4, "chipmunk": 0.45, "hedgehog": 0.45,
    "bear": 0.85, "cat": 0.6, "dog": 0.65, "rabbit": 0.5, "rocket": 0.95, "snowman": 0.8, "ladder": 0.9,
    "bicycle": 0.75, "baby": 0.6, "tent": 0.9, "fountain": 0.9, "toothbrush": 0.4, "soap": 0.35,
    "sponge": 0.35, "baby chick": 0.35,
}  # fmt: skip


def main() -> int:
    folder = designs.data_folder()
    packages = {name: designs._package(spec, folder) for name, spec in designs.PACKAGES.items()}
    designs._install_rasteriser(folder)
    content, things = bytearray(), list[dict[str, Any]]()
    for row, chinese, kind in _rows(packages["names"]):
        found = _picture(row, packages)
        if found is None:
            continue
        source, picture = found
        things.append(
            {
                "label": row["label"],
                "zh": chinese,
                "set": source,
                "at": [len(content), len(picture)],
                "size": SINGLE.get(row["label"], SIZES.get(kind, ORDINARY)),
                "sky": row["label"] in SKY,
            }
        )
        content += picture
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "designs.bin").write_bytes(content)
    about: dict[str, Any] = {
        "format": "crosslight-scenes-1",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "packages": {
            name: spec for name, spec in designs.PACKAGES.items() if name in ("fluent", "twemoji", "names")
        },
        "sets": SETS,
        "things": things,
        "words": _words(things),
    }
    text = json.dumps(about, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    (FOLDER / "things.json").write_text(text + "\n", "utf-8")
    PAGE.write_text(_page(things), "utf-8")
    counted = {name: sum(one["set"] == name for one in things) for name in SETS}
    words = {language: len(rows) for language, rows in about["words"].items()}
    print(json.dumps({"things": len(things), **counted, "bytes": len(content), "words": words}))
    return 0


def _rows(names: Path) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Each thing with its Chinese label and the name of its sub-group."""
    chinese = {row["hexcode"]: row for row in json.loads((names / "zh" / "data.json").read_text("utf-8"))}
    kinds = json.loads((names / "meta" / "groups.json").read_text("utf-8"))["subgroups"]
    for row in designs._listed(names):
        kind = kinds.get(str(row.get("subgroup")), "")
        if row.get("group") in GROUPS or kind in SHAPES:
            yield row, chinese[row["hexcode"]]["label"], kind


def _picture(row: dict[str, Any], packages: dict[str, Path]) -> tuple[str, bytes] | None:
    """The set and a WebP with transparency, trimmed; None where no set that ships has the thing."""
    import resvg_py

    found = dict(designs._sources(row, packages))
    for source, style in (("fluent", "fluent-flat"), ("twemoji", "twemoji")):
        if found[style].is_file():
            png = bytes(resvg_py.svg_to_bytes(svg_path=str(found[style]), width=2 * SIDE, height=2 * SIDE))
            return source, _packed(Image.open(io.BytesIO(png)).convert("RGBA"))
    return None


def _packed(picture: Image.Image) -> bytes:
    inside = picture.getchannel("A").point(lambda level: 255 * (level > 8)).getbbox()
    picture = picture.crop(inside)
    scale = SIDE / max(picture.size)
    # Colours of transparent pixels bleed into the edges otherwise.
    pixels = np.asarray(picture).astype(np.float32)
    pixels[..., :3] *= pixels[..., 3:] / 255
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    planes = [Image.fromarray(pixels[..., at]).resize(size, Image.Resampling.LANCZOS) for at in range(4)]
    small = np.stack([np.asarray(plane) for plane in planes], axis=2)
    small[..., :3] /= np.maximum(small[..., 3:] / 255, 1e-3)
    small = np.clip(np.rint(small), 0, 255).astype(np.uint8)
    target = io.BytesIO()
    Image.fromarray(small).save(target, "WEBP", quality=QUALITY, method=6, alpha_quality=90)
    return target.getvalue()


def _words(things: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Every name by language, in lower case: to the number of its thing. What was written for this project comes first,
    then labels, then what a label calls itself behind a colon."""
    number = {one["label"]: at for at, one in enumerate(things)}
    english, chinese = dict[str, int](), dict[str, int]()
    for line in SYNONYMS.read_text("utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            label, *more = (part.strip() for part in line.split("|"))
            if label not in number:
                print(f"no design: {label}", file=sys.stderr)
                continue
            for names, known in zip(more, (english, chinese), strict=True):
                for name in filter(None, (one.strip().lower() for one in names.split(","))):
                    if known.setdefault(name, number[label]) != number[label]:
                        print(f"twice: {name}", file=sys.stderr)
    for one in things:
        english.setdefault(one["label"].lower(), number[one["label"]])
        # One character alone is part of too many words; those that are not are in the list.
        if len(one["zh"]) > 1:
            chinese.setdefault(one["zh"].lower(), number[one["label"]])
    return {"en": english, "zh": chinese}


def _page(things: list[dict[str, Any]]) -> str:
    """What is known, for people."""
    named = "; ".join(
        f"{one['label']} {one['zh']}" for one in sorted(things, key=lambda one: one["label"].lower())
    )
    head = [
        "# What the composer of scenes knows",
        "",
        f"Names of its {len(things):,} things, in English and Chinese; [generation](generation.md#scenes) says",
        "how they are read. Plurals are understood, and more names for",
        "most things (`research/scenes/synonyms.txt`). Written by `python -m research.scenes`.",
        "",
    ]
    return "\n".join([*head, *textwrap.wrap(f"{named}.", 150, break_on_hyphens=False), ""])


if __name__ == "__main__":
    sys.exit(main())
