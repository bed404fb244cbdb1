"""What a file is, inside the decoding child: opened, one picture or sound decoded, its length measured."""

from __future__ import annotations

from itertools import islice
from typing import Any

from ml.media.containers import ACCEPTED, BROKEN, Source, opened
from ml.media.descriptors import File
from ml.media.film import shown_size, turns
from ml.media.location import may_tell
from ml.media.model import MediaError
from ml.media.timing import measure

#: A stream that gives nothing within so many packets is broken.
PATIENCE = 200


def probe(path: File, max_seconds: float) -> dict[str, Any]:
    """The fields of MediaInfo. Raises MediaError."""
    with opened(path) as source:
        if not source.main:
            raise _unreadable(source)
        picture = first(source, source.picture)
        sound = first(source, source.sound)
        source.read_only(*source.main)
        span = measure(source, max_seconds)
        if picture is None and sound is None:
            raise MediaError("corrupt", "nothing in the file can be decoded: export or record it again")
        width, height = _size(source, picture)
        return {
            "media_type": _refined(source.media_type, picture is not None),
            "duration_s": span.end_s,
            "width": width,
            "height": height,
            "has_sound": sound is not None,
            "has_picture": picture is not None,
            "frame_rate": _rate(source) if picture is not None else None,
            "codecs": [_codec_name(stream) for stream in source.file.streams],
            "has_location": may_tell(source, path, picture),
            "truncated": span.truncated or len(source.main) > (picture is not None) + (sound is not None),
        }


def first(source: Source, stream: Any | None) -> Any | None:
    """The first frame of ``stream`` that decodes, None where none does."""
    if stream is None:
        return None
    source.read_only(stream)
    try:
        if stream is not source.main[0]:
            source.file.seek(stream.start_time or 0, stream=stream)
        for packet in islice(source.file.demux(stream), PATIENCE):
            if frames := _decoded(stream, packet):
                return frames[0]
    except BROKEN:
        pass
    return None


def _decoded(stream: Any, packet: Any) -> list[Any]:
    try:
        return list(stream.decode(packet))
    except BROKEN:
        return []


def _size(source: Source, picture: Any | None) -> tuple[int, int] | tuple[None, None]:
    if picture is None or source.picture is None:
        return None, None
    size = shown_size(picture, source.picture.sample_aspect_ratio)
    return size if turns(picture) % 2 == 0 else (size[1], size[0])


def _refined(media_type: str, film: bool) -> str:
    """Containers of films that hold only sound are sound; QuickTime's only sound is the same as MP4's."""
    if film or not media_type.startswith("video/"):
        return media_type if not film else media_type.replace("audio/", "video/")
    return "audio/webm" if media_type in ("video/webm", "video/x-matroska") else "audio/mp4"


def _rate(source: Source) -> float | None:
    rate = source.picture.average_rate if source.picture is not None else None
    return round(float(rate), 3) if rate else None


def _codec_name(stream: Any) -> str:
    context = stream.codec_context
    return str(context.codec.canonical_name) if context is not None else "unknown"


def _unreadable(source: Source) -> MediaError:
    names = sorted({_codec_name(stream) for stream in source.file.streams})
    if not names:
        return MediaError("empty", "the file holds no streams: record or export it again")
    return MediaError(
        "unsupported",
        f"neither sound nor pictures can be read ({', '.join(names[:8])}): convert the file to one of {ACCEPTED}",
    )
