"""What the space knows before it has seen a single pair: phrases, each with the ImageNet classes that show it.

Class names, lemmas and glosses come from timm's ``ImageNetInfo`` (WordNet 3.0); ``phrases/*.txt`` add what
photographs of a class tend to show, written for this project.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PHRASES = Path(__file__).parent / "phrases"
CLASSES = 1000


@dataclass(frozen=True)
class Phrase:
    """A text and the classes that a classifier tends to name on a picture of it."""

    text: str
    classes: tuple[int, ...]


def written_phrases(folder: Path = PHRASES) -> list[Phrase]:
    """Every phrase of the ``*.txt`` files in ``folder``, in the order of file names and lines."""
    return merged(phrase for path in sorted(folder.glob("*.txt")) for phrase in _read(path))


def dictionary_phrases() -> list[Phrase]:
    """Names, lemmas and gloss of each ImageNet-1k class. Imports timm: for building only."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return merged(
        Phrase(text, (index,))
        for index in range(CLASSES)
        for text in _entry(info.index_to_description(index), info.index_to_description(index, detailed=True))
    )


def general_glosses(step: int = 3) -> list[str]:
    """Every ``step``-th WordNet gloss of the ImageNet-22k nouns: plain English about anything."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-22k")
    entries = [
        info.index_to_description(index, detailed=True) for index in range(0, info.num_classes(), step)
    ]
    return [_gloss(entry) for entry in entries]


def merged(phrases: Iterable[Phrase]) -> list[Phrase]:
    """One phrase a text, with the classes of all of them (a crane is a bird and a machine)."""
    classes: dict[str, set[int]] = {}
    for phrase in phrases:
        classes.setdefault(phrase.text, set()).update(phrase.classes)
    return [Phrase(text, tuple(sorted(found))) for text, found in classes.items()]


def _entry(names: str, detailed: str) -> Iterator[str]:
    yield from (name.strip() for name in names.split(","))
    yield _gloss(detailed)


def _gloss(detailed: str) -> str:
    """timm joins names and gloss with a colon."""
    names, colon, gloss = detailed.partition(":")
    return gloss.strip() if colon else names.strip()


def _read(path: Path) -> Iterator[Phrase]:
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        head, colon, tail = line.partition(":")
        try:
            classes = tuple(index for part in head.split(",") for index in _range(part))
        except ValueError:
            colon = ""
        if not colon or not tail.strip():
            raise ValueError(f"{path.name} line {number}: not of the form 'class,class: phrase|phrase'")
        yield from (Phrase(text.strip(), classes) for text in tail.split("|"))


def _range(part: str) -> range:
    """``"7"`` or ``"151-268"``, ends included; ValueError outside 0..999."""
    first, _, last = part.partition("-")
    found = range(int(first), int(last or first) + 1)
    if not found or found[0] < 0 or found[-1] >= CLASSES:
        raise ValueError(part)
    return found
