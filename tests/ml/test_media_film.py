"""Pictures of films: one a second, upright, cuts found, whatever the timestamps and the index are worth."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ml.media import Decoder, Frame, MediaError, film
from tests.ml.recordings import (
    Picture,
    decoding_children,
    peak_memory,
    plain,
    quarters,
    tone,
    write,
)

ONE_KEY = {"x264-params": "keyint=10000:scenecut=0"}


def noise(count: int) -> list[Picture]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (48, 64, 3)).astype(np.uint8) for _ in range(count)]


def ramp(count: int) -> list[Picture]:
    """A clock: each picture a little brighter than the one before."""
    return [plain(20 + at * 200 // count) for at in range(count)]


def shades(frames: list[Frame]) -> list[int]:
    return [round(float(frame.pixels.mean())) for frame in frames]


def check_clock(frames: list[Frame], count: int, rate: int = 10) -> None:
    """Times grow, and each picture is the one of its time."""
    times = [frame.at_s for frame in frames]
    assert times == sorted(set(times))
    for frame in frames:
        expected = 20 + round(frame.at_s * rate) * 200 // count
        assert abs(float(frame.pixels.mean()) - expected) < 4, frame.at_s


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp4", "libx264"), ("mp4", "libx265"), ("mp4", "mpeg4"), ("mp4", "libsvtav1"), ("mov", "mpeg4"),
     ("mov", "prores_ks"), ("webm", "libvpx-vp9"), ("webm", "libvpx"), ("webm", "libsvtav1"),
     ("matroska", "libx264")],
)  # fmt: skip
def test_one_a_second_of_every_kind(decoder: Decoder, tmp_path: Path, container: str, codec: str) -> None:
    path = write(tmp_path / "film", container, pictures=ramp(50), codec=codec)
    frames = list(decoder.frames(path))
    assert [int(frame.at_s) for frame in frames] == [0, 1, 2, 3, 4]
    check_clock(frames, 50)
    assert {frame.pixels.shape for frame in frames} == {(48, 64, 3)}
    assert not any(frame.truncated for frame in frames)
    assert all(frame.cpu_s > 0 for frame in frames)


@pytest.mark.parametrize(
    "options", [ONE_KEY, {"x264-params": "keyint=1"}, {"x264-params": "keyint=7:bframes=3"}]
)
def test_any_distance_of_key_frames(decoder: Decoder, tmp_path: Path, options: dict[str, str]) -> None:
    path = write(tmp_path / "film", "mp4", pictures=ramp(60), options=options)
    frames = list(decoder.frames(path))
    assert [int(frame.at_s) for frame in frames] == [0, 1, 2, 3, 4, 5]
    check_clock(frames, 60)


@pytest.mark.parametrize("options", [ONE_KEY, {"x264-params": "keyint=5"}])
def test_long_films_are_thinned(decoder: Decoder, tmp_path: Path, options: dict[str, str]) -> None:
    path = write(tmp_path / "film", "mp4", pictures=ramp(200), options=options)
    frames = list(decoder.frames(path, max_frames=5))
    assert [int(frame.at_s // 4) for frame in frames] == [0, 1, 2, 3, 4]
    check_clock(frames, 200)
    (only,) = decoder.frames(path, max_frames=1)
    assert only.at_s < 20


def test_only_key_frames_where_decoding_is_dear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "film", "mp4", pictures=ramp(60), options={"x264-params": "keyint=20:scenecut=0"})
    monkeypatch.setattr(film, "GRACE_S", -10.0)
    seen = [header["at_s"] for header, _ in film.frames(path, max_frames=300, max_seconds=60)]
    assert seen == [0, 2, 4]


def test_the_picture_behind_a_cut_is_preferred(decoder: Decoder, tmp_path: Path) -> None:
    pictures = [plain(30)] * 27 + [plain(220)] * 33
    frames = list(decoder.frames(write(tmp_path / "film", "mp4", pictures=pictures, options=ONE_KEY)))
    assert [frame.at_s for frame in frames] == pytest.approx([0, 1, 2.7, 3, 4, 5], abs=0.21)
    assert shades(frames) == pytest.approx([30, 30, 220, 220, 220, 220], abs=4)
    assert [frame.same for frame in frames] == [False, True, False, True, True, True]


def test_same_means_what_a_person_would_say(decoder: Decoder, tmp_path: Path) -> None:
    slide, grain = plain(240, 240, 320), np.random.default_rng(0)
    with_line = slide.copy()
    with_line[100:106, 40:200] = 0
    shown = [slide] * 20 + [with_line] * 20
    pictures = [np.clip(p + grain.normal(0, 3, p.shape), 0, 255).astype(np.uint8) for p in shown]
    frames = list(decoder.frames(write(tmp_path / "film", "mp4", pictures=pictures)))
    assert [frame.same for frame in frames] == [False, True, False, True]


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_rotation(decoder: Decoder, tmp_path: Path, rotation: int) -> None:
    path = write(tmp_path / "film", "mp4", pictures=[quarters()] * 5, rotation=rotation)
    (frame,) = decoder.frames(path)
    expected = np.rot90(quarters(), rotation // 90)
    assert frame.pixels.shape == expected.shape
    for y, x in ((6, 6), (6, -7), (-7, 6), (-7, -7)):
        assert np.abs(frame.pixels[y, x].astype(int) - expected[y, x]).max() < 8


@pytest.mark.parametrize(
    ("size", "shape"),
    [((47, 63), (47, 63)), ((2, 400), (2, 400)), ((720, 1280), (360, 640)), ((900, 300), (640, 213))],
)
def test_sizes(decoder: Decoder, tmp_path: Path, size: tuple[int, int], shape: tuple[int, int]) -> None:
    path = write(tmp_path / "film", "mp4", pictures=[plain(99, *size)] * 5)
    (frame,) = decoder.frames(path)
    assert frame.pixels.shape == (*shape, 3)
    assert float(frame.pixels.mean()) == pytest.approx(99, abs=3)


def test_colours_of_high_definition(decoder: Decoder, tmp_path: Path) -> None:
    """Encoders that name no colour space use that of HDTV from 720 lines on; so do players."""
    picture = np.zeros((720, 1280, 3), np.uint8)
    picture[:] = (200, 40, 60)
    path = tmp_path / "film"
    import av

    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height = 1280, 720
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.colorspace = 2
        frame.pts = 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    (seen,) = decoder.frames(path)
    assert np.abs(seen.pixels[100, 100].astype(int) - (200, 40, 60)).max() < 6


def test_variable_frame_rate(decoder: Decoder, tmp_path: Path) -> None:
    times = [0, 1, 50, 51, 90, 200]
    pictures = [plain(40 * at) for at in range(6)]
    frames = list(decoder.frames(write(tmp_path / "film", "mp4", pictures=pictures, times=times)))
    assert {round(frame.at_s, 1) for frame in frames} <= {0, 0.1, 5.0, 5.1, 9.0, 20.0}
    assert [int(frame.at_s) for frame in frames] == [0, 5, 9, 20]
    for frame in frames:
        assert float(frame.pixels.mean()) == pytest.approx(40 * times.index(round(frame.at_s * 10)), abs=4)


def test_pictures_that_start_late(decoder: Decoder, tmp_path: Path) -> None:
    path = write(tmp_path / "film", "webm", pictures=ramp(20), times=range(50, 70), sound=tone(8, 48_000))
    frames = list(decoder.frames(path))
    assert frames[0].at_s == 5.0
    assert [int(frame.at_s) for frame in frames] == [5, 6]
    assert next(decoder.sound(path)).start_s == 0


@pytest.mark.parametrize("options", [{"live": "1"}, {"movflags": "frag_keyframe+empty_moov"}])
def test_films_without_an_index(decoder: Decoder, tmp_path: Path, options: dict[str, str]) -> None:
    container = "webm" if "live" in options else "mp4"
    path = write(tmp_path / "film", container, pictures=ramp(50), muxing=options)
    frames = list(decoder.frames(path))
    assert [int(frame.at_s) for frame in frames] == [0, 1, 2, 3, 4]
    check_clock(frames, 50)


def test_timestamps_that_stand_still(decoder: Decoder, tmp_path: Path) -> None:
    path = write(tmp_path / "film", "mp4", pictures=noise(50), options=ONE_KEY)
    content = bytearray(path.read_bytes())
    at = content.index(b"stts") + 8
    assert int.from_bytes(content[at : at + 4], "big") == 1
    content[at + 8 : at + 12] = bytes(4)  # every picture lasts no time
    path.write_bytes(content)
    frames = list(decoder.frames(path))
    assert 1 <= len(frames) <= 300
    assert [frame.at_s for frame in frames] == sorted({frame.at_s for frame in frames})


def test_a_film_cut_off(decoder: Decoder, tmp_path: Path) -> None:
    path = write(tmp_path / "film", "mp4", pictures=noise(100), muxing={"movflags": "faststart"})
    os.truncate(path, path.stat().st_size * 6 // 10)
    frames = list(decoder.frames(path))
    assert [int(frame.at_s) for frame in frames] == [0, 1, 2, 3, 4, 5]
    assert frames[-1].truncated


def test_missing_key_frames(decoder: Decoder, tmp_path: Path) -> None:
    """The first two of three groups are garbage: the third is shown, and the damage told."""
    path = write(
        tmp_path / "film", "mp4", pictures=noise(60), options={"x264-params": "keyint=20:scenecut=0"}
    )
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    stop = start + (content.index(b"moov") - start) * 6 // 10
    content[start:stop] = bytes(stop - start)
    path.write_bytes(content)
    frames = list(decoder.frames(path))
    assert frames[-1].at_s >= 4
    assert frames[-1].truncated


def test_nothing_to_see(decoder: Decoder, tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        list(decoder.frames(write(tmp_path / "sound", "mp3", sound=tone(1, 48_000))))
    assert caught.value.code == "unsupported"
    path = write(tmp_path / "film", "mp4", pictures=noise(10))
    content = bytearray(path.read_bytes())
    start, stop = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[start:stop] = bytes(stop - start)
    path.write_bytes(content)
    with pytest.raises(MediaError) as caught:
        list(decoder.frames(path))
    assert caught.value.code == "corrupt"
    assert "export it again" in caught.value.message


# --- Moments ---------------------------------------------------------------------------------------------


def scenes(*lengths: int) -> list[Picture]:
    """Different pictures, each for so many frames."""
    rng = np.random.default_rng(2)
    coarse = (rng.integers(0, 255, (6, 8, 3)).astype(np.uint8) for _ in lengths)
    looks = [one.repeat(8, 0).repeat(8, 1) for one in coarse]
    return [look for look, count in zip(looks, lengths, strict=True) for _ in range(count)]


def begins(frames: list[Frame]) -> list[float]:
    """Where the moments begin that look other than the one before."""
    return [frame.at_s for frame in frames if not frame.same]


@pytest.mark.parametrize("options", [ONE_KEY, {"x264-params": "keyint=20:scenecut=0"}, {}])
def test_a_moment_begins_with_its_cut(decoder: Decoder, tmp_path: Path, options: dict[str, str]) -> None:
    path = write(tmp_path / "film", "mp4", pictures=scenes(113, 24, 140, 31, 60), options=options)
    frames = list(decoder.moments(path))
    assert begins(frames) == pytest.approx([0, 11.3, 13.7, 27.7, 30.8], abs=0.11)
    times = [frame.at_s for frame in frames]
    assert times == sorted(set(times))
    assert max(later - at for at, later in pairwise(times)) <= 3.5


def test_what_stands_for_a_moment_is_no_mixture(decoder: Decoder, tmp_path: Path) -> None:
    """A dissolve of a second: the picture is the new one, and the moment begins while it comes."""
    dissolve = [plain(40 + 16 * step) for step in range(1, 11)]
    pictures = [plain(40)] * 80 + dissolve + [plain(200)] * 70
    frames = list(decoder.moments(write(tmp_path / "film", "mp4", pictures=pictures)))
    first, second = (frame for frame in frames if not frame.same)
    assert (first.at_s, second.at_s) == (0, pytest.approx(8.2, abs=0.35))
    assert shades([first, second]) == pytest.approx([40, 200], abs=4)


def test_a_flash_is_no_moment(decoder: Decoder, tmp_path: Path) -> None:
    quiet, flash = noise(2)
    pictures = [quiet] * 52 + [flash] * 2 + [quiet] * 50
    assert begins(list(decoder.moments(write(tmp_path / "film", "mp4", pictures=pictures)))) == [0]


def test_what_moves_all_the_time_has_a_moment_every_few_seconds(decoder: Decoder, tmp_path: Path) -> None:
    wide = np.random.default_rng(1).integers(0, 255, (12, 400, 3)).astype(np.uint8).repeat(4, 0)
    pictures = [np.ascontiguousarray(wide[:, at : at + 64]) for at in range(300)]
    found = begins(list(decoder.moments(write(tmp_path / "film", "mp4", pictures=pictures))))
    assert 5 <= len(set(found)) <= 12
    # And a picture for each second of a moment, so that what is seen in passing is found.
    assert found == sorted(found)
    assert 24 <= len(found) <= 42


def test_moments_are_bounded_and_spread(decoder: Decoder, tmp_path: Path) -> None:
    path = write(tmp_path / "film", "mp4", pictures=scenes(*[10] * 60))
    whole = begins(list(decoder.moments(path)))
    assert whole == pytest.approx(list(range(60)), abs=0.26)
    few = list(decoder.moments(path, max_moments=12))
    assert len(begins(few)) <= 12
    assert begins(few)[-1] > 5
    # What is left out is told as the same, so that the work goes on visibly.
    assert max(frame.at_s for frame in few) > 56
    assert begins(list(decoder.moments(path, max_moments=1))) == [0]


def test_a_budget_of_moments() -> None:
    budget = film.MomentBudget(101, 1000)
    asked = [(at, at % 2 == 0) for at in range(1000)]
    allowed = [at for at, matters in asked if budget.allows(at, matters)]
    assert 97 <= len(allowed) <= 100
    assert max(allowed) > 970
    # The last half of what may stand close together is kept for cuts.
    assert sum(at % 2 for at in allowed) < 40


def test_moments_of_what_is_damaged(decoder: Decoder, tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        list(decoder.moments(write(tmp_path / "sound", "mp3", sound=tone(1, 48_000))))
    assert caught.value.code == "unsupported"
    path = write(tmp_path / "film", "mp4", pictures=noise(100), muxing={"movflags": "faststart"})
    os.truncate(path, path.stat().st_size * 6 // 10)
    frames = list(decoder.moments(path))
    assert begins(frames)[0] == 0
    assert frames[-1].truncated
    late = write(tmp_path / "late", "webm", pictures=ramp(20), times=range(50, 70), sound=tone(8, 48_000))
    assert begins(list(decoder.moments(late)))[0] == 5
    still = write(tmp_path / "still", "mp4", pictures=noise(50), options=ONE_KEY)
    content = bytearray(still.read_bytes())
    at = content.index(b"stts") + 8
    content[at + 8 : at + 12] = bytes(4)  # every picture lasts no time
    still.write_bytes(content)
    assert begins(list(decoder.moments(still)))


def test_moments_where_decoding_is_dear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "film", "mp4", pictures=ramp(60), options={"x264-params": "keyint=20:scenecut=0"})
    monkeypatch.setattr(film, "GRACE_S", -10.0)
    seen = [header["at_s"] for header, _ in film.moments(path, max_moments=300, max_seconds=60)]
    assert seen[0] == 0
    assert set(seen) <= {0, 2, 4}


@pytest.mark.slow
def test_memory_stays_flat_over_a_film(tmp_path: Path) -> None:
    path = write(tmp_path / "film", "mp4", pictures=[plain(at % 256, 180, 320) for at in range(3000)])
    others, peaks = decoding_children(), []
    with Decoder() as decoder:
        for frame in decoder.frames(path):
            if round(frame.at_s) in (60, 290):
                (child,) = decoding_children() - others
                peaks.append(peak_memory(child))
    assert peaks[-1] - peaks[0] < 4 << 20
    assert peaks[-1] < 160 << 20
