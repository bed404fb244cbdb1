"""The installation's own invisible mark in pictures, and in the frames of films."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from ml.detectors.base import Detector, Finding, Item, Pixels
from ml.provenance.watermark import Mark, detect

#: A picture smaller than this cannot hold the mark even if it was halved.
MIN_SIDE = 64
MAX_SHOTS = 6


class Watermark(Detector):
    name = "watermark"
    tier = "cryptographic"
    modalities: ClassVar = frozenset({"image", "video"})
    sees = "Whether this installation generated the picture, also after JPEG, halving, or moderate cropping."
    blind_to = (
        "Marks of others (SynthID, Stable Signature…); pictures under 128 pixels; rotated, mirrored or twice scaled"
        " pictures; sound; and marks that somebody removed on purpose."
    )
    timeout_s = 20.0
    order = 12

    def examine(self, item: Item) -> Finding:
        key = _key(item.options.get("watermark_key"))
        if key is None:
            return _not_examined("not_applicable", "This installation has no key for marks (watermark_key).")
        pictures = _pictures(item)
        if not pictures:
            return _not_examined("not_applicable", "There is no picture in it.")
        if min(pictures[0].shape[:2]) < MIN_SIDE:
            return _not_examined("abstained", f"It is smaller than {MIN_SIDE} pixels; a mark cannot be read.")
        original = (item.width, item.height) if item.width and item.height else None
        marks = [mark for pixels in pictures if (mark := detect(pixels, key, original))]
        return _present(marks, len(pictures)) if marks else Finding(fields={"watermark": {"state": "absent"}})


def load(argument: str) -> Detector:
    return Watermark()


def _key(option: Any) -> bytes | None:
    """Hexadecimal, of 16 bytes at least. Raises ValueError for anything else but nothing."""
    if not option:
        return None
    key = bytes.fromhex(str(option))
    if len(key) < 16:
        raise ValueError("watermark_key needs 16 bytes or more, in hexadecimal.")
    return key


def _pictures(item: Item) -> list[Pixels]:
    if item.pixels is not None:
        return [item.pixels]
    step = max(1, len(item.shots) // MAX_SHOTS)
    return [shot.pixels for shot in item.shots[::step][:MAX_SHOTS]]


def _present(marks: list[Mark], pictures: int) -> Finding:
    payload, count = Counter(mark.payload for mark in marks).most_common(1)[0]
    best = max((mark for mark in marks if mark.payload == payload), key=lambda mark: mark.seen)
    fields = {
        "state": "present",
        "payload": f"{payload:08x}",
        "pictures": pictures,
        "marked": count,
        "scale": best.scale,
        "corrected": best.wrong,
        "seen": best.seen,
    }
    return Finding(evidence=[{"kind": "watermark", **fields}], fields={"watermark": fields})


def _not_examined(state: Any, reason: str) -> Finding:
    return Finding(state, reason, fields={"watermark": {"state": "not_examined", "reason": reason}})
