"""What a file is: measured length, streams that count, places it may tell, refusals that say what to do."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.media import Decoder, MediaError, MediaInfo, sniff
from tests.ml.recordings import CODECS, plain, quarters, tone, write, write_long_wav, write_many_streams

PLACE = "+47.3769+008.5417/"


def refusal(decoder: Decoder, path: Path) -> MediaError:
    with pytest.raises(MediaError) as caught:
        decoder.probe(path)
    return caught.value


def jpeg(with_place: bool = False) -> bytes:
    tags, target = Image.Exif(), io.BytesIO()
    tags[0x0110] = "A camera"
    if with_place:
        tags.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 0.0)})
    Image.new("RGB", (16, 16), "red").save(target, "JPEG", exif=tags)
    return target.getvalue()


def test_film_with_sound(decoder: Decoder, tmp_path: Path) -> None:
    path = write(tmp_path / "film", "webm", pictures=[plain(0)] * 30, sound=tone(3, 48_000))
    assert decoder.probe(path) == MediaInfo(
        media_type="video/webm",
        duration_s=pytest.approx(3, abs=0.05),
        width=64,
        height=48,
        has_sound=True,
        has_picture=True,
        frame_rate=10.0,
        codecs=("vp9", "opus"),
        has_location=False,
    )


@pytest.mark.parametrize(
    ("container", "media_type"),
    [("mp4", "audio/mp4"), ("mov", "audio/mp4"), ("webm", "audio/webm"), ("ipod", "audio/mp4"),
     ("wav", "audio/wav"), ("mp3", "audio/mpeg"), ("flac", "audio/flac"), ("ogg", "audio/ogg"),
     ("adts", "audio/aac")],
)  # fmt: skip
def test_only_sound(decoder: Decoder, tmp_path: Path, container: str, media_type: str) -> None:
    info = decoder.probe(write(tmp_path / "sound", container, sound=tone(2, 48_000)))
    assert (info.media_type, info.has_sound, info.has_picture) == (media_type, True, False)
    assert (info.width, info.height, info.frame_rate) == (None, None, None)
    assert info.duration_s == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("container", ["mp4", "mov", "webm"])
def test_only_pictures(decoder: Decoder, tmp_path: Path, container: str) -> None:
    info = decoder.probe(write(tmp_path / "film", container, pictures=[plain(0)] * 20))
    assert (info.has_sound, info.has_picture, info.duration_s) == (False, True, pytest.approx(2, abs=0.05))


@pytest.mark.parametrize(("rotation", "size"), [(90, (48, 64)), (180, (64, 48)), (-90, (48, 64))])
def test_size_after_rotation(decoder: Decoder, tmp_path: Path, rotation: int, size: tuple[int, int]) -> None:
    info = decoder.probe(write(tmp_path / "film", "mp4", pictures=[quarters()] * 5, rotation=rotation))
    assert (info.width, info.height) == size


@pytest.mark.parametrize("container", ["mp3", "flac"])
def test_cover_art_is_no_film(decoder: Decoder, tmp_path: Path, container: str) -> None:
    path = write(tmp_path / "sound", container, sound=tone(1, 48_000), cover=jpeg())
    info = decoder.probe(path)
    assert (info.has_picture, info.width, info.has_location) == (False, None, False)
    assert "mjpeg" in info.codecs
    path = write(tmp_path / "sound", container, sound=tone(1, 48_000), cover=jpeg(with_place=True))
    assert decoder.probe(path).has_location


@pytest.mark.parametrize("options", [{"live": "1"}, {"movflags": "frag_keyframe+empty_moov"}])
def test_a_header_without_a_length(decoder: Decoder, tmp_path: Path, options: dict[str, str]) -> None:
    container = "webm" if "live" in options else "mp4"
    pictures = [plain(i) for i in range(50)]
    path = write(tmp_path / "film", container, pictures=pictures, sound=tone(5, 48_000), muxing=options)
    assert decoder.probe(path).duration_s == pytest.approx(5, abs=0.25)


def test_a_header_that_lies(decoder: Decoder, tmp_path: Path) -> None:
    path = write(tmp_path / "film", "webm", pictures=[plain(0)] * 30)
    content = path.read_bytes()
    at = content.index(b"\x44\x89\x88")  # Duration, a float of eight bytes, in milliseconds
    told = np.array(50.0, ">f8").tobytes()
    path.write_bytes(content[: at + 3] + told + content[at + 11 :])
    assert decoder.probe(path).duration_s == pytest.approx(3, abs=0.05)
    told = np.array(9e7, ">f8").tobytes()
    path.write_bytes(content[: at + 3] + told + content[at + 11 :])
    info = decoder.probe(path)
    assert (info.duration_s, info.truncated) == (pytest.approx(3, abs=0.05), True)


def test_a_film_cut_off(decoder: Decoder, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (48, 64, 3)).astype(np.uint8) for _ in range(100)]
    path = write(tmp_path / "film", "mp4", pictures=noise, muxing={"movflags": "faststart"})
    os.truncate(path, path.stat().st_size * 6 // 10)
    info = decoder.probe(path)
    assert (info.duration_s, info.truncated) == (pytest.approx(6, abs=0.5), True)
    path = write(tmp_path / "film", "mp4", pictures=noise)  # the index stands at the end
    os.truncate(path, path.stat().st_size * 6 // 10)
    error = refusal(decoder, path)
    assert error.code == "corrupt"
    assert "upload it again" in error.message


@pytest.mark.parametrize(
    ("container", "metadata"),
    [("mp4", {"location": PLACE}), ("mov", {"location": PLACE}), ("webm", {"LOCATION": PLACE}),
     ("webm", {"comment": f"seen at {PLACE}"}), ("mp3", {"GPSLatitude": "47.3769"}), ("flac", {"geo": "47, 8"}),
     ("ogg", {"PLACE": "Zürich"}), ("wav", {"comment": PLACE})],
)  # fmt: skip
def test_places_in_tags(decoder: Decoder, tmp_path: Path, container: str, metadata: dict[str, str]) -> None:
    pictures = [plain(0)] * 10 if container in CODECS else None
    path = write(tmp_path / "file", container, pictures=pictures, sound=tone(1, 48_000), metadata=metadata)
    assert decoder.probe(path).has_location
    path = write(
        tmp_path / "file", container, pictures=pictures, sound=tone(1, 48_000), metadata={"title": "A walk"}
    )
    assert not decoder.probe(path).has_location


def test_places_in_boxes_that_ffmpeg_does_not_read(decoder: Decoder, tmp_path: Path) -> None:
    path = write(tmp_path / "film", "mp4", pictures=[plain(0)] * 10)
    content = path.read_bytes()
    assert not decoder.probe(path).has_location
    for box in (b"uuid" + b"\0" * 16 + b"<x:xmpmeta/>", b"free" + b"freeGPS 4722N", b"gps " + b"\0" * 8):
        path.write_bytes(content + (len(box) + 4).to_bytes(4, "big") + box)
        assert decoder.probe(path).has_location, box


def test_places_in_user_data_of_pictures(decoder: Decoder, tmp_path: Path) -> None:
    """As dash cameras write it: a supplemental message inside the coded picture."""
    path = write(tmp_path / "film", "mp4", pictures=[plain(0)] * 10)
    content = path.read_bytes()
    assert not decoder.probe(path).has_location
    mark = bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef")  # x264's own message, become somebody else's
    path.write_bytes(content.replace(mark, b"dashboard camera"))
    assert decoder.probe(path).has_location


def test_subtitles_may_tell_a_place(decoder: Decoder, tmp_path: Path) -> None:
    import av

    path = tmp_path / "film"
    with av.open(str(path), "w", format="matroska") as file:
        video = file.add_stream("libx264", rate=10)
        video.width, video.height = 64, 48
        words = file.add_mux_stream("subrip")
        for at in range(5):
            frame = av.VideoFrame.from_ndarray(plain(0), format="rgb24")
            frame.pts = at
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        packet = av.Packet(b"GPS (8.5417, 47.3769, 20)")
        packet.stream, packet.pts, packet.dts, packet.duration = words, 0, 0, 100
        file.mux(packet)
    assert decoder.probe(path).has_location


def test_a_thousand_streams(decoder: Decoder, tmp_path: Path) -> None:
    for count in (1000, 100):
        error = refusal(decoder, write_many_streams(tmp_path / "sound", count))
        assert error.code == "too-large"
        assert "streams" in error.message


@pytest.mark.slow
def test_huge_dimensions(decoder: Decoder, tmp_path: Path) -> None:
    path = write(tmp_path / "film", "mp4", pictures=[plain(0, 4800, 8160)], codec="mpeg4")
    error = refusal(decoder, path)
    assert error.code == "too-large"
    assert "8160 x 4800 pixels; a film may have 36,000,000" in error.message


def test_no_time_at_all_is_empty(decoder: Decoder, tmp_path: Path) -> None:
    assert refusal(decoder, write_long_wav(tmp_path / "sound", hours=0)).code == "empty"


@pytest.mark.parametrize(
    ("content", "media_type"),
    [(b"RIFF\x10\0\0\0AVI LIST" + b"\0" * 100, "video/x-msvideo"), (b"hello", "text/plain"),
     (b"#EXTM3U\nfile:///etc/passwd\n", "text/plain"), (b"\x89PNG\r\n\x1a\n" + b"\0" * 9, "image/png")],
)  # fmt: skip
def test_what_is_neither_sound_nor_film(
    decoder: Decoder, tmp_path: Path, content: bytes, media_type: str
) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    error = refusal(decoder, path)
    assert error.code == "unsupported"
    assert media_type in error.message
    assert "convert it to one of WAV, MP3" in error.message


@pytest.mark.parametrize(("container", "media_type"), [("adts", "audio/aac"), ("mp3", "audio/mpeg")])
def test_a_tag_longer_than_the_head(
    decoder: Decoder, tmp_path: Path, container: str, media_type: str
) -> None:
    path = write(tmp_path / "sound", container, sound=tone(1, 48_000), muxing={"id3v2_version": "0"})
    tag = b"ID3\x04\0\0" + bytes((0, 0, 6000 >> 7, 6000 & 127)) + b"\0" * 6000
    path.write_bytes(tag + path.read_bytes())
    assert sniff(path.read_bytes()[:4096]) == "audio/mpeg"
    assert decoder.probe(path).media_type == media_type
