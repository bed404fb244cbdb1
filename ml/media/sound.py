"""Sound inside the decoding child: any accepted file to int16 mono 16 kHz, in pieces, in flat memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from av.error import BlockingIOError as NotYet
from av.filter import Graph

from ml.media.containers import (
    BROKEN,
    HEADERLESS,
    MISSING_S,
    MISSING_SHARE,
    Source,
    open_source,
    time_of,
    too_long,
)
from ml.media.model import File, MediaError

# --- Resampling ------------------------------------------------------------------------------------------
# Any sound to int16 mono 16 kHz. PyAV's own resampler starts a thread for each core; this one starts none.


SAMPLE_RATE = 16_000

Shape = tuple[str, str, int]


def shape_of(frame: Any) -> Shape:
    """What a resampler is made for: sample format, channel layout, rate."""
    return frame.format.name, frame.layout.name, frame.sample_rate


class Resampler:
    """Consecutive frames of one shape to consecutive samples."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._graph = Graph()
        self._graph.threads = 1
        kind, layout, rate = shape
        source = self._graph.add(
            "abuffer",
            sample_rate=str(rate),
            sample_fmt=kind,
            channel_layout=layout,
            time_base=f"1/{rate}",
        )
        # Integers: mixing channels down to floats would sum them to beyond 1.
        target = self._graph.add(
            "aformat", sample_rates=str(SAMPLE_RATE), sample_fmts="s16", channel_layouts="mono"
        )
        source.link_to(target)
        target.link_to(self._graph.add("abuffersink"))
        self._graph.configure()

    def add(self, frame: Any | None) -> Iterator[bytes]:
        """The samples that ``frame`` completes; None drains the rest."""
        if frame is not None:
            # With timestamps the samples would be stretched to follow them.
            frame.pts = None
        self._graph.push(frame)
        while True:
            try:
                yield _content(self._graph.pull())
            except (NotYet, EOFError):
                return


def _content(frame: Any) -> bytes:
    # A plane is padded for alignment: only its first samples count.
    return bytes(frame.planes[0])[: 2 * frame.samples]


# --- Decoding --------------------------------------------------------------------------------------------


#: Shorter is a click.
MIN_SECONDS = 0.1

#: Containers lie about time: only a leap beyond this is a pause in the recording, less is jitter.
LEAP_S = 0.5

Answer = tuple[dict[str, Any], list[bytes]]


def decode(path: File, max_seconds: float) -> Iterator[Answer]:
    """One answer: the first ``max_seconds`` at most, int16 mono 16 kHz. Raises MediaError."""
    limit, sound = int(max_seconds * SAMPLE_RATE) * 2, bytearray()
    with open_source(path) as source:
        for _, chunk in Reader(source).chunks():
            sound += chunk
            if len(sound) >= limit:
                break
    if len(sound) < MIN_SECONDS * SAMPLE_RATE * 2:
        raise MediaError("empty", f"the sound is shorter than {MIN_SECONDS} s: record it again")
    yield {}, [bytes(sound[:limit])]


def pieces(path: File, piece_s: float, max_seconds: float) -> Iterator[Answer]:
    """Answers of ``piece_s`` each with their ``start_s``, to the end of the file. Raises MediaError.

    A pause in the timestamps ends a piece early; the next starts behind it.
    """
    size = max(1, int(piece_s * SAMPLE_RATE)) * 2
    with open_source(path) as source:
        reader = Reader(source)
        start, held = 0.0, bytearray()
        for at, chunk in reader.chunks():
            if at is not None:
                if held:
                    yield {"start_s": start}, [bytes(held)]
                start, held = at, bytearray()
            held += chunk
            if start + len(held) / 2 / SAMPLE_RATE > max_seconds:
                raise too_long(max_seconds)
            while len(held) >= size:
                yield {"start_s": start}, [bytes(held[:size])]
                start, held = start + size / 2 / SAMPLE_RATE, held[size:]
        yield {"start_s": start, "truncated": reader.damaged}, [bytes(held)]


class Reader:
    """The sound stream of an open file. ``damaged`` once a packet was lost or the end is missing."""

    def __init__(self, source: Source) -> None:
        if source.sound is None:
            raise MediaError("unsupported", "the file has no sound that can be read")
        source.read_only(source.sound)
        self.damaged = False
        self._source, self._stream = source, source.sound
        self._resampler: Resampler | None = None
        self._packets = 0
        self._clock = 0.0  # by the samples handed out

    def chunks(self) -> Iterator[tuple[float | None, bytes]]:
        """Consecutive int16 samples; with a time in seconds where they do not follow the ones before."""
        found = False
        for frame in self._frames():
            at = self._leap(time_of(frame, self._stream), first=not found)
            for chunk in self._resampled(frame):
                found = True
                self._clock += len(chunk) / 2 / SAMPLE_RATE
                yield at, chunk
                at = None
        if not found:
            raise _silence(self._packets)
        yield from ((None, chunk) for chunk in self._flushed())
        self.damaged |= self._clock < self._promised()

    def _frames(self) -> Iterator[Any]:
        decoded = False
        packets = self._source.file.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except BROKEN:
                self.damaged = True
                return
            if packet is None:
                return
            self._packets += packet.size > 0
            try:
                frames = self._stream.decode(packet)
            except BROKEN:
                # Players skip what is broken and go on, and so do we. Before the first sound it is padding.
                self.damaged |= decoded
                continue
            decoded |= bool(frames)
            yield from frames

    def _leap(self, at: float | None, first: bool) -> float | None:
        if at is None:
            return 0.0 if first else None
        at -= self._source.origin_s
        if first:
            at = max(0.0, at)
        elif at < self._clock + LEAP_S:
            return None
        self._clock = at
        return at

    def _resampled(self, frame: Any) -> Iterator[bytes]:
        shape = shape_of(frame)
        if self._resampler is None or self._resampler.shape != shape:
            yield from self._flushed()
            self._resampler = Resampler(shape)
        yield from self._resampler.add(frame)

    def _flushed(self) -> Iterator[bytes]:
        if self._resampler is not None:
            yield from self._resampler.add(None)

    def _promised(self) -> float:
        """Where the stream should end at the latest that still counts as complete; 0 where nobody says."""
        if self._source.media_type in HEADERLESS or not self._stream.duration:
            return 0.0
        promised = float(self._stream.duration * self._stream.time_base)
        return promised - max(MISSING_S, MISSING_SHARE * promised)


def _silence(packets: int) -> MediaError:
    if packets:
        return MediaError("corrupt", "no sound in the file can be decoded: export it again")
    return MediaError("empty", "the file holds no sound: record it again")
