"""Film inside the decoding child: one picture an interval, found by seeking, cuts preferred."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.media.containers import opened
from ml.media.descriptors import File
from ml.media.model import MediaError
from ml.media.timing import measure
from ml.media.walking import Timed, Walker

LONGEST_SIDE = 640

#: Candidates looked at within an interval that holds many key frames.
STILLS = 3

#: A cut: the mean difference of sampled luma, out of 255, between two candidates; how many times the usual
#: difference that must be; and how fast the usual one is forgotten, by the candidate.
CUT, STANDS_OUT, FADING = 18.0, 1.6, 0.9

#: The same picture: no block mean moved by more than the first, nor all on average by more than the second.
SAME_BLOCK, SAME_MEAN = 8.0, 2.0

#: Small grid (rows, columns) on which pictures are compared.
GRID = (18, 32)

#: From this height on video without a named colour space is in that of HDTV.
HD_HEIGHT = 720

Gray = NDArray[np.int16]
Pixels = NDArray[np.uint8]


def frames(path: File, max_frames: int, max_seconds: float) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
    """Answers with ``at_s``, ``shape``, ``same`` and the pixels uint8 [h, w, 3]. Raises MediaError."""
    with opened(path) as source:
        if source.picture is None:
            raise MediaError("unsupported", "the file has no pictures that can be read, only sound or none")
        span = measure(source, max_seconds)
        source.read_only(source.picture)
        walker = Walker(source)
        look: Gray | None = None
        for at, frame in choose(walker, span.end_s, max_frames):
            pixels = upright(frame, source.picture.sample_aspect_ratio)
            small = shades(pixels)
            same = look is not None and alike(look, small)
            look = look if same else small
            header = {"at_s": at, "shape": list(pixels.shape[:2]), "same": same}
            yield header | {"truncated": walker.damaged or span.truncated}, [pixels.tobytes()]
        if look is None:
            raise MediaError("corrupt", "no picture of the film can be decoded: export it again")


def choose(walker: Walker, duration_s: float, max_frames: int) -> Iterator[Timed]:
    """At most one (time, frame) for each of the equal intervals, in order of time."""
    step = max(1.0, duration_s / max_frames)
    count = max(1, min(max_frames, round(duration_s / step)))
    # The last one takes in what is left, and the picture that stands at the very end.
    edges = [*(at * step for at in range(count)), duration_s + 1]
    cuts, last = Cuts(), -math.inf
    for start, end in pairwise(edges):
        found = cuts.best(_candidates(walker, start, end), last)
        if found is not None:
            last = found[0]
            yield found
    if last == -math.inf and (first := walker.first()) is not None:
        yield first


def _candidates(walker: Walker, start: float, end: float) -> Iterator[Timed]:
    keys = walker.keys_within(start, end)
    if not keys:
        return walker.between(start, end)
    if len(keys) > STILLS:
        keys = [keys[round(step * (len(keys) - 1) / (STILLS - 1))] for step in range(STILLS)]
    stills = (walker.still(key) for key in keys)
    return (still for still in stills if still is not None)


class Cuts:
    """Which candidate of an interval to take: the one behind the strongest cut, else the first.

    Panning changes every picture; a cut stands out from the changes before it.
    """

    def __init__(self) -> None:
        self._usual = 0.0

    def best(self, candidates: Iterator[Timed], after: float) -> Timed | None:
        """None where no candidate is later than ``after``."""
        chosen: Timed | None = None
        before, strongest = None, 0.0
        for at, frame in candidates:
            if at <= after:
                continue
            look = sampled(frame)
            change = self._change(before, look)
            if chosen is None or change > strongest:
                chosen, strongest = (at, frame), change
            before = look
        return chosen

    def _change(self, before: Gray | None, look: Gray) -> float:
        if before is None or before.shape != look.shape:
            return 0.0
        change = float(np.abs(look - before).mean())
        stands_out = change > max(CUT, STANDS_OUT * self._usual)
        self._usual = max(change, FADING * self._usual)
        return change if stands_out else 0.0


def sampled(frame: Any) -> Gray:
    """Brightness at the points of a grid: too coarse to look at, enough to see a cut, and almost free."""
    plane, component = frame.planes[0], frame.format.components[0]
    kind = np.dtype("<u2") if component.bits > 8 else np.dtype("u1")
    rows = np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : max(1, plane.width)]
    steps = [max(1, size // cells) for size, cells in zip(rows.shape, GRID, strict=True)]
    points = rows[steps[0] // 2 :: steps[0], steps[1] // 2 :: steps[1]]
    return (points >> max(0, component.bits - 8)).astype(np.int16)


def upright(frame: Any, ratio: Any) -> Pixels:
    """The frame as a player shows it: ``ratio`` of a pixel's sides and rotation applied, at most LONGEST_SIDE."""
    width, height = shown_size(frame, ratio)
    scale = min(1.0, LONGEST_SIDE / max(width, height))
    small = frame.reformat(
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
        format="rgb24",
        interpolation="BILINEAR",
        src_colorspace=_colours(frame),
        threads=1,
    )
    return np.ascontiguousarray(np.rot90(small.to_ndarray(), turns(frame)))


def shown_size(frame: Any, ratio: Any) -> tuple[int, int]:
    """Width and height before rotation, with square pixels; an absurd ``ratio`` is ignored."""
    if ratio and 0.25 <= float(ratio) <= 4:
        return max(1, round(frame.width * float(ratio))), frame.height
    return frame.width, frame.height


def turns(frame: Any) -> int:
    """Quarter turns counterclockwise that bring the frame upright."""
    return round(frame.rotation / 90) % 4


def _colours(frame: Any) -> str | None:
    unnamed = frame.colorspace not in (1, 5, 6, 7, 9, 10)
    return "ITU709" if unnamed and frame.height >= HD_HEIGHT else None


def shades(pixels: Pixels) -> Gray:
    """Mean brightness of blocks on the small grid."""
    gray = pixels[..., 1].astype(np.int16)
    rows, columns = (max(1, size // cells) for size, cells in zip(gray.shape, GRID, strict=True))
    gray = gray[: gray.shape[0] // rows * rows, : gray.shape[1] // columns * columns]
    blocks = gray.reshape(gray.shape[0] // rows, rows, gray.shape[1] // columns, columns)
    return blocks.mean(axis=(1, 3)).astype(np.int16)


def alike(one: Gray, other: Gray) -> bool:
    """Visually the same: no block changed beyond what coding does."""
    if one.shape != other.shape:
        return False
    change = np.abs(one - other)
    return bool(change.max() <= SAME_BLOCK and change.mean() <= SAME_MEAN)
