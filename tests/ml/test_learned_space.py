"""A learnt space beside the shipped prior: what pairs teach it, what it must not forget, and how it lies on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ml.alignment import fitting, layout
from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.fitting import Pairs
from ml.alignment.learned_space import LearnedSpace
from ml.alignment.projection import Projection
from ml.alignment.space import JointSpace, SpaceError
from ml.alignment.storage import described_prior, write_space
from ml.alignment.traditional import canonical

FEATURES = 60


@pytest.fixture(scope="module")
def prior() -> Projection:
    placing = JointSpace.load().placing
    assert isinstance(placing, Projection)
    return placing


def made_pairs(count: int, related: bool = True, seed: int = 0) -> Pairs:
    """Pictures of nothing that classes name, with two captions each that tell what the features hold (or do not)."""
    random = np.random.default_rng(seed)
    rules = np.random.default_rng(99)
    hidden = random.normal(size=(count, 6))
    owners = np.repeat(np.arange(count), 2)
    told = hidden[owners] if related else random.normal(size=(2 * count, 6))
    texts = (
        told @ rules.normal(size=(6, 384))
        + 3 * rules.normal(size=384)
        + 0.3 * random.normal(size=(2 * count, 384))
    )
    features = hidden @ rules.normal(size=(6, FEATURES)) + 0.3 * random.normal(size=(count, FEATURES))
    sight = ImageFeatures(
        np.full((count, 1000), 0.001, np.float32) + 1e-4 * random.random((count, 1000)).astype(np.float32),
        features.astype(np.float32),
        np.zeros((count, 11), np.float32),
    )
    reading = TextFeatures((texts / 20).astype(np.float32), np.zeros((2 * count, 11), np.float32))
    return Pairs(reading, sight, owners, np.arange(count))


@pytest.fixture(scope="module")
def learnt(prior: Projection) -> LearnedSpace:
    return fitting.fit(prior, made_pairs(80))


def recall(space: LearnedSpace | Projection, pairs: Pairs) -> float:
    texts, pictures = space.text(pairs.reading), space.image(pairs.sight)
    return float(((texts @ pictures.T).argmax(axis=1) == pairs.owners).mean())


def test_pairs_teach_what_the_prior_cannot_know(prior: Projection, learnt: LearnedSpace) -> None:
    asked = made_pairs(40, seed=1)
    assert recall(prior, asked) < 0.2
    assert recall(learnt, asked) > 0.6


def test_pairs_that_teach_nothing_are_given_no_weight(prior: Projection) -> None:
    space = fitting.fit(prior, made_pairs(40, related=False))
    assert (space.prior_weight, space.learnt_weight) in fitting.WEIGHTS[:3]


def test_foreign_texts_are_met_by_the_prior_alone(learnt: LearnedSpace, prior: Projection) -> None:
    foreign = prior.reader.phrases[:200]
    assert learnt.heads.familiar(foreign).mean() < 0.05
    own = prior.reader.meanings(made_pairs(40, seed=1).reading.vectors)
    assert learnt.heads.familiar(own).mean() > 0.9


def test_rows_have_norm_one_and_keep_to_their_side(learnt: LearnedSpace) -> None:
    pairs = made_pairs(5, seed=2)
    texts, pictures = learnt.text(pairs.reading), learnt.image(pairs.sight)
    for rows in (texts, pictures, learnt.as_query(pictures)):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert not texts[:, layout.DIMENSION - learnt.blocks.sight :].any()
    own = learnt.blocks.shared + 1
    assert not pictures[:, own : own + learnt.blocks.text].any()
    assert not learnt.as_query(pictures)[:, learnt.blocks.shared].any()


def test_nothing_and_one_pair(prior: Projection, learnt: LearnedSpace) -> None:
    none = made_pairs(3).of(np.empty(0, int))
    assert learnt.text(none.reading).shape == (0, 256)
    assert learnt.image(none.sight).shape == (0, 256)
    single = fitting.fit(prior, made_pairs(1))
    assert np.isfinite(single.image(made_pairs(3).sight)).all()


def test_equal_pairs_give_equal_spaces(prior: Projection, learnt: LearnedSpace) -> None:
    again = fitting.fit(prior, made_pairs(80)).arrays()
    assert all(np.array_equal(again[name], rows) for name, rows in learnt.arrays().items())


MANIFEST = {
    "kind": "cman",
    "id": "cman",
    "version": "1",
    "dimension": 256,
    "encoders": {"text": "x", "image": []},
}


def saved(space: LearnedSpace, folder: Path, **fields: object) -> Path:
    prior = described_prior(JointSpace.load().manifest)
    write_space(folder, space.arrays(), MANIFEST | {"prior": prior} | fields)
    return folder


def test_a_saved_space_places_alike(learnt: LearnedSpace, tmp_path: Path) -> None:
    read = JointSpace.load(saved(learnt, tmp_path))
    pairs = made_pairs(6, seed=3)
    np.testing.assert_allclose(read.project_text(pairs.reading), learnt.text(pairs.reading), atol=2e-3)
    np.testing.assert_allclose(read.project_image(pairs.sight), learnt.image(pairs.sight), atol=2e-3)
    assert (tmp_path / "space.safetensors").stat().st_size < 1_000_000
    assert read.placing.prior is JointSpace.load(tmp_path).placing.prior


@pytest.mark.parametrize(
    "named",
    [None, {"id": "..", "version": "x", "sha256": ""}, {"id": "prior", "version": "1", "sha256": "0"}],
)
def test_a_prior_that_is_not_here_is_refused(learnt: LearnedSpace, tmp_path: Path, named: object) -> None:
    with pytest.raises(SpaceError, match="prior"):
        JointSpace.load(saved(learnt, tmp_path, prior=named))


def test_heads_that_do_not_fit_are_refused(learnt: LearnedSpace, tmp_path: Path) -> None:
    arrays = learnt.arrays() | {"text_head": np.zeros((384, 3), np.float16)}
    write_space(tmp_path, arrays, MANIFEST | {"prior": described_prior(JointSpace.load().manifest)})
    with pytest.raises(SpaceError, match="heads and bank"):
        JointSpace.load(tmp_path)


def test_what_differs_between_pictures_of_one_thing_is_avoided() -> None:
    """Two pictures of each thing, told apart by one feature that the texts happen to follow: it must lose weight."""
    pairs = made_pairs(40)
    features = pairs.sight.features.copy()
    features[1::2, : FEATURES - 1] = features[::2, : FEATURES - 1]
    features[:, -1] = np.where(np.arange(40) % 2, 30.0, -30.0)
    sight = ImageFeatures(pairs.sight.probabilities, features, pairs.sight.colours)
    texts, owners = pairs.reading.vectors.astype(float), pairs.owners
    noise = fitting.within_groups(sight.features.astype(float), np.arange(40) // 2)
    plain = canonical(texts, sight.features.astype(float), owners, 3.0, 5, 0.25)
    avoided = canonical(texts, sight.features.astype(float), owners, 3.0, 5, 0.25, noise)
    assert np.abs(avoided.picture_map[-1]).sum() < 0.8 * np.abs(plain.picture_map[-1]).sum()
