"""The contract of every detector: new files in the folder are found and tried here by themselves."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from ml.detectors.base import (
    CATALOG,
    Category,
    Detector,
    Finding,
    Item,
    Modality,
    State,
    Tier,
    Words,
    load_detector,
)

#: These take the name of a checkpoint: test_learned_detectors.py and test_hf_text.py have tiny ones.
CONFIGURED = {"hf-face", "hf-image", "hf-sound", "hf-text", "onnx-image"}
NAMES = [name for name in CATALOG.ids() if name not in CONFIGURED]


def awkward() -> list[Item]:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (37, 19, 3), np.uint8)
    texts = ["", " \n\t", "\x00", "消防车 🙂", "a " * 5_000, "\ud800 lone surrogate", "CALL ME NOW"]
    words = [Words(text, "text") for text in texts]
    sound = random.standard_normal(16_000).astype(np.float32) / 10
    return [
        *(Item("text", "text/plain", words=[one]) for one in words),
        Item("text", "text/plain", words=words),
        Item("image", "image/png", pixels=noise, width=19, height=37),
        Item("image", "image/jpeg", pixels=np.zeros((1, 1, 3), np.uint8), width=1, height=1),
        Item("audio", "audio/wav", sound=sound, duration_s=1.0),
        Item("audio", "audio/mpeg"),
        Item("video", "video/mp4", width=19, height=37, duration_s=2.0),
    ]


@pytest.fixture(params=NAMES)
def detector(request: pytest.FixtureRequest) -> Detector:
    return load_detector(request.param)


def test_it_declares_itself(detector: Detector) -> None:
    assert detector.name in NAMES
    assert detector.version
    assert detector.tier in get_args(Tier)
    assert detector.modalities
    assert detector.modalities <= set(get_args(Modality))
    for sentence in (detector.sees, detector.blind_to):
        assert sentence.strip().endswith(".")
    assert detector.timeout_s > 0
    assert load_detector(detector.name).name == detector.name


def test_awkward_items_get_a_finding_that_can_be_read(detector: Detector) -> None:
    if why := detector.missing():
        pytest.skip(why)
    for item in (one for one in awkward() if one.modality in detector.modalities):
        found = detector.examine(item)
        assert isinstance(found, Finding)
        assert found.state in get_args(State)
        assert bool(found.reason) or found.state == "examined"
        assert all("kind" in evidence for evidence in found.evidence)
        assert set(found.categories) <= set(detector.categories)
        for category in found.categories.values():
            assert isinstance(category, Category)
            assert 0 <= category.score <= 1
        assert found.synthetic is None or (detector.estimates and 0 <= found.synthetic <= 1)
