"""Sound inside the decoding child: PyAV (FFmpeg), one named container format, a short list of codecs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
from av.audio.resampler import AudioResampler

from ml.media.model import MediaError
from ml.media.sniffing import HEAD_BYTES, sniff

SAMPLE_RATE = 16_000

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
}

CODECS = (
    "mp3",
    "mp3float",
    "flac",
    "vorbis",
    "opus",
    "libopus",
    "aac",
    "alac",
    "pcm_s16le",
    "pcm_s16be",
    "pcm_s24le",
    "pcm_s32le",
    "pcm_f32le",
    "pcm_f64le",
    "pcm_u8",
    "pcm_alaw",
    "pcm_mulaw",
)

OPTIONS = {"protocol_whitelist": "file", "codec_whitelist": ",".join(CODECS)}

#: Shorter is a click.
MIN_SECONDS = 0.1


def decode(path: str, max_seconds: float) -> tuple[dict[str, Any], list[bytes]]:
    """Header and one part: int16 mono 16 kHz, the first ``max_seconds`` at most. Raises MediaError."""
    container = CONTAINERS.get(_media_type(path) or "")
    if container is None:
        raise MediaError("unsupported", "not a WAV, MP3, FLAC, Ogg, WebM or M4A file")
    try:
        samples = _read(path, container, int(max_seconds * SAMPLE_RATE))
    except (av.FFmpegError, ValueError, OSError, EOFError, IndexError) as error:
        raise MediaError("corrupt", f"the sound is damaged: {str(error)[:200]}") from None
    if len(samples) < MIN_SECONDS * SAMPLE_RATE * 2:
        raise MediaError("empty", f"the sound is shorter than {MIN_SECONDS} s")
    return {}, [samples]


def _media_type(path: str) -> str | None:
    with open(path, "rb") as file:  # noqa: PTH123 - the path is a str that came over the pipe
        return sniff(file.read(HEAD_BYTES))


def _read(path: str, container: str, limit: int) -> bytes:
    sound = bytearray()
    with av.open(path, format=container, options=OPTIONS, metadata_errors="ignore") as file:
        if not file.streams.audio:
            raise MediaError("unsupported", "the file has no sound")
        for chunk in _chunks(file):
            sound += chunk
            if len(sound) >= 2 * limit:
                break
    return bytes(sound[: 2 * limit])


def _chunks(file: Any) -> Iterator[bytes]:
    # Integers: mixing channels down to floats would sum them to beyond 1.
    resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    for frame in file.decode(audio=0):
        # Containers lie about time; the resampler would fill or drop samples to follow them.
        frame.pts = None
        yield from map(_content, resampler.resample(frame))
    yield from map(_content, resampler.resample(None))


def _content(frame: Any) -> bytes:
    # A plane is padded for alignment: only its first samples count.
    return bytes(frame.planes[0])[: 2 * frame.samples]
