"""When a film is a copy of another, by the PDQ hashes of sampled frames."""

from __future__ import annotations

from collections.abc import Iterable

#: So many frames of a film must each be near a frame of the other; fewer where either has fewer.
FRAMES = 3


def enough(agreeing: Iterable[int], mine: int, theirs: int) -> bool:
    """Whether the different frames of mine that agree (by number) are enough, of ``mine`` and ``theirs`` frames."""
    return len(set(agreeing)) >= min(FRAMES, max(1, mine), max(1, theirs))
