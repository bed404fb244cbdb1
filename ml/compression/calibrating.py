"""What an export is calibrated and compared with: the operator's pictures or texts, or the bundled ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: More calibrate no better and take long.
MOST_PICTURES, MOST_TEXTS = 300, 600
PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"}


def calibration_items(modality: str, folder: Path | None) -> list[Any]:
    """Texts, or uint8 pictures [h, w, 3], always in the same order. Raises ValueError for a folder with none."""
    if modality == "text":
        return _texts(folder) if folder else _bundled_texts()
    return _pictures(folder or _bundled_pictures())


def _texts(folder: Path) -> list[str]:
    lines = [
        line.strip()
        for path in sorted(folder.rglob("*.txt"))
        for line in path.read_text("utf-8", errors="replace").splitlines()
    ]
    texts = list(dict.fromkeys(line for line in lines if line))
    if not texts:
        raise ValueError(f"there is no text in {folder}: one a line is wanted, in .txt files")
    return _spread(texts, MOST_TEXTS)


def _bundled_texts() -> list[str]:
    """Sentences of many kinds, and phrases for what pictures show."""
    from ml.alignment.vocabulary import written_phrases
    from ml.compression.text import SENTENCES

    phrases = _spread(list(dict.fromkeys(phrase.text for phrase in written_phrases())), MOST_TEXTS // 2)
    return [*SENTENCES, *phrases]


def _pictures(folder: Path) -> list[Any]:
    """Decoded in a process of its own, as all media that others supply; what cannot be read is left out."""
    from ml.media import Decoder, MediaError

    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PICTURES]
    found = []
    with Decoder() as decoder:
        for path in _spread(paths, MOST_PICTURES):
            try:
                found.append(decoder.image(path, thumbnail=False).pixels)
            except MediaError:
                continue
    if not found:
        raise ValueError(f"there is no readable picture in {folder}")
    return found


def _bundled_pictures() -> Path:
    from ml.compression.pictures import CALIBRATION

    return CALIBRATION


def _spread(items: list[Any], most: int) -> list[Any]:
    """At most ``most`` of them, evenly from the whole list."""
    return items if len(items) <= most else [items[number * len(items) // most] for number in range(most)]
