"""What identifies an item, as the JSON object ``fingerprints`` of an audit, and back.

``sha256``; of pictures ``pdq`` (hex), ``pdq_quality``, ``pdq_turned`` (seven more), ``vector`` (base64: a code of looks
and up to 128 points); of films ``frames`` (``at_s``, ``pdq``, ``mirrored``, ``quality``) and of what can be heard
``sound`` (base64). At most some 40 kB.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml.hashing import image_codes, points, sounds
from ml.hashing.pdq import BYTES, MIN_QUALITY, TURNS, dihedral
from ml.media.model import File

MAX_FRAMES = 64
MIRRORED = TURNS.index("flipped y")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Frame:
    """One frame of a film: seconds from the start, its hash, and that of its mirror image."""

    at_s: float
    pdq: bytes
    mirrored: bytes


@dataclass(frozen=True)
class Fingerprints:
    """Read from JSON, each checked; what is missing, or would match anything (flat pictures), is empty."""

    sha256: str = ""
    pdq: bytes = b""
    turned: tuple[bytes, ...] = ()
    code: bytes = b""
    points: bytes = b""
    frames: tuple[Frame, ...] = ()
    sound: bytes = b""

    @property
    def empty(self) -> bool:
        return not (self.sha256 or self.perceptual)

    @property
    def perceptual(self) -> bool:
        """Whether there is more than the digest of the bytes."""
        return bool(self.pdq or self.code or self.frames or self.sound)

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Fingerprints:
        """Of ``fingerprints`` as stored; what is malformed is left out, as it may come from an older version."""
        good = _number(stored.get("pdq_quality")) >= MIN_QUALITY
        code, found = _vector(stored.get("vector"))
        return cls(
            sha256=parse_hex(stored.get("sha256")),
            pdq=bytes.fromhex(parse_hex(stored.get("pdq"))) if good else b"",
            turned=tuple(_hashes(stored.get("pdq_turned"))) if good else (),
            code=code,
            points=found,
            frames=tuple(_frames(stored.get("frames"))),
            sound=_sound(stored.get("sound")),
        )


def parse_hex(value: Any) -> str:
    """64 hexadecimal digits in small letters, or empty."""
    text = value.strip().lower() if isinstance(value, str) else ""
    return text if _HEX.fullmatch(text) else ""


def sha256_of(path: File) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_picture(pixels: Any) -> dict[str, Any]:
    """The fields of a picture, uint8 [h, w, 3]; without ``vector`` where the network is not prepared."""
    hashes, quality = dihedral(pixels)
    fields: dict[str, Any] = {
        "pdq": hashes[0].hex(),
        "pdq_quality": quality,
        "pdq_turned": [one.hex() for one in hashes[1:]],
    }
    if not image_codes.missing():
        found = image_codes.image_code(pixels) + points.extract_keypoints(pixels)
        fields["vector"] = base64.b64encode(found).decode()
    return fields


def of_frame(pixels: Any, at_s: float) -> dict[str, Any]:
    hashes, quality = dihedral(pixels)
    return {
        "at_s": round(at_s, 2),
        "pdq": hashes[0].hex(),
        "mirrored": hashes[MIRRORED].hex(),
        "quality": quality,
    }


def of_sound(samples: Any) -> dict[str, Any]:
    found = sounds.audio_fingerprint(samples)
    return {"sound": base64.b64encode(found).decode()} if found else {}


# --- Reading ---


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _hashes(values: Any) -> list[bytes]:
    found = [parse_hex(value) for value in values] if isinstance(values, list) else []
    return [bytes.fromhex(one) for one in found[: len(TURNS) - 1] if one]


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (ValueError, binascii.Error):
        return b""


def split_vector(content: bytes) -> tuple[bytes, bytes]:
    """The code and the points in it. Raises ValueError."""
    code, found = content[: image_codes.BYTES], content[image_codes.BYTES :]
    if len(code) < image_codes.BYTES:
        raise ValueError("a vector has at least 160 bytes")
    points.Keypoints(found)
    return code, found


def _vector(value: Any) -> tuple[bytes, bytes]:
    try:
        return split_vector(_bytes(value))
    except ValueError:
        return b"", b""


def _sound(value: Any) -> bytes:
    content = _bytes(value)
    try:
        sounds.fingerprint_frames(content)
    except ValueError:
        return b""
    return content


def _frames(values: Any) -> list[Frame]:
    if not isinstance(values, list):
        return []
    return [
        Frame(_number(one.get("at_s")), bytes.fromhex(hashed), bytes.fromhex(parse_hex(one.get("mirrored"))))
        for one in values[:MAX_FRAMES]
        if isinstance(one, Mapping)
        and _number(one.get("quality")) >= MIN_QUALITY
        and len(hashed := parse_hex(one.get("pdq"))) == 2 * BYTES
    ]
