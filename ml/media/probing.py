"""What a file is, inside the decoding child: opened, one picture or sound decoded, its length measured."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, BinaryIO

from ml.media.containers import ACCEPTED, BROKEN, Source, measure_duration, open_source
from ml.media.film import quarter_turns, shown_size
from ml.media.model import File, MediaError

# --- Location --------------------------------------------------------------------------------------------
# Whether a sound or film tells, or may tell, where it was made. It errs on the side of a copy without.
#
# Places differ by maker: tags of the container, streams of measurements (GoPro, DJI, dash cameras), unknown boxes,
# pictures with EXIF inside tags, and user data inside the coded pictures.


_KEY = re.compile(r"loca|loci|gps|geo|latit|longi|6709|xyz|coord|place|exif|xmp", re.IGNORECASE)
_ISO_6709 = re.compile(r"[+-]\d{2,7}(\.\d+)?[+-]\d{3,8}(\.\d+)?")

#: The entry of an EXIF directory, in either byte order, that points to one of GPS.
_EXIF_GPS = (bytes.fromhex("8825000400000001"), bytes.fromhex("2588040001000000"))

#: Long enough not to turn up by chance in coded sound.
_MARKS = (b"ISO6709", b"GPSLat", b"GPSLong", b"exif:GPS", b"freeGPS", b"xmpmeta", b"GPMF", *_EXIF_GPS)
#: Names of boxes within an MP4's index.
_BOXES = (*_MARKS, b"\xa9xyz", b"loci", b"gps ", b"gpmd", b"XMP_")

#: Top-level boxes of MP4 that hold the streams and their index, or nothing.
_PLAIN = frozenset(
    {b"ftyp", b"mdat", b"moov", b"wide", b"moof", b"mfra", b"sidx", b"ssix", b"styp", b"pdin", b"prft"}
)
_FILLERS = frozenset({b"free", b"skip"})

HEAD, TAIL, MAX_INDEX, MAX_BOXES = 4 << 20, 1 << 20, 64 << 20, 100_000

#: What x264 and x265 write into the first picture: their settings.
_ENCODERS = (
    bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef"),
    bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e"),
)


def may_reveal_location(source: Source, path: File, picture: Any | None) -> bool:
    """True for any trace of a place. ``picture``: the first decoded frame, None for sound."""
    return (
        any(stream.type not in ("audio", "video") for stream in source.others)
        or any(map(_tagged, (source.file, *source.file.streams)))
        or (picture is not None and _stamped(picture))
        or _hidden(path, boxes="mp4" in source.media_type or "quicktime" in source.media_type)
    )


def _tagged(holder: Any) -> bool:
    return any(_KEY.search(key) or _ISO_6709.search(value) for key, value in holder.metadata.items())


def _stamped(frame: Any) -> bool:
    """User data that no encoder known to us wrote: Tesla, for one, puts coordinates there."""
    return any(
        data.type.name == "SEI_UNREGISTERED" and bytes(data)[:16] not in _ENCODERS for data in frame.side_data
    )


def _hidden(path: File, boxes: bool) -> bool:
    with path.open("rb") as file:
        if boxes:
            return _hidden_in_boxes(file)
        head = file.read(HEAD)
        file.seek(max(len(head), file.seek(0, 2) - TAIL))
        tail = file.read(TAIL)
        return any(mark in part for mark in _MARKS for part in (head, tail))


def _hidden_in_boxes(file: BinaryIO) -> bool:
    end, at = file.seek(0, 2), 0
    for _ in range(MAX_BOXES):
        file.seek(at)
        header = file.read(16)
        if len(header) < 8:
            return False
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if size == 1:
            size = int.from_bytes(header[8:], "big")
        size = min(size, end - at) if size >= 8 else end - at
        if kind not in _PLAIN | _FILLERS or (kind != b"mdat" and _marked(file, at, size)):
            return True
        at += size
    return True


def _marked(file: BinaryIO, at: int, size: int) -> bool:
    file.seek(at)
    content = file.read(min(size, MAX_INDEX))
    return size > MAX_INDEX or any(mark in content for mark in _BOXES)


# --- Probing ---------------------------------------------------------------------------------------------


#: A stream that gives nothing within so many packets is broken.
PATIENCE = 200


def probe(path: File, max_seconds: float) -> dict[str, Any]:
    """The fields of MediaInfo. Raises MediaError."""
    with open_source(path) as source:
        if not source.main:
            raise _unreadable(source)
        picture = first(source, source.picture)
        sound = first(source, source.sound)
        source.read_only(*source.main)
        span = measure_duration(source, max_seconds)
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
            "has_location": may_reveal_location(source, path, picture),
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
    return size if quarter_turns(picture) % 2 == 0 else (size[1], size[0])


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
