"""Going through the pictures of a film: to a key frame by seeking, onwards by decoding."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ml.media.containers import BROKEN, Source
from ml.media.timing import time_of

#: So many packets are tried where the first behind a seek gives no picture.
PATIENCE = 12

#: Beyond so many processor seconds, and this share of what was seen so far, only key frames are decoded: 4K at
#: 60 pictures a second with a key frame every ten seconds would take longer than it plays.
GRACE_S, SHARE = 10.0, 0.3

Timed = tuple[float, Any]


class Walker:
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
