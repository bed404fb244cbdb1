"""What of an item was counted, and only that: a number stands for all there is, or it is not given."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ml.auditing.examiner import Examination
from ml.detectors import hf_face, ocr, transcript
from ml.detectors.base import Words

_KANA_AND_HAN = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_KANA_AND_HAN}]|[^\W{_KANA_AND_HAN}]++")


def count_words(text: str) -> int:
    """Runs of letters and digits; of Chinese and Japanese each character."""
    return sum(1 for _ in _WORD.finditer(text))


def counts_of(modality: str, given: Sequence[Words], examination: Examination) -> dict[str, dict[str, int]]:
    """`words` by origin, of those origins that were read whole; `faces` by detector, of pictures whose faces are all
    listed. `given`: the item's own words."""
    words = [*given, *examination.words]
    whole = _read_whole(modality, given, examination)
    counted = {
        origin: sum(count_words(one.text) for one in words if one.origin == origin)
        for origin in sorted(whole)
    }
    faces = _faces(examination) if modality == "image" else {}
    return {"words": counted, **({"faces": faces} if faces else {})}


def _read_whole(modality: str, given: Sequence[Words], examination: Examination) -> set[str]:
    findings = {part.spec: part.finding for part in examination.parts}
    read, heard = findings.get("ocr"), findings.get("transcript")
    whole = {"text"} if modality == "text" else {"caption"}
    # Of films only some frames are read.
    if modality == "image" and read and read.state == "examined" and len(read.evidence) < ocr.MAX_LINES:
        whole.add("picture")
    duration = float(examination.about.get("duration_s", transcript.MAX_S))
    heard_all = heard is not None and heard.state == "examined" and duration < transcript.MAX_S
    if heard_all or any(one.origin == "transcript" for one in given):
        whole.add("transcript")
    return whole


def _faces(examination: Examination) -> dict[str, int]:
    counted = {}
    for part in examination.parts:
        if not part.spec.startswith("hf-face:"):
            continue
        seen = sum(one.get("kind") == "face" for one in part.finding.evidence)
        if part.finding.state == "examined" and 0 < seen < hf_face.MOST:
            counted[part.spec] = seen
        elif part.finding.state == "not_applicable" and part.finding.reason == hf_face.NO_FACE:
            counted[part.spec] = 0
    return counted
