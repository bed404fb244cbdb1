"""Emoji in four art styles with their names: makes $DATA_DIR/bench/emoji (`python benchmarks/_learning_emoji_data.py`).

Fetches four npm packages with `npm pack` and the rasteriser resvg-py with pip into that folder, nowhere else. Designs:
openmoji (CC BY-SA), @twemoji/svg (CC BY), fluentui-emoji (MIT, flat and modern); names and tags: emojibase-data (MIT).
They serve measuring alone.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from _data import OUT, Row

EMOJI = OUT / "emoji"
PACKAGES = ("openmoji@17.0.0", "@twemoji/svg@15.0.0", "fluentui-emoji@1.3.0", "emojibase-data@17.0.0")
STYLES = ("openmoji", "twemoji", "fluent-flat", "fluent-modern")
SIDE = 320
#: emojibase's group of flags: two letters each, no picture of anything.
FLAGS = 9
#: Of a person, a woman and a man who do the same, one stands for all: the rest would leak between folds.
_VARIANTS = re.compile(r"^(man|woman|men|women)\b(?!$)|skin tone|^keycap")


def concepts() -> list[Row] | None:
    """`{"id", "label", "tags", "pictures": {style: path}}`, or None, said plainly, where they were not made."""
    path = EMOJI / "concepts.json"
    if not path.is_file():
        print(
            "skipped: no emoji pictures; `python benchmarks/_learning_emoji_data.py` fetches and draws them"
        )
        return None
    return list(json.loads(path.read_text("utf-8")))


def main() -> int:
    EMOJI.mkdir(parents=True, exist_ok=True)
    folders = {name.rpartition("@")[0].rpartition("/")[2]: _package(name) for name in PACKAGES}
    _install_resvg()
    found = [_drawn(row, folders) for row in _listed(folders["emojibase-data"])]
    complete = [row for row in found if len(row["pictures"]) == len(STYLES)]
    (EMOJI / "concepts.json").write_text(json.dumps(complete, indent=1) + "\n", "utf-8")
    print(f"{len(complete)} concepts in {len(STYLES)} styles in {EMOJI}")
    return 0


def _package(name: str) -> Path:
    """Fetch and unpack one npm package; its folder."""
    folder = EMOJI / "npm" / re.sub(r"\W+", "-", name).strip("-")
    if not (folder / "package").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", name], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(next(folder.glob("*.tgz"))) as archive:
            archive.extractall(folder, filter="data")
    return folder / "package"


def _install_resvg() -> None:
    target = EMOJI / "python"
    if not target.is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
        subprocess.run([*pip, "resvg-py==0.5.0"], check=True)
    sys.path.insert(0, str(target))


def _listed(folder: Path) -> list[dict[str, Any]]:
    rows = json.loads((folder / "en" / "data.json").read_text("utf-8"))
    return [row for row in rows if row.get("group", FLAGS) != FLAGS and not _VARIANTS.search(row["label"])]


def _drawn(row: dict[str, Any], folders: dict[str, Path]) -> Row:
    code = row["hexcode"]
    pictures = {
        style: str(target.relative_to(EMOJI))
        for style, source in _sources(row, folders).items()
        if (target := _rasterised(source, EMOJI / style / f"{code}.png")) is not None
    }
    return {"id": code, "label": row["label"], "tags": row.get("tags", []), "pictures": pictures}


def _sources(row: dict[str, Any], folders: dict[str, Path]) -> dict[str, Path]:
    code, bare = row["hexcode"], row["hexcode"].replace("-FE0F", "")
    slug = re.sub(r"[^a-z0-9]+", "-", row["label"].lower()).strip("-")
    fluent = folders["fluentui-emoji"] / "icons"
    return {
        "openmoji": _first(folders["openmoji"] / "color" / "svg", code, bare),
        "twemoji": _first(folders["svg"], code.lower(), bare.lower()),
        "fluent-flat": _first(fluent / "flat", slug, f"{slug}-default"),
        "fluent-modern": _first(fluent / "modern", slug, f"{slug}-default"),
    }


def _first(folder: Path, *names: str) -> Path:
    paths = [folder / f"{name}.svg" for name in names]
    return next((path for path in paths if path.is_file()), paths[0])


def _rasterised(source: Path, target: Path) -> Path | None:
    """A PNG on white, or None where the style lacks the concept."""
    import resvg_py

    if target.is_file():
        return target
    if not source.is_file():
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    content = resvg_py.svg_to_bytes(svg_path=str(source), width=SIDE, height=SIDE, background="white")
    target.write_bytes(bytes(content))
    return target


if __name__ == "__main__":
    sys.exit(main())
