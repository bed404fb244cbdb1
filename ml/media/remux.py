"""The same sound and pictures in a new container, inside the decoding child: copied, not encoded again.

The child may not write files: the muxer's writes go over the pipe, and the parent applies them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
from av.bitstream import BitStreamFilterContext

from ml.media.containers import PICTURE_CODECS, SOUND_CODECS, Source, codec_of, is_cover, open_source
from ml.media.model import File, MediaError

MUXERS = {
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/aac": "adts",
    "audio/mp4": "ipod",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "audio/webm": "webm",
    "video/webm": "webm",
    "video/x-matroska": "matroska",
}

#: No tags of the muxer's own either.
OPTIONS = {"fflags": "+bitexact", "write_id3v1": "0", "id3v2_version": "0"}

#: Supplemental messages inside the pictures may hold coordinates; decoding does not need them.
FILTERS = {"h264": "filter_units=remove_types=6", "hevc": "filter_units=remove_types=39|40"}

#: Bytes of an MP4's index for each packet at most (size, times, order, chunk, key), and for each stream.
INDEX_PER_PACKET, INDEX_PER_STREAM = 48, 4096

BUFFER = 1 << 18

#: A Vorbis comment header with an empty vendor and no comments.
NO_TAGS = b"\3vorbis" + bytes(8) + b"\1"

Answer = tuple[dict[str, Any], list[bytes]]


def strip_metadata(path: File) -> Iterator[Answer]:
    """Answers with ``offset`` and bytes to write there, then one with ``media_type``. Raises MediaError."""
    with open_source(path) as source:
        streams = _kept(source)
        if not streams:
            raise MediaError("unsupported", "neither sound nor pictures can be copied out of the file")
        source.read_only(*streams)
        sink = Sink()
        muxer, options = MUXERS[source.media_type], dict(OPTIONS)
        if muxer in ("mp4", "mov", "ipod"):
            options["moov_size"] = str(_index_size(path))
        target = av.open(sink, "w", format=muxer, options=options, buffer_size=BUFFER)
        yield from _copied(source, streams, target, sink)
        target.close()
        yield from sink.drained()
        yield {"media_type": source.media_type}, []


class Sink:
    """The file that the muxer believes to write: remembers what to write where until it is drained."""

    def __init__(self) -> None:
        self._at = self._end = 0
        self._writes: list[tuple[int, bytes]] = []

    def write(self, content: bytes) -> int:
        """Remember ``content`` for the current offset."""
        self._writes.append((self._at, bytes(content)))
        self._at += len(content)
        self._end = max(self._end, self._at)
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move as in a file."""
        self._at = offset + (0, self._at, self._end)[whence]
        return self._at

    def tell(self) -> int:
        """The current offset."""
        return self._at

    def drained(self) -> Iterator[Answer]:
        """What was written since the last time, in order."""
        writes, self._writes = self._writes, []
        for offset, content in writes:
            yield {"offset": offset}, [content]


def _copied(source: Source, streams: list[Any], target: Any, sink: Sink) -> Iterator[Answer]:
    ways = {stream.index: _Way(stream, target) for stream in streams}
    for packet in source.file.demux(streams):
        if packet.size:
            for part in ways[packet.stream.index].passed(packet):
                target.mux(part)
        yield from sink.drained()


class _Way:
    """One stream's packets on their way: messages filtered out, times made to grow."""

    def __init__(self, stream: Any, target: Any) -> None:
        self._target = target.add_stream_from_template(stream, opaque=True)
        if codec_of(stream) == "vorbis":
            self._target.codec_context.extradata = without_comments(stream.codec_context.extradata or b"")
        description = FILTERS.get(codec_of(stream) or "")
        self._filter = BitStreamFilterContext(description, stream, self._target) if description else None
        self._last: int | None = None
        self._delay = _reordering(stream)

    def passed(self, packet: Any) -> Iterator[Any]:
        parts: list[Any] = [packet] if self._filter is None else self._filter.filter(packet)
        for part in parts:
            part.dts = self._decoding_time(part)
            if part.pts is None or part.pts < part.dts:
                part.pts = part.dts
            part.stream = self._target
            yield part

    def _decoding_time(self, packet: Any) -> int:
        """Matroska knows none; for the first pictures FFmpeg then does not either."""
        stamp = packet.dts
        if stamp is None:
            stamp = (packet.pts or 0) - self._delay if self._last is None else self._last + 1
        if self._last is not None and stamp <= self._last:
            stamp = self._last + 1
        self._last = stamp
        return int(stamp)


def without_comments(headers: bytes) -> bytes:
    """Vorbis' three headers in Xiph lacing (RFC 9559, 6.2), the second of which holds tags, with none in it.

    What does not look like that is returned as it is: no decoder would take it either.
    """
    sizes: list[int] = []
    at = 1
    while len(sizes) < 2 and headers[:1] == b"\2" and at < len(headers):
        run = len(headers[at:]) - len(headers[at:].lstrip(b"\xff"))
        sizes.append(255 * run + (headers[at + run] if at + run < len(headers) else 0))
        at += run + 1
    if len(sizes) < 2 or not headers[at + sizes[0] :].startswith(b"\3vorbis"):
        return headers
    first, setup = headers[at : at + sizes[0]], headers[at + sum(sizes) :]
    lacing = b"\2" + b"\xff" * (sizes[0] // 255) + bytes((sizes[0] % 255, len(NO_TAGS)))
    return lacing + first + NO_TAGS + setup


def _reordering(stream: Any) -> int:
    """By how much, in units of the stream's time base, pictures may be decoded before they are shown."""
    if stream.type != "video" or not stream.average_rate:
        return 0
    return int(stream.codec_context.reorder_depth / stream.average_rate / stream.time_base)


def _kept(source: Source) -> list[Any]:
    readable = SOUND_CODECS | PICTURE_CODECS
    return [s for s in source.file.streams if codec_of(s) in readable and not is_cover(s)]


def _index_size(path: File) -> int:
    """Room for the index in front of the content, so that a player can start before it has everything."""
    # Opened once more: seeking back to the start would miss the sound that a decoder needs to get going.
    with open_source(path) as source:
        streams = _kept(source)
        source.read_only(*streams)
        packets = sum(1 for packet in source.file.demux(streams) if packet.size)
    return packets * INDEX_PER_PACKET + len(streams) * INDEX_PER_STREAM
