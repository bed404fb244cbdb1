"""How long a sound or film is, measured by its packets: headers lie, lack it, or promise what was cut off."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from ml.media.containers import BROKEN, Source
from ml.media.model import MediaError

#: Their headers only estimate; packets are cheap to count.
HEADERLESS = frozenset({"audio/mpeg", "audio/aac"})

#: The end is looked for in this much of the file, by its header's word.
TAIL_S = 2.0

#: A file that ends this much earlier than its header says was cut off; less is rounding.
MISSING_S, MISSING_SHARE = 1.0, 0.02


@dataclass
class Span:
    """What packets say: ``end_s`` on the file's clock (its ``origin_s`` is zero), and how many were read."""

    end_s: float
    packets: int
    truncated: bool = False


def measure(source: Source, max_seconds: float) -> Span:
    """The span of the decoded streams. Raises MediaError ``empty``, ``corrupt`` or ``too-large``."""
    claimed = _claimed(source)
    span = _tail(source, claimed) if claimed else None
    if span is None or span.packets == 0:
        span = _scan(source, max_seconds)
    if span.packets == 0:
        raise _nothing(claimed)
    if span.end_s > max_seconds:
        raise too_long(max_seconds)
    if claimed and span.end_s < claimed - max(MISSING_S, MISSING_SHARE * claimed):
        span.truncated = True
    if span.end_s <= 0:
        raise MediaError("empty", "the file has no duration: record or export it again")
    return span


def too_long(max_seconds: float) -> MediaError:
    """The refusal of a file beyond the limit."""
    return MediaError(
        "too-large", f"longer than {max_seconds / 3600:g} hours, which is the most: cut it into parts"
    )


def time_of(packet: Any, stream: Any) -> float | None:
    """Presentation time in seconds of a packet or frame of ``stream``, on the stream's own clock."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    return None if stamp is None else float(stamp * stream.time_base)


def _claimed(source: Source) -> float:
    """The header's duration in seconds, 0 where there is none to rely on."""
    if source.media_type in HEADERLESS or not source.file.duration:
        return 0.0
    return max(0.0, float(source.file.duration) / 1e6)


def _tail(source: Source, claimed: float) -> Span | None:
    try:
        source.file.seek(int((source.origin_s + max(0.0, claimed - TAIL_S)) * 1e6))
        return _read(source, float("inf"))
    except BROKEN:
        return None


def _scan(source: Source, max_seconds: float) -> Span:
    with contextlib.suppress(*BROKEN):
        source.file.seek(int(source.origin_s * 1e6))
    return _read(source, max_seconds)


def _read(source: Source, max_seconds: float) -> Span:
    end, count, origin = 0.0, 0, source.origin_s
    try:
        for packet in source.file.demux(source.main):
            if packet.size == 0:
                continue
            count += 1
            at = time_of(packet, packet.stream)
            if at is not None:
                end = max(end, at - origin + float((packet.duration or 0) * packet.time_base))
            if end > max_seconds:
                raise too_long(max_seconds)
    except BROKEN:
        if count == 0:
            raise
    return Span(end if end > 0 else _by_rate(source, count), count)


def _by_rate(source: Source, packets: int) -> float:
    """Where every timestamp is the same, the number of pictures is all there is to go by."""
    rate = source.picture.average_rate if source.picture is not None and source.sound is None else None
    return packets / float(rate) if rate and packets > 1 else 0.0


def _nothing(claimed: float) -> MediaError:
    if claimed > 0:
        return MediaError(
            "corrupt", "the file ends before its first sound or picture: it was not uploaded completely"
        )
    return MediaError("empty", "the file holds no sound and no pictures: record or export it again")
