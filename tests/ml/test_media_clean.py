"""Copies without metadata: nothing of a place left in the bytes, the same sound and pictures, seekable."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from ml.media import Decoder, MediaError
from tests.ml.recordings import CODECS, decoding_children, plain, quarters, tone, write

PLACE = "+47.3769+008.5417/"
TAGS = {"location": PLACE, "title": "Secret title", "comment": "Secret comment", "GPSLatitude": "Secret"}


def packets(path: Path) -> dict[str, list[bytes]]:
    """The coded content of each stream."""
    found: dict[str, list[bytes]] = {}
    with av.open(str(path)) as file:
        for packet in file.demux():
            if packet.size:
                found.setdefault(packet.stream.type, []).append(bytes(packet))
    return found


@pytest.mark.parametrize(
    "container", ["mp4", "mov", "webm", "matroska", "ipod", "mp3", "flac", "ogg", "wav", "adts"]
)
def test_nothing_but_the_streams_is_left(decoder: Decoder, tmp_path: Path, container: str) -> None:
    film = container in (*CODECS, "matroska")
    pictures = [plain(8 * at) for at in range(30)] if film else None
    codec = "mpeg4" if container in ("mp4", "mov", "matroska") else None
    path = write(
        tmp_path / "file", container, pictures=pictures, sound=tone(3, 48_000), codec=codec, metadata=TAGS
    )
    target = tmp_path / "clean"
    media_type = decoder.clean(path, target, 1 << 20)
    before, after = decoder.probe(path), decoder.probe(target)
    assert media_type == before.media_type == after.media_type
    assert (before.has_location or container in ("wav", "adts"), after.has_location) == (True, False)
    assert after.duration_s == pytest.approx(before.duration_s, abs=0.05)
    assert (after.width, after.height, after.codecs) == (before.width, before.height, before.codecs)
    content = target.read_bytes()
    assert all(trace not in content for trace in (b"47.37", b"Secret", b"GPS"))
    assert packets(target) == packets(path)


def test_cover_art_chapters_and_subtitles_are_left_out(decoder: Decoder, tmp_path: Path) -> None:
    path = write(tmp_path / "sound", "mp3", sound=tone(1, 48_000), cover=b"\xff\xd8\xff\xe0SECRET")
    decoder.clean(path, tmp_path / "clean", 1 << 20)
    assert b"SECRET" in path.read_bytes()
    assert b"SECRET" not in (tmp_path / "clean").read_bytes()
    path = tmp_path / "film"
    with av.open(str(path), "w", format="matroska") as file:
        video = file.add_stream("libx264", rate=10)
        video.width, video.height = 64, 48
        words = file.add_mux_stream("subrip")
        file.add_attachment("secret.txt", "text/plain", b"SECRET attachment")
        for at in range(5):
            frame = av.VideoFrame.from_ndarray(plain(0), format="rgb24")
            frame.pts = at
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        packet = av.Packet(b"SECRET words")
        packet.stream, packet.pts, packet.dts, packet.duration = words, 0, 0, 100
        file.mux(packet)
    assert path.read_bytes().count(b"SECRET") == 2
    decoder.clean(path, tmp_path / "clean", 1 << 20)
    assert b"SECRET" not in (tmp_path / "clean").read_bytes()
    assert decoder.probe(tmp_path / "clean").codecs == ("h264",)


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp4", "libx264"), ("mov", "libx264"), ("mp4", "libx265"), ("matroska", "libx264")],
)
def test_user_data_inside_pictures_is_left_out(
    decoder: Decoder, tmp_path: Path, container: str, codec: str
) -> None:
    pictures = [plain(20 + 4 * at) for at in range(30)]
    path = write(tmp_path / "film", container, pictures=pictures, codec=codec, rotation=90)
    if codec == "libx264":
        mark = bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef")
        path.write_bytes(path.read_bytes().replace(mark, b"SECRET latitude!"))
        assert decoder.probe(path).has_location
    decoder.clean(path, tmp_path / "clean", 1 << 20)
    assert b"SECRET" not in (tmp_path / "clean").read_bytes()
    info = decoder.probe(tmp_path / "clean")
    assert (info.width, info.height, info.has_location) == (48, 64, False)
    before, after = (list(decoder.frames(file)) for file in (path, tmp_path / "clean"))
    assert [frame.at_s for frame in after] == pytest.approx([frame.at_s for frame in before], abs=0.01)
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_the_index_stands_in_front_and_leads_to_any_moment(
    decoder: Decoder, tmp_path: Path, container: str
) -> None:
    pictures = [plain(20 + at) for at in range(200)]
    options = {"g": "10"}
    path = write(tmp_path / "film", container, pictures=pictures, sound=tone(20, 48_000), options=options)
    target = tmp_path / "clean"
    decoder.clean(path, target, 1 << 21)
    content = target.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(target)) as file:
        file.seek(15_000_000)
        frame = next(file.decode(video=0))
        assert 14 <= frame.time <= 15
        assert float(frame.to_ndarray(format="rgb24").mean()) == pytest.approx(20 + frame.time * 10, abs=4)


def test_tags_inside_codec_headers_are_left_out(decoder: Decoder, tmp_path: Path) -> None:
    """Vorbis carries its own tags, and WebM keeps them where FFmpeg does not look."""
    plain_file, path = tmp_path / "plain", tmp_path / "tagged"
    with av.open(str(plain_file), "w", format="webm") as file:
        stream = file.add_stream("vorbis", rate=48_000, layout="stereo", options={"strict": "-2"})
        for at in range(200):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 64), np.float32), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 48_000, at * 64
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with av.open(str(plain_file)) as source, av.open(str(path), "w", format="webm") as file:
        stream = file.add_stream_from_template(source.streams.audio[0], opaque=True)
        headers = stream.codec_context.extradata
        assert headers is not None
        first, tags = headers[1], headers[2]
        tag = b"LOCATION=SECRET"
        comments = (
            b"\3vorbis" + bytes(4) + (1).to_bytes(4, "little") + len(tag).to_bytes(4, "little") + tag + b"\1"
        )
        content = headers[3:]
        stream.codec_context.extradata = (
            bytes((2, first, len(comments))) + content[:first] + comments + content[first + tags :]
        )
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = stream
                file.mux(packet)
    assert b"SECRET" in path.read_bytes()
    decoder.clean(path, tmp_path / "clean", 1 << 20)
    assert b"SECRET" not in (tmp_path / "clean").read_bytes()
    assert packets(tmp_path / "clean") == packets(path)
    assert len(next(decoder.sound(tmp_path / "clean")).samples) > 3000


def test_rotation_stays(decoder: Decoder, tmp_path: Path) -> None:
    path = write(
        tmp_path / "film", "mp4", pictures=[quarters()] * 10, rotation=90, metadata={"location": PLACE}
    )
    decoder.clean(path, tmp_path / "clean", 1 << 20)
    one, other = (next(decoder.frames(file)).pixels for file in (path, tmp_path / "clean"))
    assert np.array_equal(one, other)


def test_a_copy_that_grows_too_large_leaves_nothing(decoder: Decoder, tmp_path: Path) -> None:
    path, others = write(tmp_path / "sound", "wav", sound=tone(3, 48_000)), decoding_children()
    with pytest.raises(MediaError) as caught:
        decoder.clean(path, tmp_path / "clean", 100_000)
    assert caught.value.code == "too-large"
    assert "100,000 bytes" in caught.value.message
    assert not (tmp_path / "clean").exists()
    assert len(decoding_children() - others) == 0


def test_damaged_files_leave_nothing(decoder: Decoder, tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0" * 500)
    with pytest.raises(MediaError) as caught:
        decoder.clean(path, tmp_path / "clean", 1 << 20)
    assert caught.value.code in ("corrupt", "empty")
    assert not (tmp_path / "clean").exists()
