"""Sound and film made on the spot: synthetic, small, of every kind and in every state that tests need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
from numpy.typing import NDArray

from ml.sandbox import without_realtime

Picture = NDArray[np.uint8]

CODECS = {
    "mp4": ("libx264", "aac"),
    "mov": ("mpeg4", "aac"),
    "webm": ("libvpx-vp9", "libopus"),
    "matroska": ("libx264", "aac"),
}
PIXELS = {"prores_ks": "yuv422p10le", "mjpeg": "yuvj420p"}
SOUNDS = {
    "wav": "pcm_s16le",
    "flac": "flac",
    "mp3": "libmp3lame",
    "ogg": "libopus",
    "adts": "aac",
    "ipod": "aac",
}


def tone(seconds: float, rate: int = 16_000, hertz: float = 440, peak: float = 0.5) -> NDArray[np.float64]:
    return peak * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def plain(shade: int, height: int = 48, width: int = 64) -> Picture:
    return np.full((height, width, 3), shade, np.uint8)


def quarters(height: int = 48, width: int = 64) -> Picture:
    """Red top left, green top right, blue bottom left, white bottom right: tells how it is turned."""
    picture = np.zeros((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    picture[:top, :left], picture[:top, left:] = (255, 0, 0), (0, 255, 0)
    picture[top:, :left], picture[top:, left:] = (0, 0, 255), (255, 255, 255)
    return picture


def write(
    path: Path,
    container: str,
    *,
    pictures: Iterable[Picture] | None = None,
    rate: int = 10,
    times: Sequence[int] | None = None,
    sound: NDArray[np.float64] | None = None,
    sound_gap_s: tuple[float, float] = (0, 0),
    codec: str | None = None,
    options: dict[str, str] | None = None,
    rotation: int = 0,
    metadata: dict[str, str] | None = None,
    cover: bytes = b"",
    muxing: dict[str, str] | None = None,
) -> Path:
    """Encode ``pictures`` (at ``times`` in 1/rate s) and ``sound`` (48 kHz) into ``path``.

    ``sound_gap_s``: from the first second on, timestamps are later by the second.
    """
    with without_realtime(), av.open(str(path), "w", format=container, options=muxing or {}) as file:
        file.metadata.update(metadata or {})
        video = audio = None
        pictures = list(pictures) if pictures is not None else []
        if pictures:
            video = file.add_stream(codec or CODECS[container][0], rate=rate, options=options or {})
            video.height, video.width = pictures[0].shape[:2]
            video.pix_fmt = _pixel_format(video)
            if rotation:
                video.set_display_rotation(rotation)
        if sound is not None:
            name = SOUNDS.get(container) or CODECS[container][1]
            audio = file.add_stream(name, rate=48_000, layout="stereo")
        if cover:
            _attach(file, cover)
        if audio is not None and sound is not None:
            _encode_sound(file, audio, sound, sound_gap_s)
        if video is not None:
            _encode_pictures(file, video, pictures, rate, times)
    return path


def _pixel_format(video: av.VideoStream) -> str:
    if video.name in PIXELS:
        return PIXELS[video.name]
    return "yuv444p" if video.width % 2 or video.height % 2 else "yuv420p"


def _encode_pictures(
    file: av.container.OutputContainer,
    stream: av.VideoStream,
    pictures: Sequence[Picture],
    rate: int,
    times: Sequence[int] | None,
) -> None:
    for at, picture in zip(times or range(len(pictures)), pictures, strict=True):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = at, Fraction(1, rate)
        file.mux(stream.encode(frame))
    file.mux(stream.encode(None))


def _encode_sound(
    file: av.container.OutputContainer,
    stream: av.AudioStream,
    samples: NDArray[np.float64],
    gap_s: tuple[float, float],
) -> None:
    both = np.repeat(samples[None].astype(np.float32), 2, axis=0)
    frame = av.AudioFrame.from_ndarray(both, format="fltp", layout="stereo")
    frame.sample_rate, frame.time_base, frame.pts = 48_000, Fraction(1, 48_000), 0
    resampler = av.AudioResampler(stream.format, "stereo", 48_000, frame_size=stream.frame_size or None)
    packets = [
        packet
        for part in [*resampler.resample(frame), *resampler.resample(None), None]
        for packet in stream.encode(part)
    ]
    for packet in packets:
        assert packet.pts is not None
        if packet.pts * packet.time_base >= gap_s[0]:
            packet.pts += int(gap_s[1] / packet.time_base)
            packet.dts = packet.pts
        file.mux(packet)


def _attach(file: av.container.OutputContainer, cover: bytes) -> None:
    stream = file.add_stream("mjpeg", rate=1)
    stream.disposition = av.stream.Disposition.attached_pic
    stream.width = stream.height = 16
    stream.pix_fmt = "yuvj420p"
    packet = av.Packet(cover)
    packet.stream, packet.pts, packet.dts = stream, 0, 0
    file.mux(packet)


def write_many_streams(path: Path, count: int) -> Path:
    """An MP4 whose index lists the same sound stream ``count`` times."""
    content = write(path, "mp4", sound=tone(0.1, 48_000)).read_bytes()
    moov = content.index(b"moov") - 4
    trak = content.index(b"trak", moov) - 4
    size = int.from_bytes(content[trak : trak + 4], "big")
    track = content[trak : trak + size]
    index = content[moov + 4 : trak] + track * count + content[trak + size :]
    path.write_bytes(content[:moov] + (len(index) + 4).to_bytes(4, "big") + index)
    return path


def write_long_wav(path: Path, hours: float) -> Path:
    """Silence at 8 kHz, 8 bits, as a sparse file that takes no room on the disk."""
    size = int(hours * 3600 * 8000)
    head = b"RIFF" + (size + 36).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    head += b"\1\0\1\0" + (8000).to_bytes(4, "little") * 2 + b"\1\0\x08\0data" + size.to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size)
    return path


def decoding_children() -> set[int]:
    """Pids of this process's decoding children."""
    found = set()
    for child in psutil.Process().children():
        # One that has ended, and that nobody has waited for yet, has no command line.
        with contextlib.suppress(psutil.Error):
            if "ml.media.child" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


def peak_memory(pid: int) -> int:
    """The most memory that a process has held so far, in bytes."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
