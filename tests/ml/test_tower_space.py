"""The classes of a prior as a part of a tower space: `open-2` beside `open-1`, whose numbers it shares."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.alignment import adapted_fitting as fitting
from ml.alignment.adapted_space import AdaptedSpace
from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.fitting import Pairs
from ml.alignment.numerics import unit
from ml.alignment.space import JointSpace, SpaceError, is_short
from ml.alignment.storage import SHIPPED, write_space
from ml.alignment.tower_space import CLASS_SCALE, TowerSpace

FIRST, SECOND, TOWER, NETWORKS = 384, 384, 512, 40
CLASSES = slice(268, 332)


@pytest.fixture(scope="module")
def space() -> JointSpace:
    return JointSpace.load(SHIPPED / "open-2")


@pytest.fixture(scope="module")
def placing(space: JointSpace) -> TowerSpace:
    assert isinstance(space.placing, TowerSpace)
    return space.placing


def read(count: int) -> TextFeatures:
    vectors = np.random.default_rng(2).normal(size=(count, FIRST + SECOND)).astype(np.float32)
    return TextFeatures(vectors, np.zeros((count, 11), np.float32))


def seen(count: int) -> ImageFeatures:
    random = np.random.default_rng(3)
    return ImageFeatures(
        random.dirichlet(np.full(1000, 0.01), count).astype(np.float32),
        random.normal(size=(count, TOWER + NETWORKS)).astype(np.float32),
        np.zeros((count, 11), np.float32),
    )


def test_the_rest_is_what_it_is_without_classes(placing: TowerSpace) -> None:
    bare = JointSpace.load(SHIPPED / "open-1").placing
    pictures, plain = placing.image(seen(6)), bare.image(seen(6))
    texts, also = placing.text(read(6)), bare.text(read(6))
    assert (placing.dimension, bare.dimension) == (576, 512)
    shared = np.delete(np.arange(576), CLASSES)[:268]
    assert np.allclose(pictures[:, shared], plain[:, :268], atol=1e-6)
    assert np.allclose(texts[:, shared], also[:, :268], atol=1e-6)
    classes = texts[:, CLASSES] @ pictures[:, CLASSES].T
    assert np.allclose(texts @ pictures.T, also @ plain.T + classes, atol=1e-6)
    assert np.abs(classes).max() <= CLASS_SCALE**2 / 1.6**2


def test_they_are_those_of_the_prior(placing: TowerSpace) -> None:
    prior = JointSpace.load(SHIPPED / "prior-2").placing
    sight = seen(6)
    pictures = prior.image(ImageFeatures(sight.probabilities, sight.features[:, TOWER:], sight.colours))
    shown = placing.image(sight)[:, CLASSES]
    assert np.allclose(shown, 1 / 1.6 * CLASS_SCALE * unit(pictures[:, :64]), atol=1e-3)
    # What a text would be named is learnt from what the prior makes of it, and agrees with it.
    known = placing.texts.both.landmarks
    wanted = prior.reader.classes(unit(known[:, :FIRST])) @ prior.axes[:, :64]
    other = known.copy()
    other[:, :FIRST] = 0
    assert placing.classes is not None
    for meanings, least in ((known, 0.7), (unit(other), 0.6)):
        found = placing.classes.of_texts(meanings)
        assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
        assert (found * unit(wanted)).sum(axis=1).mean() > least


def test_nothing_is_placed_as_nothing(placing: TowerSpace) -> None:
    assert placing.text(read(0)).shape == (0, 576)
    assert placing.image(seen(0)).shape == (0, 576)


def test_an_adapted_space_keeps_them(space: JointSpace, placing: TowerSpace, tmp_path: Path) -> None:
    count = 24
    pairs = Pairs(read(count), seen(count), np.arange(count), np.arange(count))
    known = fitting.known_of(placing, pairs)
    adapted = fitting.solved(placing, known, fitting.Choice(1.0, 0.06), 0)
    assert isinstance(adapted, AdaptedSpace)
    assert fitting.scaled(adapted, 0.0) is placing
    kept = {name: space.manifest[name] for name in ("encoders", "classes", "stored_hub")}
    described = {"id": "cman-x", "version": "1", "kind": "adapted", "dimension": adapted.dimension, **kept}
    write_space(tmp_path, adapted.arrays(), described)
    loaded = JointSpace.load(tmp_path)
    assert np.allclose(loaded.project_image(seen(4)), adapted.image(seen(4)), atol=2e-3)
    texts = loaded.project_text(read(4))
    assert np.allclose(texts, adapted.text(read(4)), atol=2e-3)
    assert np.allclose(loaded.text_query(loaded.as_asset(texts)), texts, atol=1e-5)
    assert np.abs(loaded.as_asset(texts) - texts).max() > 0.1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": "prior-2"}, "neither true nor false"),
        ({"classes": False}, "its parts make 512"),
        ({"stored_hub": "low"}, "no number"),
        ({"stored_hub": 0.5}, "below 0"),
        ({"stored_hub": float("nan")}, "below 0"),
        ({"stored_hub": -1e9}, "below 0"),
        ({"dimension": 512}, "its parts make 576"),
    ],
)
def test_manifests_that_do_not_fit_are_refused(
    space: JointSpace, placing: TowerSpace, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    manifest = {
        name: value for name, value in space.manifest.items() if name not in ("tensors", "sha256", "bytes")
    }
    write_space(tmp_path, placing.arrays(), manifest | changes)
    with pytest.raises(SpaceError, match=said):
        JointSpace.load(tmp_path)


def test_arrays_without_their_classes_are_refused(
    space: JointSpace, placing: TowerSpace, tmp_path: Path
) -> None:
    manifest = {
        name: value for name, value in space.manifest.items() if name not in ("tensors", "sha256", "bytes")
    }
    write_space(tmp_path, replace(placing, classes=None).arrays(), manifest)
    with pytest.raises(SpaceError, match="class_axes"):
        JointSpace.load(tmp_path)
    wide = placing.arrays() | {"class_axes": np.zeros((1000, 200), np.float16)}
    write_space(tmp_path, wide, manifest)
    with pytest.raises(SpaceError, match="classes_from_text"):
        JointSpace.load(tmp_path)


def test_both_share_their_numbers(space: JointSpace) -> None:
    first = json.loads((SHIPPED / "open-1" / "manifest.json").read_text())
    assert space.manifest["sha256"] == first["sha256"]
    assert [path.name for path in (SHIPPED / "open-2").iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    ("text", "short"),
    [
        *(
            (text, True)
            for text in ("animal", "A Dog", "the red apple", "winter coat", "动物", "红色苹果", "犬")
        ),
        *(
            (text, False)
            for text in ("", "!?", "a red apple pie", "two dogs play", "一只狗在雪地里", "a " * 200)
        ),
    ],
)
def test_a_word_or_two_are_short(text: str, short: bool) -> None:
    assert is_short(text) is short


def test_short_queries_let_stored_texts_stand_further_back(space: JointSpace) -> None:
    """Which are near to every short text; their order among themselves stays."""
    words, longer = ["animal", "snow", "动物"], "two dogs play in the snow"
    stored = space.as_asset(
        space.embed_texts(["a bowl", "a dog", "winter coat", "refund policy", "mattress"])
    )
    before, after = space.embed_texts(words) @ stored.T, space.query_texts(words) @ stored.T
    assert (before - after).min() > 0.02
    assert np.array_equal(np.argsort(before, axis=1), np.argsort(after, axis=1))
    found = space.query_texts([words[0], longer, ""])
    assert np.array_equal(found[1:], space.embed_texts([words[0], longer, ""])[1:])
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_a_space_whose_stored_texts_do_not_stand_back_has_no_short_queries() -> None:
    plain = JointSpace.load(SHIPPED / "open-1")
    assert np.array_equal(plain.query_texts(["animal"]), plain.embed_texts(["animal"]))
