"""The examining process: decodes one item and lets detectors look at it, one after the other.

Run as ``python -m ml.auditing.child MEMORY_BYTES FOLDER… -- DETECTOR…`` by ``ml.auditing.examiner``, in the protocol of
``ml.media.child``: the first piece tells what was decoded, then each detector gives one, in the order that the request
names. Memory, time and files are limited, and there is no network. It may read the models in its folders; where the
kernel cannot limit that, it loads the models of the detectors before, and serves these only.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ml import sandbox
from ml.auditing.examiner import DEVICE
from ml.detectors.base import Detector, Finding, Item, Modality, VideoFrame, Words, load_detector
from ml.media.child import Piece, load_codecs, serve
from ml.media.model import File, MediaError

log = logging.getLogger(__name__)

#: A finding longer than this as JSON is cut down to its scores: evidence is for people and rules, not for bulk.
MAX_FINDING = 2_000_000
HARMLESS = {"text": "text/plain", "image": "image/png", "audio": "audio/wav", "video": "video/mp4"}
_made: dict[str, Detector] = {}


def pieces(request: dict[str, Any]) -> Iterator[Piece]:
    """What was decoded, then a finding for each of ``request["detectors"]``."""
    item = Item(
        modality=request["modality"],
        media_type=request["media_type"],
        path=request["file"],
        words=[Words(**words) for words in request["words"]],
        options=request["options"],
    )
    about = _decode(item, request)
    timeouts = [*request["timeouts"], 1.0]
    request["timeout_s"] = timeouts[0]
    yield {"stage": "decoded"}, [json.dumps(about).encode()]
    for at, spec in enumerate(request["detectors"]):
        finding, exhausted = _examine(spec, item)
        item.words.extend(finding.words)
        request["timeout_s"] = timeouts[at + 1]
        yield {"stage": spec, "exhausted": exhausted}, [encode(finding)]


def _examine(spec: str, item: Item) -> tuple[Finding, bool]:
    try:
        if spec not in _made:
            _made[spec] = load_detector(spec)
        return _made[spec].examine(item), False
    except MemoryError:
        return Finding(state="failed", reason="It needs more memory than an examination may take."), True
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:300]
        return Finding(state="failed", reason=reason), False


def encode(finding: Finding) -> bytes:
    """The finding as JSON; what is too long loses its pictures, then its evidence, and says so."""
    document = _document(finding)
    content = json.dumps(document, default=_plain).encode()
    for name in ("pictures", "evidence", "fields"):
        if len(content) <= MAX_FINDING:
            break
        document |= {name: {} if name != "evidence" else [{"kind": "left-out", "reason": "too long"}]}
        content = json.dumps(document, default=_plain).encode()
    return content


def _document(finding: Finding) -> dict[str, Any]:
    return {
        "state": finding.state,
        "reason": finding.reason,
        "evidence": list(finding.evidence),
        "synthetic": finding.synthetic,
        "interval": finding.interval,
        "above": finding.above,
        "categories": {
            name: {
                "score": found.score,
                "calibrated": found.calibrated,
                "interval": found.interval,
                "evidence": list(found.evidence),
                "threshold": found.threshold,
            }
            for name, found in finding.categories.items()
        },
        "fields": dict(finding.fields),
        "pictures": {name: base64.b64encode(png).decode() for name, png in finding.pictures.items()},
        "words": [{"text": w.text, "origin": w.origin, "at_s": w.at_s} for w in finding.words],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


def _decode(item: Item, request: dict[str, Any]) -> dict[str, Any]:
    """Fill the item's pixels, shots and sound; what cannot be decoded is told and left out."""
    start = time.process_time()
    about: dict[str, Any] = {}
    try:
        if item.modality == "image":
            _picture(item, request, about)
        elif item.modality in ("audio", "video"):
            _film(item, request, about)
    except MediaError as error:
        about["error"] = {"type": error.code, "detail": error.message}
    return about | {"cpu_s": time.process_time() - start}


