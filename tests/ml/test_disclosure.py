"""What people see and hear: the icon, the spoken notice, and that neither costs the marks that they do not see."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ml.generators._marked import MarkedGenerator, read_wav
from ml.generators.base import GenerationParams, Marker, RawOutput
from ml.media import Decoder
from ml.provenance import watermark
from ml.provenance.disclosure import (
    CORNERS,
    MAX_SHARE,
    MAX_WIDTH,
    PAUSE_S,
    RATE,
    SIZES,
    Icon,
    Notice,
    read_notice,
)
from tests.ml.generator_parts import KEY, PAYLOAD, Drawing, blob, flat, marker, smooth, tune

WISH = GenerationParams("a red apple", width=256, height=256, seconds=2.0)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Marker:
    return marker(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def keys(plain: Marker) -> Marker:
    return replace(plain, icon=Icon(), notice=read_notice())


def png(width: int, height: int, colour: tuple[int, ...] = (200, 0, 0, 255)) -> bytes:
    sink = io.BytesIO()
    Image.new("RGBA", (width, height), colour).save(sink, "PNG")
    return sink.getvalue()


def covered(icon: Icon, height: int, width: int) -> np.ndarray:
    """bool [h, w]: where it is drawn, on light or on dark."""
    shown = [icon.on(np.full((height, width, 3), level, np.uint8)).astype(int) - level for level in (0, 255)]
    return (np.abs(np.stack(shown)).max(axis=(0, 3))) > 0


# --- The icon --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("corner", CORNERS)
def test_it_stands_in_its_corner_and_leaves_the_rest_alone(corner: Any) -> None:
    before = smooth(512)
    kept = before.copy()
    after = Icon(corner=corner).on(before)
    assert (before == kept).all()
    rows, columns = np.nonzero((after != before).any(axis=2))
    assert (rows.max() < 80) if corner.startswith("top") else (rows.min() > 432)
    assert (columns.max() < 100) if corner.endswith("left") else (columns.min() > 412)


@pytest.mark.parametrize("level", [0, 34, 90, 128, 190, 236, 255])
def test_letters_and_plate_stand_out_from_each_other_and_the_plate_from_any_ground(level: int) -> None:
    shown = Icon().on(flat(level, 256)).astype(int)
    part = shown[covered(Icon(), 256, 256)].mean(axis=1)
    # Ink on a plate: as far apart as WCAG asks of text, by far. And plate or rim against what is around them.
    assert part.max() > 220 and part.min() < 50
    assert max(abs(part - level)) > 90


@pytest.mark.parametrize("text", ["AI", "KI", "I", "AI GENERATED", "W" * 16])
@pytest.mark.parametrize(("height", "width"), [(256, 256), (512, 512), (1024, 256), (256, 1024)])
@pytest.mark.parametrize("size", SIZES)
def test_it_is_a_small_part_of_any_picture(text: str, height: int, width: int, size: float) -> None:
    found = covered(Icon(text=text, size=size), height, width)
    columns = np.nonzero(found.any(axis=0))[0]
    assert 0 < found.mean() <= MAX_SHARE
    assert columns.max() - columns.min() + 1 <= MAX_WIDTH * width + 1


def test_it_grows_with_the_picture() -> None:
    heights = [np.nonzero(covered(Icon(), side, side).any(axis=1))[0] for side in (256, 512, 1024)]
    assert [len(rows) for rows in heights] == [20, 40, 81]


def test_each_wording_looks_different() -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"
    drawn = {Icon(text=letter).on(flat(128)).tobytes() for letter in letters}
    assert len(drawn) == len(letters)
    assert Icon(text="ki").on(flat(128)).tobytes() == Icon(text="KI").on(flat(128)).tobytes()


def test_an_installation_has_its_own_in_place_of_the_letters() -> None:
    icon = Icon(text="生成", image=png(90, 30))
    shown = icon.on(flat(255))
    rows, columns = np.nonzero((shown != 255).any(axis=2))
    assert (len(set(rows)), len(set(columns))) == (20, 60)
    assert (shown[rows.min() + 5, columns.min() + 5] == (200, 0, 0)).all()
    # What is transparent stays as it is.
    assert (Icon(image=png(90, 30, (0, 0, 0, 0))).on(flat(77)) == 77).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"corner": "middle"},
        {"size": 0.5},
        {"size": float("nan")},
        {"text": ""},
        {"text": "  "},
        {"text": "A" * 17},
        {"text": "生成"},
        {"text": "A\x00"},
        {"image": b""},
        {"image": b"\x89PNG\r\n\x1a\n and no more"},
        {"image": png(90, 30)[:60]},
        {"image": png(900, 30)},
        {"image": png(2100, 2100)},
        {"image": png(30, 30) + bytes(1 << 20)},
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="The icon's"):
        Icon(**wrong)


# --- The marks that nobody sees --------------------------------------------------------------------------


def scenes() -> list[np.ndarray]:
    """Pictures that leave the mark little room, and some that leave it much."""
    noisy = np.random.default_rng(1).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    return [
        blob(),
        smooth(),
        noisy,
        *(flat(level) for level in (0, 2, 40, 128, 253, 255)),
        blob(400),
        smooth(512),
    ]


def test_the_invisible_mark_is_found_as_often_and_as_clearly() -> None:
    seen: dict[bool, list[float]] = {True: [], False: []}
    for scene in scenes():
        for with_icon, values in seen.items():
            marked = watermark.embed(Icon().on(scene) if with_icon else scene, PAYLOAD, KEY)
            # As it comes back from most places: saved as JPEG.
            sink = io.BytesIO()
            Image.fromarray(marked).save(sink, "JPEG", quality=80)
            for pixels in (marked, np.asarray(Image.open(sink))):
                mark = watermark.detect(pixels, KEY)
                values.append(mark.seen if mark and mark.payload == PAYLOAD else 0.0)
    found = {with_icon: sum(value > 0 for value in values) for with_icon, values in seen.items()}
    assert found[True] == found[False] == 2 * len(scenes())
    assert np.median(seen[True]) > 0.95 * np.median(seen[False])


def test_what_is_released_shows_it_and_is_signed_and_marked_over_it(keys: Marker, plain: Marker) -> None:
    drawing = Drawing("image", lambda params: RawOutput(pixels=smooth()))
    [made], [without] = (MarkedGenerator(drawing, one).make([WISH]) for one in (keys, plain))
    assert made.marks["icon"] == {"text": "AI", "corner": "bottom-right"} and "icon" not in without.marks
    assert made.marks["c2pa"]["state"] == "trusted"
    assert made.marks["watermark"]["payload"] == f"{PAYLOAD:08x}"
    corner = np.abs(made.pixels.astype(int) - without.pixels.astype(int))[covered(Icon(), 256, 256)]
    assert corner.mean() > 60
    # What a clip begins with, and the prompt is compared with, is without the icon, and marked as well.
    assert (made.scene == without.pixels).all() and without.scene is None
    assert watermark.detect(made.scene, KEY).payload == PAYLOAD


def test_a_thumbnail_still_shows_it(keys: Marker, tmp_path: Path) -> None:
    large = replace(WISH, width=512, height=512)
    drawing = Drawing("image", lambda params: RawOutput(pixels=smooth(512)))
    [made] = MarkedGenerator(drawing, keys).make([large])
    (tmp_path / "made.png").write_bytes(made.content)
    with Decoder() as decoder:
        shown = np.asarray(
            Image.open(io.BytesIO(decoder.image(tmp_path / "made.png").thumbnail)).convert("L")
        )
    height, width = shown.shape
    part = shown[int(0.9 * height) : int(0.97 * height), int(0.87 * width) : int(0.97 * width)].astype(int)
    assert part.max() - part.min() > 90


def test_films_show_it_in_every_frame_and_begin_with_the_notice(keys: Marker) -> None:
    frames = np.stack([np.roll(smooth(), at, axis=1) for at in range(24)])
    drawing = Drawing("video", lambda params: RawOutput(frames=frames, fps=8, sound=tune(3.0, RATE)))
    [made] = MarkedGenerator(drawing, keys).make([WISH])
    assert {"icon", "notice", "watermark", "sound_watermark"} <= made.marks.keys()
    assert made.sound.seconds == pytest.approx(3.0 + read_notice().seconds + PAUSE_S, abs=0.1)
    assert correlation(made.sound.samples[:, 0], read_notice()) > 0.8


# --- The notice ------------------------------------------------------------------------------------------


def correlation(samples: np.ndarray, notice: Notice) -> float:
    """Of its envelope, whose shape codecs and marks leave alone, with the beginning of a recording at its rate."""
    length = len(notice.samples) // 480 * 480
    envelopes = [np.abs(one[:length]).reshape(-1, 480).mean(axis=1) for one in (samples, notice.samples)]
    return float(np.corrcoef(*envelopes)[0, 1])


def test_music_begins_with_the_notice_and_a_pause_and_goes_on_unchanged(keys: Marker, plain: Marker) -> None:
    drawing = Drawing("audio", lambda params: RawOutput(sound=tune(4.0, RATE)))
    [made], [without] = (MarkedGenerator(drawing, one).make([WISH]) for one in (keys, plain))
    said = {"seconds": round(read_notice().seconds, 2)}
    assert made.marks["notice"] == said and "notice" not in without.marks
    assert made.marks["sound_watermark"]["payload"] == f"{PAYLOAD & 0xFFFF:04x}"
    whole = read_wav(made.content).samples
    assert len(whole) - 4 * RATE == len(read_notice().samples) + round(PAUSE_S * RATE)
    assert correlation(whole[:, 0], read_notice()) > 0.8
    rest = whole[-4 * RATE :, 0]
    assert np.corrcoef(rest, tune(4.0, RATE).samples[:, 0])[0, 1] > 0.95


def test_a_film_of_music_that_has_the_notice_does_not_say_it_again(keys: Marker) -> None:
    [music] = MarkedGenerator(Drawing("audio", lambda p: RawOutput(sound=tune(4.0, RATE))), keys).make([WISH])
    frames = np.stack([smooth()] * 8)
    drawing = Drawing("video", lambda p: RawOutput(frames=frames, fps=8, count=64, sound=p.sound))
    [film] = MarkedGenerator(drawing, keys).make([replace(WISH, sound=music.sound)])
    assert film.sound.seconds == pytest.approx(music.sound.seconds, abs=0.1)
    assert correlation(film.sound.samples[:, 0], read_notice()) > 0.8


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_the_notice_comes_at_the_rate_of_what_follows(rate: int) -> None:
    samples = np.full((rate, 2), 0.25, np.float32)
    whole = read_notice().before(samples, rate)
    assert len(whole) == rate + round(read_notice().seconds * rate) + round(PAUSE_S * rate)
    assert (whole[-rate:] == samples).all() and whole.dtype == np.float32
    spoken = whole[: round(read_notice().seconds * rate)]
    assert 0.3 < np.abs(spoken).max() <= 1 and (spoken[:, 0] == spoken[:, 1]).all()


@pytest.mark.parametrize("content", [b"", b"no sound at all", png(30, 30)])
def test_a_recording_that_cannot_be_played_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "own.wav").write_bytes(content)
    with pytest.raises(ValueError, match="recording of a notice cannot be used"):
        read_notice(tmp_path / "own.wav")
    with pytest.raises(ValueError, match="recording of a notice cannot be used"):
        read_notice(tmp_path / "none.wav")


@pytest.mark.parametrize(("seconds", "level"), [(0.2, 0.5), (2.0, 0.0), (11.0, 0.5)])
def test_too_short_too_long_and_silent_ones_are_refused(seconds: float, level: float, tmp_path: Path) -> None:
    from ml.generators._marked import wav
    from ml.generators.base import Sound

    samples = np.full((round(seconds * RATE), 2), level, np.float32)
    (tmp_path / "own.wav").write_bytes(wav(Sound(samples, RATE)))
    with pytest.raises(ValueError, match="recording of a notice cannot be used"):
        read_notice(tmp_path / "own.wav")


def test_an_installation_has_its_own_recording(tmp_path: Path) -> None:
    from ml.generators._marked import wav

    (tmp_path / "own.wav").write_bytes(wav(tune(1.5, 22_050)))
    assert read_notice(tmp_path / "own.wav").seconds == pytest.approx(1.5, abs=0.02)
