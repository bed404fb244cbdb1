"""Fingerprints: by what a picture, film or sound is known again. It judges nothing; hash lists are matched later."""

from __future__ import annotations

from typing import Any

from ml.detectors.base import Detector, Finding, Item
from ml.hashing import fingerprints, image_codes


def load(argument: str) -> Detector:
    """The one variant there is; ``argument`` is ignored."""
    return FingerprintDetector()


class FingerprintDetector(Detector):
    name = "fingerprints"
    version = "1"
    tier = "match"
    modalities = frozenset({"image", "audio", "video"})
    sees = (
        "What identifies the item: SHA-256, PDQ of pictures and of a film's frames, looks and points of pictures, "
        "a fingerprint of sound. Copies in another size, quality or loudness, cropped, captioned, turned a little or "
        "mirrored are known again."
    )
    blind_to = (
        "New content of the same kind, stronger changes (half cut away, less than a third of it in a collage), flat "
        "pictures, sounds under two seconds, and sounds at another speed."
    )
    timeout_s = 60.0
    order = 10

    def examine(self, item: Item) -> Finding:
        fields: dict[str, Any] = {"sha256": fingerprints.sha256_of(item.path)} if item.path else {}
        if item.pixels is not None:
            fields |= fingerprints.of_picture(item.pixels)
        if item.shots:
            fields["frames"] = [fingerprints.of_frame(shot.pixels, shot.at_s) for shot in item.shots]
        if len(item.sound):
            fields |= fingerprints.of_sound(item.sound)
        reason = image_codes.missing() if item.pixels is not None else ""
        return Finding(reason=reason, fields={"fingerprints": fields})
