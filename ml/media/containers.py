"""Opening sound and film inside the decoding child: one named container format, a short list of codecs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
from av.stream import Discard, Disposition

from ml.media.model import File, MediaError
from ml.media.sniffing import HEAD_BYTES, sniff

#: Never let FFmpeg guess: among its formats are playlists that open other files and addresses.
CONTAINERS = {
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/aac": "aac",
    "audio/mp4": "mov",
    "video/mp4": "mov",
    "video/quicktime": "mov",
    "audio/webm": "matroska",
    "video/webm": "matroska",
    "video/x-matroska": "matroska",
}

SOUND_CODECS = frozenset(
    {"mp3", "mp3float", "mp2", "mp2float", "flac", "vorbis", "opus", "libopus", "aac", "alac", "ac3", "eac3"}
    | {"amrnb", "amrwb", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be"}
    | {"pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_u8", "pcm_s8", "pcm_alaw", "pcm_mulaw"}
)

#: What browsers, phones and cameras write; all are fuzzed by FFmpeg's own project.
PICTURE_CODECS = frozenset(
    {"h264", "hevc", "vp8", "vp9", "libdav1d", "av1", "mpeg4", "h263", "mjpeg", "prores"}
)

#: Larger than 8K; a decoder keeps up to 16 such frames.
MAX_FILM_PIXELS = 36_000_000

#: Cameras write up to ten streams, dubbed films some dozens.
MAX_STREAMS = 64

#: Outside of these no recorder works, and resampling would multiply the data without end.
SAMPLE_RATES = (1_000, 768_000)

OPTIONS = {
    # What a file names beside itself is never opened.
    "protocol_whitelist": "none",
    "codec_whitelist": ",".join(sorted(SOUND_CODECS | PICTURE_CODECS)),
    "max_streams": str(4 * MAX_STREAMS),
    "threads": "1",
}

#: What FFmpeg and PyAV raise for broken files. MemoryError is not among them: it means too large.
BROKEN = (av.FFmpegError, ValueError, OSError, EOFError, IndexError, OverflowError, ZeroDivisionError)

ACCEPTED = "WAV, MP3, FLAC, Ogg, AAC, M4A, MP4, MOV, WebM and Matroska"


@dataclass
class Source:
    """An open file and its first usable streams. ``others``: neither sound nor picture, nor decodable."""

    file: Any
    media_type: str
    sound: Any | None
    picture: Any | None
    others: list[Any]

    @property
    def main(self) -> list[Any]:
        """The streams that are decoded: picture, sound, or both."""
        return [stream for stream in (self.picture, self.sound) if stream is not None]

    def read_only(self, *streams: Any) -> None:
        """Let the demuxer pass over all other streams, where the format allows without reading them."""
        for stream in self.file.streams:
            stream.discard = Discard.default if stream in streams else Discard.all

    @property
    def origin_s(self) -> float:
        """Where the file's clock starts; all times handed out count from here."""
        starts = [float(s.start_time * s.time_base) for s in self.main if s.start_time is not None]
        return min(starts, default=0.0)


@contextmanager
def open_source(path: File) -> Iterator[Source]:
    """Open the file at ``path``. Whatever breaks inside the block becomes a MediaError."""
    media_type = type_of(path)
    container = CONTAINERS.get(media_type or "")
    if media_type is None or container is None:
        raise MediaError(
            "unsupported",
            f"not a sound or film that can be read ({media_type or 'unknown'}): convert it to one of {ACCEPTED}",
        )
    with corrupt_on_error(media_type), _open(path, container) as file:
        yield _source(file, media_type)


def _open(path: File, container: str) -> Any:
    try:
        return av.open(path.open("rb"), format=container, options=OPTIONS, metadata_errors="ignore")
    except MemoryError:
        message = "too many streams, or headers too large: export it with one sound and one picture stream"
        raise MediaError("too-large", message) from None


@contextmanager
def corrupt_on_error(what: str) -> Iterator[None]:
    """Turn what libraries raise for broken files into MediaError ``corrupt``."""
    try:
        yield
    except MemoryError:
        raise
    except BROKEN as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise MediaError(
            "corrupt",
            f"the {what} file is damaged or was not uploaded completely ({reason[:120]}): upload it again",
        ) from None


def type_of(path: File) -> str | None:
    """The sniffed media type; an ID3 tag may stand before any sound and be longer than the head."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if head[:3] != b"ID3" or len(head) < 10:
            return sniff(head)
        file.seek(10 + _synchsafe(head[6:10]))
        behind = sniff(file.read(HEAD_BYTES))
    return behind if behind in ("audio/aac", "audio/flac") else sniff(head)


def _synchsafe(size: bytes) -> int:
    return sum((byte & 0x7F) << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=True))


def _source(file: Any, media_type: str) -> Source:
    streams = list(file.streams)
    if len(streams) > MAX_STREAMS:
        raise MediaError(
            "too-large", f"the file has {len(streams)} streams or more; at most {MAX_STREAMS} are allowed"
        )
    sound = next((s for s in streams if s.type == "audio" and _is_sound(s)), None)
    picture = next((s for s in streams if s.type == "video" and _is_picture(s)), None)
    for stream in streams:
        if stream.codec_context is not None:
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"max_pixels": str(MAX_FILM_PIXELS)}
    source = Source(file, media_type, sound, picture, [s for s in streams if s not in (sound, picture)])
    source.read_only(*source.main)
    return source


def codec_of(stream: Any) -> str | None:
    """The decoder's name, or None where FFmpeg knows none."""
    return None if stream.codec_context is None else str(stream.codec_context.codec.name)


def is_cover(stream: Any) -> bool:
    """A picture attached to sound, not a film."""
    return bool(stream.disposition & Disposition.attached_pic)


def _is_sound(stream: Any) -> bool:
    low, high = SAMPLE_RATES
    return codec_of(stream) in SOUND_CODECS and low <= stream.codec_context.sample_rate <= high


def _is_picture(stream: Any) -> bool:
    if codec_of(stream) not in PICTURE_CODECS or is_cover(stream):
        return False
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_FILM_PIXELS:
        raise MediaError(
            "too-large", f"{width} x {height} pixels; a film may have {MAX_FILM_PIXELS:,}: scale it down"
        )
    return True


# --- Length ----------------------------------------------------------------------------------------------
# How long a sound or film is, measured by its packets: headers lie, lack it, or promise what was cut off.


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


def measure_duration(source: Source, max_seconds: float) -> Span:
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