def _picture(item: Item, request: dict[str, Any], about: dict[str, Any]) -> None:
    from ml.media import pictures

    header, parts = pictures.decode(_file(item), request["max_pixels"], False)
    item.pixels = _pixels(header, parts[0])
    item.width, item.height = header["width"], header["height"]
    about |= {"width": item.width, "height": item.height, "frames": header["frames"]}


def _film(item: Item, request: dict[str, Any], about: dict[str, Any]) -> None:
    from ml.media import film, probing, sound

    info = probing.probe(_file(item), request["max_seconds"])
    item.media_type, item.duration_s = info["media_type"], info["duration_s"]
    item.width, item.height = info["width"] or 0, info["height"] or 0
    item.modality = "video" if info["has_picture"] else "audio"
    about |= {
        "modality": item.modality,
        "media_type": item.media_type,
        "width": item.width,
        "height": item.height,
        "duration_s": item.duration_s,
        "has_sound": info["has_sound"],
        "truncated": info["truncated"],
    }
    if info["has_picture"]:
        item.shots = [
            VideoFrame(header["at_s"], _pixels(header, parts[0]))
            for header, parts in film.frames(_file(item), request["max_frames"], request["max_seconds"])
        ]
        about["shots"] = len(item.shots)
    if info["has_sound"]:
        item.sound = _heard(sound.pieces(_file(item), 60.0, request["max_seconds"]), request["max_sound_s"])
        about["heard_s"] = len(item.sound) / 16_000


def _heard(found: Iterator[tuple[dict[str, Any], list[bytes]]], max_s: float) -> Any:
    chunks, seconds = [], 0.0
    for _, parts in found:
        chunks.append(np.frombuffer(parts[0], np.int16).astype(np.float32) / 32768)
        seconds += len(chunks[-1]) / 16_000
        if seconds >= max_s:
            break
    return np.concatenate(chunks)[: int(max_s * 16_000)] if chunks else np.zeros(0, np.float32)


def _pixels(header: dict[str, Any], content: bytes) -> Any:
    height, width = header["shape"]
    return np.frombuffer(content, np.uint8).reshape(height, width, 3)


def _file(item: Item) -> File:
    if item.path is None:
        raise MediaError("empty", "there is no file")
    return item.path


def _load(specs: Sequence[str]) -> None:
    """Load all that these detectors need, by letting each look at something harmless of every kind."""
    load_codecs()
    for spec in specs:
        with contextlib.suppress(Exception):
            _made[spec] = detector = load_detector(spec)
            for modality in sorted(detector.modalities):
                detector.examine(_harmless(modality))


def _harmless(modality: Modality) -> Item:
    grey = np.full((256, 256, 3), 128, np.uint8)
    item = Item(modality, HARMLESS[modality], words=[Words("a word", "text")], width=256, height=256)
    item.pixels = grey if modality == "image" else None
    item.shots = [VideoFrame(0.0, grey)] if modality == "video" else ()
    if modality in ("audio", "video"):
        item.sound, item.duration_s = np.zeros(16_000, np.float32), 1.0
    return item


def main(arguments: Sequence[str]) -> None:
    memory_bytes, *rest = arguments
    # Importing torch asks for a folder that can be written to, of which there is none here. It is only named: nothing
    # is compiled or cached, so nobody writes there.
    tempfile.tempdir = "/tmp"  # noqa: S108
    at = rest.index("--")
    folders, specs = [Path(folder) for folder in rest[:at]], rest[at + 1 :]

    def confine() -> object:
        gpu = os.environ.get(DEVICE) == "cuda"
        return sandbox.confine("examiner", read=folders, load=lambda: _load(specs), gpu=gpu)

    serve(int(memory_bytes), pieces, confine, files=256)


if __name__ == "__main__":
    main(sys.argv[1:])
