"""Why the parts of a query weigh what they do, in numbers and in words: what `explain` shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ml.alignment.gating import PAIRS, PARTS, Part, Remark
from tenants.retrieval.query import fusion_weights
from tenants.retrieval.query.fusion_weights import Weighed

#: What an unusually small and an unusually large value of a sign says; signs that tell people nothing are left out.
_SAYS: dict[str, tuple[str, str]] = {
    "sharpness": ("it is blurred", ""),
    "coarse_sharpness": ("it is out of focus or empty", ""),
    "noise": ("", "it is noisy"),
    "brightness": ("it is dark", "it is bright"),
    "contrast": ("it has little contrast", ""),
    "dark": ("", "most of it is black"),
    "bright": ("", "most of it is white"),
    "flat": ("", "large parts of it are empty"),
    "smear": ("", "it is smeared in one direction"),
    "entropy": ("", "it is unclear what it shows"),
    "unknown": ("", "many of its words are unknown"),
    "hearing": ("the speech was hard to understand", ""),
}
#: A factor nearer to 1 than this is no news.
NEWS = 1.15


def explained(weighed: Weighed, parts: dict[str, Part]) -> dict[str, Any]:
    """In the shape of the API."""
    return {
        "task": weighed.task.slug,
        "prior": _rounded(weighed.prior),
        "confidence": {name: _rounded(part.signs) for name, part in parts.items() if part.signs},
        "agreement": _agreement(parts),
        "gate": weighed.gate or None,
        "factors": _rounded(weighed.factors),
        "why": list(_sentences(weighed, parts)),
    }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def _agreement(parts: dict[str, Part]) -> dict[str, float]:
    pairs = [(one, other) for one, other in PAIRS if one in parts and other in parts]
    return {
        f"{one} {other}": round(float(parts[one].vector @ parts[other].vector), 4) for one, other in pairs
    }


def _sentences(weighed: Weighed, parts: dict[str, Part]) -> Iterator[str]:
    yield f"Task {weighed.task.slug}: {_shares(weighed.prior)}."
    if weighed.word is not None:
        yield f"The words contain “{weighed.word}”, for which this task has weights of its own."
    if not weighed.gate:
        yield _why_fixed(weighed, parts)
        return
    remarks = fusion_weights.built_in().remarks(parts)
    for part in PARTS:
        if part in weighed.factors:
            yield _told(part, weighed.factors[part], [one for one in remarks if one.part == part])
    yield f"So: {_shares(weighed.weights)}."


def _why_fixed(weighed: Weighed, parts: dict[str, Part]) -> str:
    if len(parts) < 2:
        return "There is one part, so there is nothing to weigh."
    if not weighed.task.dynamic:
        return "This task keeps its weights for every query."
    return "The weights are those of the request, or no two parts can be compared."


def _shares(weights: dict[str, float]) -> str:
    return ", ".join(f"{part} {weight:.2f}" for part, weight in weights.items())


def _told(part: str, factor: float, remarks: list[Remark]) -> str:
    reasons = [said for one in remarks if (said := _SAYS.get(one.sign, ("", ""))[one.high])]
    because = f": {', '.join(dict.fromkeys(reasons))}" if reasons else ""
    if 1 / NEWS < factor < NEWS:
        return f"The {part} counts as usual{because}."
    return f"The {part} counts {'more' if factor > 1 else 'less'}, by a factor of {factor:.2f}{because}."
