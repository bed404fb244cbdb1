"""IPTC's digital source types: how a picture, sound or film came into being, as C2PA, XMP and IPTC name it.

Source: https://cv.iptc.org/newscodes/digitalsourcetype/ and the two that C2PA adds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

#: Made by a trained model as a whole.
GENERATED = frozenset({"trainedAlgorithmicMedia", "trainedAlgorithmicData"})
#: Captured or drawn, with parts made by a trained model (generative fill, magic erasers).
COMPOSITE = frozenset({"compositeWithTrainedAlgorithmicMedia", "compositeSynthetic"})
OTHER = frozenset(
    {
        "digitalCapture", "computationalCapture", "negativeFilm", "positiveFilm", "print", "minorHumanEdits",
        "humanEdits", "compositeCapture", "composite", "algorithmicallyEnhanced", "softwareImage", "digitalArt",
        "digitalCreation", "dataDrivenMedia", "algorithmicMedia", "screenCapture", "virtualRecording", "empty",
    }
)  # fmt: skip
_KNOWN = {code.lower(): code for code in GENERATED | COMPOSITE | OTHER}
_LAST = re.compile(r"[^/:#]*$")


def code_of(value: Any) -> str:
    """The code in a URI, a qualified code (``digsrctype:…``) or alone; "" for what is none of them."""
    found = _LAST.search(value.strip()[-200:]) if isinstance(value, str) else None
    return _KNOWN.get(found.group().lower(), "") if found else ""


def ai_kind(codes: Iterable[str]) -> str:
    """``generated``, ``composite`` or "": the strongest that the codes say."""
    kept = set(codes)
    return "generated" if kept & GENERATED else "composite" if kept & COMPOSITE else ""
