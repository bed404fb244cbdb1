"""Texts for the student of the benchmark: open sets only, and never what is measured with it."""

from __future__ import annotations

from pathlib import Path

from _data import rows_of

#: Of BANKING77 only every second question teaches; the other half is measured.
TAUGHT, MEASURED = 0, 1
TWEETS = 1_500


def banking(half: int) -> tuple[list[str], list[str]]:
    """Questions and their intents of one half."""
    rows = (rows_of("banking77") or [])[half::2]
    return [row["text"] for row in rows], [row["label"] for row in rows]


def write_texts(folder: Path) -> Path:
    """One file with what the open sets say, one text a line."""
    texts = banking(TAUGHT)[0]
    texts += [row["text"] for row in rows_of("clinc150_small") or []]
    texts += [row["text"] for row in (rows_of("davidson_hate") or [])[:TWEETS]]
    texts += [row["text"] for row in rows_of("grocery_store") or [] if isinstance(row.get("text"), str)]
    folder.mkdir(parents=True, exist_ok=True)
    lines = dict.fromkeys(" ".join(text.split())[:300] for text in texts)
    (folder / "open-sets.txt").write_text("\n".join(line for line in lines if line), "utf-8")
    return folder
