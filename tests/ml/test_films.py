"""Films: one frame is not enough, a stretch is, and its times are told."""

from __future__ import annotations

import numpy as np
import pytest

from ml.detectors._learned import FilmScores, sample_frames, score_frames, top_median
from ml.detectors.base import VideoFrame


def shots(scores: list[float | None], step_s: float = 1.0) -> list[VideoFrame]:
    """Frames whose first pixel says what a detector would: 0 to 100, 255 for "cannot tell"."""
    values = [255 if score is None else round(100 * score) for score in scores]
    return [VideoFrame(at * step_s, np.full((4, 4, 3), value, np.uint8)) for at, value in enumerate(values)]


def look(pixels: np.ndarray) -> float | None:
    return None if pixels[0, 0, 0] == 255 else float(pixels[0, 0, 0]) / 100


def watched(scores: list[float | None]) -> FilmScores:
    found = score_frames(shots(scores), look)
    assert found is not None
    return found


def test_the_median_of_the_highest_fifth() -> None:
    assert top_median([0.1] * 8 + [0.7, 0.9]) == pytest.approx(0.8)
    assert top_median([0.3]) == 0.3
    assert top_median(np.arange(20) / 20) == pytest.approx(np.median([0.95, 0.9, 0.85, 0.8]))
    with pytest.raises(ValueError, match="no score"):
        top_median([])


def test_single_frames_make_no_stretch() -> None:
    found = watched([0.9, 0.1] * 8)
    assert found.score == pytest.approx(0.9)
    assert found.stretches(0.5) == []
    assert [seen["kind"] for seen in found.evidence(0.5)] == ["frame"] * 5


def test_a_stretch_is_told_with_its_times() -> None:
    found = watched([0.1, 0.9, 0.8, 0.9, 0.1, 0.7, 0.7, 0.7, 0.7])
    longest, other = found.stretches(0.6)
    assert (longest.start_s, longest.end_s, longest.frames) == (5.0, 8.0, 4)
    assert (other.start_s, other.end_s, other.frames) == (1.0, 3.0, 3)
    assert found.evidence(0.6)[0] == {"kind": "stretch", "start_s": 5.0, "end_s": 8.0, "frames": 4}
    assert [seen["at_s"] for seen in found.evidence(None)] == [1.0, 2.0, 3.0, 5.0, 6.0]


def test_a_frame_that_tells_nothing_ends_a_stretch() -> None:
    found = watched([0.9, 0.9, None, 0.9, 0.9])
    assert found.stretches(0.5) == []
    assert found.score == pytest.approx(0.9)
    assert all(seen["score"] == 0.9 for seen in found.evidence(0.5))


def test_too_few_frames_tell_nothing() -> None:
    assert score_frames(shots([0.9, 0.9]), look) is None
    assert score_frames(shots([0.9, None, 0.9, None]), look) is None
    assert score_frames([], look) is None


def test_at_most_32_frames_over_the_whole_film() -> None:
    seen: list[int] = []

    def count(pixels: np.ndarray) -> float:
        seen.append(1)
        return 0.5

    found = score_frames(shots([0.5] * 100), count)
    assert found is not None
    assert len(seen) == 32
    assert (found.frames[0][0], found.frames[-1][0]) == (0.0, 99.0)
    mixed = shots([0.1, 0.2, 0.3])
    assert [shot.at_s for shot in sample_frames([mixed[2], mixed[0], mixed[1]])] == [0.0, 1.0, 2.0]
