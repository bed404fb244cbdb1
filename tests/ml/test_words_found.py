"""Words in pictures, films and speech: real networks on pictures and sounds made here."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from ml.detectors import ocr, transcript
from ml.detectors.base import Detector, Item, VideoFrame, Words

SENTENCE = "meet me behind the station"


@pytest.fixture(scope="module")
def reader() -> Detector:
    detector = ocr.load("")
    assert detector.missing() == ""
    return detector


def page(*lines: str, size: int = 32, shade: int = 235) -> Any:
    picture = Image.new("RGB", (700, 90 * max(len(lines), 2)), (shade, shade, shade))
    draw = ImageDraw.Draw(picture)
    for at, line in enumerate(lines):
        draw.text((30, 30 + 90 * at), line, fill=(20, 20, 60), font=ImageFont.load_default(size))
    return np.asarray(picture)


def strokes() -> Any:
    """The characters 中田王, drawn by hand: no font with Chinese is needed."""
    picture = Image.new("RGB", (400, 200), "white")
    draw = ImageDraw.Draw(picture)
    box = [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]
    middle = [(0.5, 0), (0.5, 1)]
    characters = [
        [[(0, 0.2), (1, 0.2), (1, 0.7), (0, 0.7), (0, 0.2)], [(0.5, -0.1), (0.5, 1.1)]],
        [box, [(0, 0.5), (1, 0.5)], middle],
        [[(0, 0), (1, 0)], [(0.1, 0.5), (0.9, 0.5)], [(0, 1), (1, 1)], middle],
    ]
    for at, lines in enumerate(characters):
        for line in lines:
            draw.line([(30 + 120 * at + x * 80, 60 + y * 80) for x, y in line], fill="black", width=8)
    return np.asarray(picture)


def picture(pixels: Any) -> Item:
    return Item("image", "image/png", pixels=pixels, width=pixels.shape[1], height=pixels.shape[0])


def test_words_and_their_boxes(reader: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something asked the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    found = ocr.load("").examine(picture(page(SENTENCE, "call 13800138000")))
    assert [(words.text, words.origin) for words in found.words] == [
        (f"{SENTENCE}\ncall 13800138000", "picture")
    ]
    first, second = found.evidence
    assert (first["start"], first["end"]) == (0, len(SENTENCE))
    assert found.words[0].text[second["start"] : second["end"]] == "call 13800138000"
    assert all(0 <= share <= 1 for corner in first["box"] for share in corner)
    assert first["box"][2][1] <= second["box"][0][1]
    json.dumps(found.evidence)


def test_chinese_characters(reader: Detector) -> None:
    assert [words.text for words in reader.examine(picture(strokes())).words] == ["中田王"]


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((300, 400, 3), np.uint8), np.full((100, 1, 3), 9, np.uint8), np.full((40, 1024, 3), 200, np.uint8),
     np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)],
)  # fmt: skip
def test_pictures_without_words(reader: Detector, pixels: Any) -> None:
    found = reader.examine(picture(pixels))
    assert (list(found.words), list(found.evidence)) == ([], [])


def test_of_a_film_the_frames_that_differ(reader: Detector) -> None:
    frames = [page("first scene")] * 5 + [page("the second one", shade=120)] * 5
    item = Item(
        "video", "video/mp4", shots=[VideoFrame(at * 2.0, pixels) for at, pixels in enumerate(frames)]
    )
    found = reader.examine(item)
    assert [(words.text, words.at_s) for words in found.words] == [
        ("first scene", 0.0),
        ("the second one", 10.0),
    ]
    assert [each["at_s"] for each in found.evidence] == [0.0, 10.0]


def test_at_most_four_frames() -> None:
    shades = [np.full((90, 160, 3), shade, np.uint8) for shade in range(0, 250, 10)]
    chosen = ocr.most_different(shades, ocr.MAX_SHOTS)
    assert len(chosen) == 4
    assert {0, 24} <= set(chosen)
    assert ocr.most_different(shades[:1] * 9, 4) == [0]
    assert ocr.most_different([], 4) == []


def test_a_package_without_its_models_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ocr, "_folder", lambda: tmp_path)
    assert "PP-OCRv6_det_small.onnx" in ocr.load("").missing()


def test_a_recording_without_speech_or_with_a_transcript() -> None:
    detector = transcript.load("")
    assert detector.missing() == ""
    assert detector.examine(Item("audio", "audio/wav")).state == "not_applicable"
    known = Item(
        "audio", "audio/wav", sound=np.ones(16_000, np.float32), words=[Words("hi", "transcript", 0.0)]
    )
    assert detector.examine(known).state == "not_applicable"
    silent = detector.examine(Item("audio", "audio/wav", sound=np.zeros(32_000, np.float32)))
    assert (silent.state, list(silent.words), silent.evidence[0]["speech_s"]) == ("examined", [], 0.0)


def test_sound_beyond_ten_minutes_is_not_heard() -> None:
    pieces = list(transcript._pieces(np.zeros(int(11 * 60 * transcript.RATE), np.float32)))
    assert (len(pieces), pieces[-1][0], len(pieces[-1][1])) == (10, 540.0, 60 * transcript.RATE)
