"""Where things stand on the time line of sound and film: what was said over the waveform, frames of a film."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: Of a film, evenly spread; more would be too small to tell apart on a phone.
FRAMES = 8
# A recording of an hour has hundreds of lines; beyond this the waveform would be nothing but borders.
MAX_REGIONS = 400


@dataclass(frozen=True)
class Region:
    """A stretch of the time line: its place and width in units of the waveform, and what is said in it."""

    x: float
    width: float
    start_s: float
    text: str


def regions_of(transcript: Iterable[Mapping[str, Any]], details: Mapping[str, Any] | None) -> list[Region]:
    """What was said, over the waveform's box: one unit wide for each of its peaks."""
    length, units = (details or {}).get("duration_s"), len((details or {}).get("peaks") or ())
    if not length or not units:
        return []
    step = units / length
    found = [
        Region(
            round(line["start_s"] * step, 2),
            round(max(0.2, (line["end_s"] - line["start_s"]) * step), 2),
            line["start_s"],
            line["text"],
        )
        for line in transcript
        if 0 <= line["start_s"] < length
    ]
    return found[:MAX_REGIONS]


def frames_of(details: Mapping[str, Any] | None) -> list[float]:
    """The moments of a film whose frames stand on its time line: the middle of each of its equal parts."""
    length = (details or {}).get("duration_s") or 0
    return [round(length * (at + 0.5) / FRAMES, 2) for at in range(FRAMES)] if length else []
