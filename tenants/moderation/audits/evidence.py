"""The evidence document of an audit: what rules see, what an answer shows, what is stored.

One JSON object, bounded in size: long texts are cut to excerpts, lists to their first entries. docs/auditing/README.md
describes its fields.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from ml.auditing import DetectorResult, Examination, authenticity, categories, merged_fields
from ml.detectors.base import PROCESS_DIED

log = logging.getLogger(__name__)


MAX_WORDS, MAX_EXCERPT = 40, 300

MAX_EVIDENCE, MAX_MATCHES = 50, 50

#: A detector's own evidence longer than this is left out of the document.
MAX_PART = 20_000

DECODING = "decoding"

#: In place of `decoding` where not the file is at fault: the process that decodes ended.
DECODER = "decoder"


def assemble(
    *,
    item: Mapping[str, object],
    examination: Examination,
    matches: Sequence[Mapping[str, object]] = (),
    strikes: int = 0,
    classifiers: Mapping[str, object] | None = None,
    counts: Mapping[str, object] | None = None,
    read: Mapping[str, Any] | None = None,
) -> dict[str, object]:
    """The document. `item`: modality, media_type, bytes, dataset, subject and metadata of what was examined;
    `classifiers`: what the tenant's own say, by name (`tenants.learning.classifiers.scoring.evidence_of`); `counts`:
    what was counted while it was examined (`ml.auditing.counts_of`); `read`: what was read of a PDF, an office file and
    the like (`tenants.datasets.documents.told_of`)."""
    parts, about = examination.parts, examination.about
    fields = merged_fields(parts)
    document = {
        "item": {
            **item,
            "modality": about.get("modality", item["modality"]),
            "width": about.get("width", 0),
            "height": about.get("height", 0),
            "duration_s": about.get("duration_s", 0.0),
        },
        "authenticity": authenticity(parts).as_dict(),
        "provenance": {
            "c2pa": fields.get("c2pa") or {"state": "not_examined"},
            "declared": fields.get("declared") or {"state": "not_examined", "generator": "", "ai": False},
            "watermark": fields.get("watermark") or {"state": "not_examined"},
        },
        "categories": categories(parts),
        "matches": list(matches)[:MAX_MATCHES],
        "fingerprints": fields.get("fingerprints") or {},
        "words": [
            {"text": words.text[:MAX_EXCERPT], "origin": words.origin, "at_s": words.at_s}
            for words in examination.words[:MAX_WORDS]
        ],
        "detectors": [_detector(part) for part in parts],
        "could_not_look": could_not_look(examination),
        "process_ended": process_ended(examination),
        "strikes": strikes,
    }
    if classifiers:
        document["classifier"] = classifiers
    if counts:
        document["counts"] = counts
    if read:
        document["document"] = dict(read)
    return cast("dict[str, Any]", storable(document))


def fingerprints_of(examination: Examination) -> dict[str, object]:
    """What identifies the content, as detectors computed it; empty where none did."""
    return dict(merged_fields(examination.parts).get("fingerprints") or {})


def could_not_look(examination: Examination) -> list[str]:
    """Detectors that failed; `decoding` where the file itself could not be read, `decoder` where its process ended."""
    failed = [part.spec for part in examination.parts if part.finding.state == "failed"]
    error = examination.about.get("error")
    if not error:
        return failed
    return [DECODER if error["type"] == PROCESS_DIED else DECODING, *failed]


def process_ended(examination: Examination) -> list[str]:
    """Those of `could_not_look` of whom nothing is known but that their process ended, at a second try as well.

    That says nothing about the item, so nothing is decided because of it.
    """
    error = examination.about.get("error") or {}
    ended = [part.spec for part in examination.parts if part.finding.cause == PROCESS_DIED]
    return [DECODER, *ended] if error.get("type") == PROCESS_DIED else ended


def _detector(part: DetectorResult) -> dict[str, object]:
    finding = part.finding
    evidence = list(finding.evidence)[:MAX_EVIDENCE]
    if len(json.dumps(evidence, default=str)) > MAX_PART:
        evidence = [{"kind": "left-out", "reason": "too long"}]
    return {
        "name": part.spec,
        "version": version_of(part),
        "tier": part.detector.tier,
        "state": finding.state,
        "reason": finding.reason,
        "score": finding.synthetic,
        "cpu_s": round(part.cpu_s, 4),
        "pictures": sorted(finding.pictures),
        "evidence": evidence,
    }


def storable(value: object) -> object:
    """The value as the database's JSON can hold it: no NaN, no NUL, no half characters, keys as strings.

    What an adversary puts into a file's metadata ends up here.
    """
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if isinstance(value, float):
        # Zero has one sign in the database.
        return (value + 0.0 or 0.0) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {storable(str(key)): storable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [storable(inner) for inner in value]
    return value if isinstance(value, bool | int | None) else storable(str(value))


def versions(document: Mapping[str, Any], policy_digest: str) -> dict[str, str]:
    """What the verdict rests on: digests of the policy and of all detectors' names and versions."""
    looked = sorted(f"{part['name']}@{part['version']}" for part in document["detectors"])
    return {"policy": policy_digest, "detectors": hashlib.sha256("\n".join(looked).encode()).hexdigest()}


def version_of(part: DetectorResult) -> str:
    """Some versions are those of files; a file that is gone must not cost the audit what the others saw."""
    try:
        return part.detector.version
    except Exception:
        log.warning("a detector does not know its version", extra={"spec": part.spec}, exc_info=True)
        return "unknown"


def digest(document: Mapping[str, object]) -> str:
    """SHA-256 of the document in canonical JSON (sorted keys, no blanks)."""
    content = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()
