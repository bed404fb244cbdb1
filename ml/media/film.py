"""Film inside the decoding child: one picture an interval, found by seeking, cuts preferred; or one a shot."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.media.containers import BROKEN, Source, measure_duration, open_source, time_of
from ml.media.model import File, MediaError

# --- Seeking ---------------------------------------------------------------------------------------------
# Going through the pictures of a film: to a key frame by seeking, onwards by decoding.


#: So many packets are tried where the first behind a seek gives no picture.
PATIENCE = 12

#: Beyond so many processor seconds, and this share of what was seen so far, only key frames are decoded: 4K at
#: 60 pictures a second with a key frame every ten seconds would take longer than it plays.
GRACE_S, SHARE = 10.0, 0.3

Timed = tuple[float, Any]


class FrameReader:
    """Decoded pictures of one open film with times on its clock, which need not be believed.

    Every step moves forward: where a seek lands before what was already seen, timestamps or index are broken,
    and the rest is decoded in order. Where decoding is dear, only key frames are. ``damaged`` once a packet
    could not be read or decoded.
    """

    def __init__(self, source: Source) -> None:
        self.damaged = False
        self._file, self._origin = source.file, source.origin_s
        stream: Any = source.picture
        self._stream = stream
        # Pictures that no other refers to are half of most films: nobody misses them at one a second.
        stream.codec_context.skip_frame = "NONREF"
        self._period = 1 / min(240.0, max(0.1, float(stream.average_rate or 25)))
        self._keys = self._key_times()
        self._gop: int | None = None  # position in _keys that the walk started from
        self._walk: Iterator[Timed] = iter(())
        self._ahead: Timed | None = None
        self._seen = -float("inf")
        self._in_order = len(self._keys) == 0
        self._began, self._hurried = time.process_time(), False

    def keys_within(self, start: float, end: float) -> list[int]:
        """Positions of the key frames in [start, end); none where seeking does not work."""
        if self._in_order:
            return []
        return list(range(bisect_left(self._keys, start), bisect_left(self._keys, end)))

    def still(self, key: int) -> Timed | None:
        """The picture at a key frame, alone: its packet goes through the decoder and is drained at once."""
        self._gop, self._walk, self._ahead = None, iter(()), None
        timed = next(self._from(key, drain=True), None)
        if timed is not None:
            self._in_order |= timed[0] <= self._seen
            self._seen = max(self._seen, timed[0])
        return timed

    def between(self, start: float, end: float) -> Iterator[Timed]:
        """The reference pictures in [start, end), decoded from the last key frame or on from where we are."""
        self._hurried |= time.process_time() - self._began > GRACE_S + SHARE * start
        self._approach(start)
        while (timed := self._peek()) is not None and timed[0] < end:
            self._ahead = None
            self._seen = max(self._seen, timed[0])
            if timed[0] >= start:
                yield timed

    def first(self) -> Timed | None:
        """Whatever can be decoded from the beginning, for a film whose times make no sense."""
        self._in_order = True
        self._restart()
        return self._peek()

    def _key_times(self) -> list[float]:
        """Of key frames by the container's index; MP4's counts in decoding order, which is some frames ahead."""
        base, entries = float(self._stream.time_base), self._stream.index_entries
        stamps = [entry.timestamp for entry in entries if entry.is_keyframe]
        start = self._stream.start_time
        ahead = start - entries[0].timestamp if stamps and start is not None else 0
        return sorted({(stamp + max(0, ahead)) * base - self._origin for stamp in stamps})

    def _approach(self, start: float) -> None:
        if self._in_order:
            if self._gop is None:
                self._gop = -1
                self._restart()
            return
        key = max(0, bisect_left(self._keys, start + self._period / 2) - 1)
        if self._gop != key:
            self._gop, self._walk, self._ahead = key, self._from(key), None
            timed = self._peek()
            if timed is not None and timed[0] < self._keys[key] - 1 and timed[0] < self._seen:
                self._in_order = True

    def _restart(self) -> None:
        self._walk, self._ahead = self._decoded(self._stream.start_time or 0, drain=False), None

    def _from(self, key: int, *, drain: bool = False) -> Iterator[Timed]:
        # A seek lands on the last key frame before: aim a little behind it, for the sake of rounding.
        here = self._keys[key]
        there = self._keys[key + 1] if key + 1 < len(self._keys) else here + 1
        aim = here + min(self._period, (there - here) / 2)
        return self._decoded(int((aim + self._origin) / float(self._stream.time_base)), drain)

    def _decoded(self, stamp: int, drain: bool) -> Iterator[Timed]:
        at = self._seen
        packets = self._packets(stamp)
        for packet in islice(packets, PATIENCE) if drain else packets:
            if self._hurried and packet.size and not packet.is_keyframe:
                continue
            for frame in self._frames(packet, drain):
                known = time_of(frame, self._stream)
                at = known - self._origin if known is not None else max(at, 0.0) + self._period
                yield at, frame

    def _packets(self, stamp: int) -> Iterator[Any]:
        try:
            self._file.seek(stamp, stream=self._stream)
            yield from self._file.demux(self._stream)
        except BROKEN:
            self.damaged = True

    def _frames(self, packet: Any, drain: bool) -> list[Any]:
        try:
            frames = list(self._stream.decode(packet))
            if drain and packet.size:
                frames += self._stream.decode(None)
                self._stream.codec_context.flush_buffers()
        except BROKEN:
            self.damaged = True
            return []
        return frames

    def _peek(self) -> Timed | None:
        if self._ahead is None:
            self._ahead = next(self._walk, None)
        return self._ahead


# --- Stills ----------------------------------------------------------------------------------------------


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
    with open_source(path) as source:
        if source.picture is None:
            raise MediaError("unsupported", "the file has no pictures that can be read, only sound or none")
        span = measure_duration(source, max_seconds)
        source.read_only(source.picture)
        walker = FrameReader(source)
        look: Gray | None = None
        for at, frame in select_frames(walker, span.end_s, max_frames):
            pixels = upright(frame, source.picture.sample_aspect_ratio)
            small = block_brightness(pixels)
            same = look is not None and is_similar(look, small)
            look = look if same else small
            header = {"at_s": at, "shape": list(pixels.shape[:2]), "same": same}
            yield header | {"truncated": walker.damaged or span.truncated}, [pixels.tobytes()]
        if look is None:
            raise MediaError("corrupt", "no picture of the film can be decoded: export it again")


def select_frames(walker: FrameReader, duration_s: float, max_frames: int) -> Iterator[Timed]:
    """At most one (time, frame) for each of the equal intervals, in order of time."""
    step = max(1.0, duration_s / max_frames)
    count = max(1, min(max_frames, round(duration_s / step)))
    # The last one takes in what is left, and the picture that stands at the very end.
    edges = [*(at * step for at in range(count)), duration_s + 1]
    cuts, last = CutDetector(), -math.inf
    for start, end in pairwise(edges):
        found = cuts.best(_candidates(walker, start, end), last)
        if found is not None:
            last = found[0]
            yield found
    if last == -math.inf and (first := walker.first()) is not None:
        yield first


def _candidates(walker: FrameReader, start: float, end: float) -> Iterator[Timed]:
    keys = walker.keys_within(start, end)
    if not keys:
        return walker.between(start, end)
    if len(keys) > STILLS:
        keys = [keys[round(step * (len(keys) - 1) / (STILLS - 1))] for step in range(STILLS)]
    stills = (walker.still(key) for key in keys)
    return (still for still in stills if still is not None)


# --- Moments ---------------------------------------------------------------------------------------------
# Where what is seen begins and ends: shots, and in shots that change a moment every few seconds.


#: How often a film is looked at, on the grid: a cut is found to within that.
LOOK_S = 0.08

#: The picture that stands for a shot is taken so long after its cut, where it is no more a mixture of two; and at the
#: latest so long after a change that does not come to rest.
SETTLED_S, RESTLESS_S = 0.5, 2.0

#: A change without a cut: mean difference of sampled luma from the picture that stands for the moment. One moment
#: for it in so many seconds; still shots are told in the same distance, as the same.
DRIFT, EVERY_S = 10.0, 3.0

#: The picture is at rest: the mean difference from the look before. A slow pan has more.
REST = 2.0

#: Moments that may stand close together before the share of the film's length decides.
BURST = 60

#: A cut stands out from the usual change by this factor; how fast the usual one follows.
OVER_USUAL, FOLLOWS = 2.0, 0.1


def moments(path: File, max_moments: int, max_seconds: float) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
    """As ``frames``, a picture for each moment: ``at_s`` is where it begins, and it lasts until the next."""
    with open_source(path) as source:
        if source.picture is None:
            raise MediaError("unsupported", "the file has no pictures that can be read, only sound or none")
        span = measure_duration(source, max_seconds)
        source.read_only(source.picture)
        walker = FrameReader(source)
        kept: Gray | None = None
        budget = MomentBudget(max_moments, span.end_s)
        for at, frame, matters in find_moments(walker, span.end_s):
            pixels = upright(frame, source.picture.sample_aspect_ratio)
            small = block_brightness(pixels)
            same = kept is not None and (is_similar(kept, small) or not budget.allows(at, matters))
            kept = kept if same else small
            header = {"at_s": at, "shape": list(pixels.shape[:2]), "same": same}
            yield header | {"truncated": walker.damaged or span.truncated}, [pixels.tobytes()]
        if kept is None:
            raise MediaError("corrupt", "no picture of the film can be decoded: export it again")


class MomentBudget:
    """At most ``most`` moments in all, spread over the film: some in advance, the rest as it goes on."""

    def __init__(self, most: int, duration_s: float) -> None:
        # The first moment is not asked for.
        self._burst = min(BURST, most - 1)
        self._rate = (most - 1 - self._burst) / max(duration_s, 1.0)
        self._left, self._at = float(self._burst), 0.0

    def allows(self, at: float, matters: bool) -> bool:
        """Whether one may begin now, which is then spent. The last half is kept for what ``matters``."""
        self._left = min(self._burst, self._left + self._rate * max(0.0, at - self._at))
        self._at = max(self._at, at)
        if self._left < (1 if matters else 1 + self._burst / 2):
            return False
        self._left -= 1
        return True


def find_moments(walker: FrameReader, duration_s: float) -> Iterator[tuple[float, Any, bool]]:
    """Where a moment begins, the picture that stands for it, and whether it begins with a cut or change.

    In order of time, one at least every ``EVERY_S`` seconds that have pictures. Of a shot that moves also the first
    picture of each second, as one more of the moment that it is in.
    """
    finder, last = MomentFinder(), -math.inf
    for second in range(math.ceil(duration_s) + 1):
        opening = True
        for at, frame in walker.between(second, second + 1):
            if at - last >= LOOK_S - 1e-3:
                last = at
                found = finder.look(at, frame)
                yield from finder.passed()
                if found is not None:
                    yield found
                elif opening:
                    finder.note(frame)
                opening = False
    if (found := finder.end()) is not None:
        yield found
    if last == -math.inf and (first := walker.first()) is not None:
        yield *first, True


class MomentFinder:
    """Tells moments from the looks at a film, one after the other, in constant memory."""

    def __init__(self) -> None:
        self._before: Gray | None = None
        self._stands: Gray | None = None  # the look of the picture that stands for the moment
        self._usual = 0.0
        self._last: Timed | None = None
        self._begun: float | None = None  # a moment that waits for the picture that stands for it
        self._cut: float | None = None  # the last cut in it; None where it began without one
        self._told = 0.0
        self._noted: list[Any] = []  # what a change without a cut looks like, until it is known what it is
        self._passed: list[tuple[float, Any, bool]] = []

    def look(self, at: float, frame: Any) -> tuple[float, Any, bool] | None:
        """A moment that has its picture now; None where none has."""
        now, last, before = grid_brightness(frame), self._last, self._before
        change = _difference(before, now)
        self._before, self._last = now, (at, frame)
        if self._is_cut(change):
            return self._cut_at(at, last, before)
        if self._begun is None:
            if _difference(self._stands, now) > DRIFT:
                self._begun, self._cut = at, None
            elif at - self._told >= EVERY_S:
                return self._tell(at, frame, now, matters=False)
            return None
        waited = at - self._begun
        if self._cut is not None:
            settled = at - self._cut >= SETTLED_S
            return self._tell(self._begun, frame, now, settled) if settled or waited >= RESTLESS_S else None
        if change > REST and waited < RESTLESS_S:
            return None
        if _difference(self._stands, now) <= DRIFT:
            # Somebody passed by.
            self._begun, self._noted = None, []
        elif change <= REST:
            return self._tell(self._begun, frame, now, matters=True)
        elif at - self._told >= EVERY_S:
            # A pan goes on, so what is seen now begins now; a dissolve into something that moves began when it did.
            if self._begun - self._told >= EVERY_S:
                return self._tell(self._begun, frame, now, matters=False)
            self._passed = [(self._told, one, False) for one in self._noted]
            return self._tell(at, frame, now, matters=False)
        return None

    def note(self, frame: Any) -> None:
        """One more picture of the moment that was told last, if it turns out to go on: in a dissolve it does not."""
        if self._begun is not None and self._cut is None:
            self._noted.append(frame)

    def passed(self) -> Iterator[tuple[float, Any, bool]]:
        """Further pictures of a moment that went on, once that is known."""
        passed, self._passed = self._passed, []
        return iter(passed)

    def end(self) -> tuple[float, Any, bool] | None:
        """The moment that the film ends in, where that has not been told."""
        if self._begun is None or self._last is None:
            return None
        return self._begun, self._last[1], True

    def _cut_at(self, at: float, last: Timed | None, before: Gray | None) -> tuple[float, Any, bool] | None:
        """One cut soon after another is a dissolve, a flash, or a picture that moves too much to tell."""
        begun, since = self._begun, self._begun if self._cut is None else self._cut
        self._cut, self._noted = at, []
        if begun is None or since is None or last is None or before is None:
            self._begun = at
            return None
        if at - since < SETTLED_S and at - begun < RESTLESS_S:
            return None
        found = self._tell(begun, last[1], before, at - since >= SETTLED_S)
        self._begun = self._cut = at
        return found

    def _tell(self, begun: float, frame: Any, look: Gray, matters: bool) -> tuple[float, Any, bool]:
        self._told, self._stands = begun, look
        self._begun = self._cut = None
        self._noted = []
        return begun, frame, matters

    def _is_cut(self, change: float) -> bool:
        # The first picture begins a moment as well.
        found = change > max(CUT, OVER_USUAL * self._usual)
        if math.isfinite(change):
            self._usual += FOLLOWS * (min(change, self._usual + CUT) - self._usual)
        return found


def _difference(one: Gray | None, other: Gray) -> float:
    return math.inf if one is None or one.shape != other.shape else float(np.abs(one - other).mean())


# --- One picture an interval -----------------------------------------------------------------------------


class CutDetector:
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
            look = grid_brightness(frame)
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


def grid_brightness(frame: Any) -> Gray:
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
    return np.ascontiguousarray(np.rot90(small.to_ndarray(), quarter_turns(frame)))


def shown_size(frame: Any, ratio: Any) -> tuple[int, int]:
    """Width and height before rotation, with square pixels; an absurd ``ratio`` is ignored."""
    if ratio and 0.25 <= float(ratio) <= 4:
        return max(1, round(frame.width * float(ratio))), frame.height
    return frame.width, frame.height


def quarter_turns(frame: Any) -> int:
    """Quarter turns counterclockwise that bring the frame upright."""
    return round(frame.rotation / 90) % 4


def _colours(frame: Any) -> str | None:
    unnamed = frame.colorspace not in (1, 5, 6, 7, 9, 10)
    return "ITU709" if unnamed and frame.height >= HD_HEIGHT else None


def block_brightness(pixels: Pixels) -> Gray:
    """Mean brightness of blocks on the small grid."""
    gray = pixels[..., 1].astype(np.int16)
    rows, columns = (max(1, size // cells) for size, cells in zip(gray.shape, GRID, strict=True))
    gray = gray[: gray.shape[0] // rows * rows, : gray.shape[1] // columns * columns]
    blocks = gray.reshape(gray.shape[0] // rows, rows, gray.shape[1] // columns, columns)
    return blocks.mean(axis=(1, 3)).astype(np.int16)


def is_similar(one: Gray, other: Gray) -> bool:
    """Visually the same: no block changed beyond what coding does."""
    if one.shape != other.shape:
        return False
    change = np.abs(one - other)
    return bool(change.max() <= SAME_BLOCK and change.mean() <= SAME_MEAN)
