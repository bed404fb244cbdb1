"""The studio: one prompt to a picture, a clip and music that belong together, chosen by the joint space."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ml.alignment.space import SHIPPED, JointSpace
from ml.generators import studio as frame
from ml.generators._marked import MarkedGenerator
from ml.generators.base import Cancelled, GenerationError, GenerationParams, Kind, Marker, RawOutput, Step
from ml.generators.studio import Creation, Request, Studio
from tests.ml.generator_parts import Drawing, blob, flat, marker, smooth

SPECS: dict[Kind, str] = {"image": "small-picture", "video": "small-clip", "audio": "rules-music"}
SMALL = Request("a cat with a hat walks by the sea", seed=7, steps=4, width=256, height=256, seconds=3.0)
ALL = replace(SMALL, outputs=("image", "video", "audio"))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Marker:
    return marker(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def space() -> JointSpace:
    return JointSpace.load(SHIPPED.parent / "prior-2")


@pytest.fixture(scope="module")
def studio(keys: Marker, space: JointSpace) -> Studio:
    return Studio(SPECS, keys, space)


@pytest.fixture(scope="module")
def made(studio: Studio) -> tuple[Creation, list[Step]]:
    steps: list[Step] = []
    return studio.create(ALL, steps.append), steps


@pytest.mark.slow
def test_all_three_are_made_marked_and_scored(made: tuple[Creation, list[Step]]) -> None:
    picture, clip, music = made[0].pieces
    assert [piece.kind for piece in made[0].pieces] == ["image", "video", "audio"]
    for piece in made[0].pieces:
        assert piece.made.marks["c2pa"]["own"] and piece.score is not None and -1 <= piece.score <= 1
    assert clip.made.marks["watermark"] and clip.made.marks["sound_watermark"]
    assert (clip.made.how, music.made.how) == ("layout", "rules")
    assert made[0].score == pytest.approx((picture.score + clip.score) / 2, abs=1e-4)


def test_the_clip_begins_with_the_picture_and_carries_the_music(made: tuple[Creation, list[Step]]) -> None:
    picture, clip, music = (piece.made for piece in made[0].pieces)
    assert np.corrcoef(picture.pixels.ravel(), clip.pixels.ravel())[0, 1] > 0.7
    assert clip.seconds == pytest.approx(music.seconds, abs=0.1)
    assert clip.sound is not None and music.sound is not None
    assert _loudness(clip.sound) == pytest.approx(_loudness(music.sound), rel=0.1)
    assert clip.marks["sound_watermark"]["payload"] == music.marks["sound_watermark"]["payload"]


def _loudness(sound: Any) -> float:
    return float(np.sqrt((sound.samples**2).mean()))


def test_progress_is_one_rising_stream_with_previews(made: tuple[Creation, list[Step]]) -> None:
    counted = [step.done for step in made[1]]
    assert counted == sorted(counted) and counted[-1] == 100 and {step.total for step in made[1]} == {100}
    assert any(step.preview is not None for step in made[1])


@pytest.mark.slow
def test_the_same_request_makes_the_same_and_another_seed_another(studio: Studio) -> None:
    def digest(request: Request) -> str:
        piece = studio.create(request).pieces[0].made
        content = piece.pixels if piece.pixels is not None else piece.sound.samples
        return hashlib.sha256(content.tobytes()).hexdigest()

    for kind in ("image", "audio"):
        request = replace(SMALL, outputs=(kind,))
        assert digest(request) == digest(request) != digest(replace(request, seed=70))


def test_several_known_things_are_offered_as_a_layout_and_labelled(studio: Studio) -> None:
    [single] = studio.create(replace(SMALL, candidates=1)).pieces
    assert single.made.how == "layout" and single.made.marks["c2pa"]["source_type"] == "compositeSynthetic"
    parts = single.made.marks["parts"]
    assert [part["thing"] for part in parts] == ["cat", "top hat"]
    for part in parts:
        named = {"model"} if part["how"] == "drawn" else {"name", "author", "licence", "source"}
        assert named <= part.keys()
    assert single.made.said["details"]["parts"] == parts
    alone = GenerationParams("a smiling face", seed=7, steps=4, width=256, height=256)
    [plain] = studio.generator("image").make([alone])
    assert plain.how == "model" and plain.marks["c2pa"]["source_type"] == "trainedAlgorithmicMedia"
    assert "parts" not in plain.marks


# --- Choosing ---


class Towards:
    """A space that likes bright pictures, for choices that do not depend on weights."""

    def embed_texts(self, texts: list[str]) -> Any:
        return np.ones((len(texts), 1), np.float32)

    def embed_images(self, pictures: list[Any]) -> Any:
        return np.array([[picture.mean() / 255] for picture in pictures], np.float32)


def staged(keys: Marker, monkeypatch: pytest.MonkeyPatch, **drawings: Drawing) -> Studio:
    def load(spec: str, marker: Marker) -> MarkedGenerator:
        return MarkedGenerator(drawings[spec], marker)

    monkeypatch.setattr(frame, "load_generator", load)
    return Studio({"image": "image", "video": "video", "audio": "audio"}, keys, Towards())


def test_the_candidate_that_scores_best_is_kept(keys: Marker, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = {7: 40, 8: 200, 9: 90}
    drawing = Drawing("image", lambda params: RawOutput(pixels=flat(levels[params.seed])))
    creation = staged(keys, monkeypatch, image=drawing).create(replace(SMALL, candidates=3))
    [piece] = creation.pieces
    assert piece.seed == 8 and piece.score == max(piece.scores) == creation.score
    assert list(piece.scores) == pytest.approx([40 / 255, 200 / 255, 90 / 255], abs=0.02)


def test_seed_mood_and_picture_are_shared(keys: Marker, monkeypatch: pytest.MonkeyPatch) -> None:
    batch: dict[str, GenerationParams] = {}

    def frames(params: GenerationParams) -> RawOutput:
        batch["video"] = params
        return RawOutput(frames=np.stack([smooth()] * 8), fps=4, sound=params.sound)

    drawing = Drawing("video", frames)
    studio = staged(keys, monkeypatch, video=drawing)
    studio.create(replace(SMALL, outputs=("video",), picture=blob()))
    assert np.array_equal(batch["video"].picture, blob())
    assert batch["video"].seed == 7 and batch["video"].mood is not None and batch["video"].sound is None


def test_what_a_film_model_cannot_last_is_shortened(keys: Marker, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = Drawing("video", lambda params: RawOutput(frames=np.stack([smooth()] * 8), fps=4))
    drawing.limits = replace(drawing.limits, max_seconds=2.0)
    request = replace(SMALL, outputs=("video",), picture=blob(), seconds=30.0)
    assert staged(keys, monkeypatch, video=drawing).create(request).pieces[0].made.seconds == 2.0


# --- Refusals ---


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"outputs": ()}, "unreadable"),
        ({"outputs": ("image", "image")}, "unreadable"),
        ({"outputs": ("smell",)}, "unreadable"),
        ({"candidates": 0}, "unreadable"),
        ({"candidates": 9}, "too-large"),
        ({"prompt": ""}, "unreadable"),
        ({"width": 4096}, "too-large"),
    ],
    ids=str,
)
def test_requests_that_cannot_be_met_are_refused(change: dict[str, Any], code: str, studio: Studio) -> None:
    with pytest.raises(GenerationError) as caught:
        studio.create(replace(SMALL, **change))
    assert caught.value.code == code


def test_a_kind_that_is_switched_off_stops_all_before_anything_is_drawn(
    keys: Marker, space: JointSpace
) -> None:
    steps: list[Step] = []
    with pytest.raises(GenerationError, match="makes no music") as caught:
        Studio({"image": "small-picture", "audio": ""}, keys, space).create(
            replace(SMALL, outputs=("image", "audio")), steps.append
        )
    assert caught.value.code == "not-installed" and not steps


def test_a_cancel_in_the_middle_leaves_nothing(studio: Studio) -> None:
    def watch(step: Step) -> None:
        if step.done > 50:
            raise Cancelled

    with pytest.raises(Cancelled):
        studio.create(ALL, watch)


def test_importing_the_studio_loads_no_torch(run_python: Any) -> None:
    code = (
        "import sys, ml.generators.studio; print({'torch', 'diffusers', 'transformers'} & sys.modules.keys())"
    )
    assert run_python(code).strip() == "set()"
