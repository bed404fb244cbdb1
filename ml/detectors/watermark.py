"""The installation's own invisible mark in pictures, in the frames of films, and in sound."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from ml.detectors._learned import sample_frames
from ml.detectors.base import Detector, Finding, Item, Pixels
from ml.provenance import sound_watermark
from ml.provenance.watermark import Mark, detect_frames

#: A picture smaller than this cannot hold the mark even if it was halved.
MIN_SIDE = 64
#: Of a film, evenly over its length: each is a look more, and key frames, which keep most of the mark, are rare.
MAX_SHOTS = 10
#: A sound shorter than this does not hold enough of the mark to be certain.
MIN_SOUND_S = sound_watermark.MIN_S / 2


class Watermark(Detector):
    name = "watermark"
    version = "3"
    tier = "cryptographic"
    modalities: ClassVar = frozenset({"image", "audio", "video"})
    sees = (
        "Whether this installation generated the picture, clip or sound, also after JPEG, halving, moderate cropping,"
        " MP3, AAC, Opus, or cutting of sound."
    )
    blind_to = (
        "Marks of others (SynthID, Stable Signature…); pictures under 128 pixels; rotated, mirrored or twice scaled"
        " pictures; sound under two seconds, or at another speed; and marks that somebody removed on purpose."
    )
    timeout_s = 20.0
    order = 12
    looks_for = ("own_watermark",)

    def examine(self, item: Item) -> Finding:
        key = _key(item.options.get("watermark_key"))
        if key is None:
            return _not_examined("not_applicable", "This installation has no key for marks (watermark_key).")
        pictures, sounds = _pictures(item), len(item.sound) >= MIN_SOUND_S * sound_watermark.RATE
        if not sounds and (why := _why_not(item, pictures)):
            return _not_examined(*why)
        fields: dict[str, Any] = _in_pictures(item, pictures, key) if pictures else {"state": "absent"}
        if sounds and (heard := sound_watermark.detect(item.sound, sound_watermark.RATE, key)):
            shown = {"payload": f"{heard.payload:04x}", "seen": heard.seen, "at_s": heard.at_s}
            # What the pictures say comes first: they carry all of the payload.
            fields = {**shown, **fields, "state": "present", "sound": shown}
        evidence = [{"kind": "watermark", **fields}] if fields["state"] == "present" else []
        return Finding(evidence=evidence, fields={"watermark": fields})


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
    return [shot.pixels for shot in sample_frames(item.shots, MAX_SHOTS)]


def _why_not(item: Item, pictures: list[Pixels]) -> tuple[Any, str] | None:
    """Why there is nothing to look at, if there is not."""
    if not pictures and len(item.sound):
        return "abstained", f"It is shorter than {MIN_SOUND_S:g} s; a mark cannot be read."
    if not pictures:
        return "not_applicable", "There is neither picture nor sound in it."
    if min(pictures[0].shape[:2]) < MIN_SIDE:
        return "abstained", f"It is smaller than {MIN_SIDE} pixels; a mark cannot be read."
    return None


def _in_pictures(item: Item, pictures: list[Pixels], key: bytes) -> dict[str, Any]:
    original = (item.width, item.height) if item.width and item.height else None
    marks = detect_frames(pictures, key, original)
    return _present(marks, len(pictures)) if marks else {"state": "absent"}


def _present(marks: list[Mark], pictures: int) -> dict[str, Any]:
    payload = Counter(mark.payload for mark in marks).most_common(1)[0][0]
    best = max((mark for mark in marks if mark.payload == payload), key=lambda mark: mark.seen)
    return {
        "state": "present",
        "payload": f"{payload:08x}",
        "pictures": pictures,
        "marked": sum(mark.frames for mark in marks if mark.payload == payload),
        "scale": best.scale,
        "corrected": best.wrong,
        "seen": best.seen,
        # None of them shows it alone.
        **({"together": True} if best.frames > 1 else {}),
    }


def _not_examined(state: Any, reason: str) -> Finding:
    return Finding(state, reason, fields={"watermark": {"state": "not_examined", "reason": reason}})
