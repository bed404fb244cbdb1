"""Personal data by rules: addresses, numbers and identifiers whose form, and where there is one whose checksum, fits.

What is found is never kept: evidence has the place and a masked value. A number without a checksum counts only with a
word beside it that says what it is, since order numbers and dates look alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ml.auditing.identifiers import IdentifierKind, find_identifiers
from ml.detectors._text import Piece, text_pieces, truncation_evidence
from ml.detectors.base import Category, Detector, Finding, Item

MAX_EVIDENCE = 100


class PersonalData(Detector):
    name = "personal-data"
    version = "1"
    tier = "rules"
    modalities: ClassVar = frozenset({"text", "image", "audio", "video"})
    sees = (
        "E-mail addresses, phone numbers, bank accounts, payment cards, identity and tax numbers of large countries,"
        " addresses of computers, wallets and coordinates; in text, in pictures with OCR, in speech with transcripts."
    )
    blind_to = (
        "Names, postal addresses, faces, and numbers without a checksum that nothing near them explains. Most"
        " addresses of companies are found like those of people."
    )
    order = 40
    categories: ClassVar = ("personal_data",)

    def examine(self, item: Item) -> Finding:
        read = list(text_pieces(item))
        if not read:
            return Finding("not_applicable", "There are no words in it.")
        found = [evidence for piece in read for evidence in _evidence(piece)]
        # The surest first: where there are too many to list, those stay.
        found.sort(key=lambda each: -each["confidence"])
        score = found[0]["confidence"] if found else 0.0
        notes: list[Mapping[str, Any]] = [note for note in [truncation_evidence(item)] if note]
        if len(found) > MAX_EVIDENCE:
            notes.append({"kind": "left-out", "found": len(found), "listed": MAX_EVIDENCE})
        return Finding(
            categories={"personal_data": Category(score, evidence=found[:MAX_EVIDENCE])}, evidence=notes
        )


def load(argument: str) -> Detector:
    return PersonalData()


def _evidence(piece: Piece) -> list[dict[str, Any]]:
    reading = piece.read.exact
    return [
        {
            "kind": "personal-data",
            "type": found.kind.name,
            "sensitive": found.kind.sensitive,
            "masked": masked(found.value, found.kind),
            "confidence": found.kind.confidence,
            "checked": found.kind.checked,
            **piece.span(*reading.span(*found.span)),
        }
        for found in find_identifiers(reading.text)
    ]


def masked(value: str, kind: IdentifierKind) -> str:
    """What may be shown and stored: the last ``kind.shown`` letters and digits, and of an address its domain's end."""
    if kind.name == "email":
        return f"***@***.{value.rpartition('.')[2][:10]}"
    shown = kind.shown
    signs = [at for at, sign in enumerate(value) if sign.isalnum()]
    kept = set(signs[len(signs) - shown :]) if shown and len(signs) >= 2 * shown else set()
    return "".join(sign if at in kept or not sign.isalnum() else "*" for at, sign in enumerate(value))
