"""A tower space that learns from pairs: what it finds, what it leaves alone, and what of it is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.alignment import adapted_fitting as fitting
from ml.alignment import adapted_space
from ml.alignment.adapted_fitting import Choice
from ml.alignment.adapted_space import AdaptedSpace
from ml.alignment.features import TextFeatures
from ml.alignment.fitting import Pairs
from ml.alignment.space import JointSpace, SpaceError
from ml.alignment.storage import write_space
from ml.alignment.tower_space import TowerSpace
from tests.ml.towers import READ, pairs, tower

ENCODERS = {"text": "bundled:minilm", "image": ["bundled:tiny"]}


@pytest.fixture(scope="module")
def base() -> TowerSpace:
    return tower()


@pytest.fixture(scope="module")
def asked(base: TowerSpace) -> fitting.Known:
    """Pairs that nothing was fitted on."""
    return fitting.known_of(base, pairs(60, seed=5))


@pytest.fixture(scope="module")
def adapted(base: TowerSpace) -> AdaptedSpace:
    found = fitting.fit(base, pairs(120))
    assert isinstance(found, AdaptedSpace)
    return found


@pytest.mark.parametrize("kind", ["base", "adapted"])
def test_stored_texts_lose_alike_against_texts_and_keep_their_order(
    kind: str, request: pytest.FixtureRequest, asked: fitting.Known
) -> None:
    space = request.getfixturevalue(kind)
    assert space.as_asset(queries := space.text(asked.pairs.reading)) is queries
    lower = replace(space.base if kind == "adapted" else space, stored_hub=-1.2)
    space = replace(space, base=lower) if kind == "adapted" else lower
    queries = space.text(asked.pairs.reading)
    stored = space.as_asset(queries)
    assert np.allclose(np.linalg.norm(stored, axis=1), 1)
    assert np.allclose(space.text_query(stored), queries, atol=1e-6)
    before, after = queries @ queries.T, queries @ stored.T
    lost = before - after
    assert lost.min() > 0.1
    # A line: what was nearer is nearer still, whatever the query.
    slope, level = np.polyfit(before.ravel(), after.ravel(), 1)
    assert 0.5 < slope < 1
    assert np.abs(slope * before + level - after).max() < 0.02
    pictures = space.as_query(space.image(asked.pairs.sight))
    order = np.argsort(pictures @ queries.T, axis=1)
    along = np.take_along_axis(pictures @ stored.T, order, axis=1)
    assert np.diff(along, axis=1).min() > -0.02


def test_what_is_no_stored_text_is_left_as_it_is(base: TowerSpace) -> None:
    rows = np.eye(3, base.dimension, dtype=np.float32)
    base = replace(base, stored_hub=-1.2)
    assert np.array_equal(base.as_asset(rows), rows)
    assert np.array_equal(base.text_query(rows), rows)


def test_pairs_teach_what_the_base_does_not_know(
    base: TowerSpace, adapted: AdaptedSpace, asked: fitting.Known
) -> None:
    before, after = (fitting.hits(space, asked)[0] for space in (base, adapted))
    assert after > before + 0.1


def test_the_heads_weigh_as_much_as_the_pairs_are_many() -> None:
    weights = [fitting.weight_of(count) for count in (16, 60, 120, 240, 4_000)]
    assert weights == pytest.approx([0.04, 0.15, 0.3, 0.6, 0.6])


def test_few_pairs_change_little(base: TowerSpace, asked: fitting.Known) -> None:
    few = fitting.fit(base, pairs(16))
    assert fitting.hits(few, asked).mean() >= fitting.hits(base, asked).mean() - 0.02


def test_pairs_that_teach_nothing_leave_the_base(base: TowerSpace) -> None:
    taught = pairs(60)
    shuffled = replace(taught.sight, features=np.roll(taught.sight.features, 7, axis=0))
    assert fitting.fit(base, replace(taught, sight=shuffled)) is base


def test_pairs_of_one_group_cannot_be_judged_and_leave_the_base(base: TowerSpace) -> None:
    taught = pairs(20)
    assert fitting.fit(base, replace(taught, groups=np.zeros(20, int))) is base


def test_none_of_what_was_learnt_is_the_base_to_the_bit(
    base: TowerSpace, adapted: AdaptedSpace, asked: fitting.Known
) -> None:
    nothing = fitting.scaled(adapted, 0.0)
    reading, sight = asked.pairs.reading, asked.pairs.sight
    assert np.array_equal(nothing.text(reading), base.text(reading))
    assert np.array_equal(nothing.image(sight), base.image(sight))


def test_half_of_it_lies_between(adapted: AdaptedSpace) -> None:
    half = fitting.scaled(adapted, 0.5)
    assert isinstance(half, AdaptedSpace)
    assert half.weight == adapted.weight / 2
    assert np.array_equal(half.correction, adapted.correction / 2)


def test_the_same_pairs_give_the_same_arrays(base: TowerSpace, adapted: AdaptedSpace) -> None:
    again = fitting.fit(base, pairs(120))
    for name, values in adapted.arrays().items():
        assert np.array_equal(values, again.arrays()[name]), name


def test_a_foreign_text_orders_pictures_as_the_base_does(
    base: TowerSpace, adapted: AdaptedSpace, asked: fitting.Known
) -> None:
    never = replace(adapted.heads, familiarity=np.append(np.zeros(READ, np.float32), np.float32(-1)))
    foreign = replace(adapted, heads=never)
    found = [space.text(asked.pairs.reading) @ space.image(asked.pairs.sight).T for space in (base, foreign)]
    scale = np.linalg.norm(found[0]) / np.linalg.norm(found[1])
    assert np.allclose(found[0], scale * found[1], atol=1e-5)


def test_the_score_is_that_of_the_base_and_the_weighted_heads(
    base: TowerSpace, adapted: AdaptedSpace, asked: fitting.Known
) -> None:
    """With texts that are all familiar and no correction."""
    always = replace(adapted.heads, familiarity=np.append(np.zeros(READ, np.float32), np.float32(1)))
    space = replace(adapted, heads=always, correction=0 * adapted.correction)
    before = base.text(asked.pairs.reading) @ base.image(asked.pairs.sight).T * 1.6**2
    norm = 1.6**2 + space.weight * (1 + 0.5**2)
    after = space.text(asked.pairs.reading) @ space.image(asked.pairs.sight).T * norm
    pictures = space.heads.images(asked.seen)
    learnt = space.heads.texts(asked.meanings) @ pictures.T - space.hub_bias(pictures)
    assert np.abs(space.hub_bias(pictures)).max() > 0
    assert np.allclose(after, before + space.weight * learnt, atol=1e-4)


def test_as_queries_pictures_carry_neither_bias(adapted: AdaptedSpace, asked: fitting.Known) -> None:
    stored = adapted.image(asked.pairs.sight)
    queries = adapted.as_query(stored)
    assert not queries[:, [adapted.base.axes.shape[1] + 11, -1]].any()
    assert np.abs(stored[:, -1]).max() > 0
    assert np.allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("width", [0, 20])
def test_rows_have_norm_1_and_the_width_that_it_states(
    base: TowerSpace, asked: fitting.Known, width: int
) -> None:
    known = fitting.known_of(base, pairs(60))
    space = fitting.solved(base, known, Choice(1.0, 0.3 if width else 0.0), 0)
    assert space.dimension == base.dimension + (width + 1 if width else 0)
    for rows in (space.text(asked.pairs.reading), space.image(asked.pairs.sight)):
        assert rows.shape[1] == space.dimension
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    nothing: Any = asked.pairs.reading.rows([]), asked.pairs.sight.rows([])
    assert space.text(nothing[0]).shape == space.image(nothing[1]).shape == (0, space.dimension)


# --- On disk ---------------------------------------------------------------------------------------------


def written(folder: Path, space: AdaptedSpace, **changes: Any) -> Path:
    arrays = space.arrays() | {name: changes.pop(name) for name in list(changes) if name in space.arrays()}
    manifest = {"kind": "adapted", "id": "cman-x", "version": "1", "dimension": space.dimension}
    write_space(folder, arrays, {**manifest, "encoders": ENCODERS, **changes})
    return folder


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_it_comes_back_as_it_was_stored(
    base: TowerSpace, asked: fitting.Known, tmp_path: Path, weight: float
) -> None:
    space = fitting.solved(base, fitting.known_of(base, pairs(60)), Choice(1.0, weight), 0)
    assert isinstance(space, AdaptedSpace)
    again = JointSpace.load(written(tmp_path / "s", space))
    assert again.dimension == space.dimension
    close = (again.project_text(asked.pairs.reading) * space.text(asked.pairs.reading)).sum(axis=1)
    assert close.min() > 0.9995
    assert (again.project_image(asked.pairs.sight) * space.image(asked.pairs.sight)).sum(
        axis=1
    ).min() > 0.9995


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dimension": 256}, "dimensions, not 256"),
        ({"correction": np.zeros((20, 19), np.float16)}, "'correction' is"),
        ({"learnt_text_head": np.zeros((READ, 3), np.float16)}, "'learnt_image_head' is"),
        ({"learnt_familiarity": np.zeros(READ, np.float32)}, "'learnt_familiarity' is"),
        ({"learnt_bank": np.zeros((0, 20), np.float16)}, "no bank of captions"),
        ({"learnt_scales": np.array([-1, 0], np.float32)}, "a weight below 0"),
        ({"learnt_scales": np.array([np.nan, 0], np.float32)}, "not finite"),
        ({"kind": "tower"}, "holds the tensor"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    adapted: AdaptedSpace, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(SpaceError, match=said):
        JointSpace.load(written(tmp_path / "s", adapted, **changes))


def test_the_shapes_name_all_that_is_stored(adapted: AdaptedSpace) -> None:
    assert adapted.arrays().keys() == adapted_space.SHAPES.keys()


def test_general_texts_are_told_from_those_of_the_pairs(base: TowerSpace) -> None:
    """The pairs' captions lie elsewhere than what people say in general."""
    taught, away = pairs(80), np.zeros(READ, np.float32)
    away[:READ] = np.random.default_rng(2).normal(size=READ) / READ**0.5
    moved = TextFeatures(taught.reading.vectors + 2 * away, taught.reading.colours)
    own = Pairs(moved, taught.sight, taught.owners, taught.groups)
    general = pairs(80, seed=3).reading.vectors
    space = fitting.solved(base, fitting.known_of(base, own), Choice(1.0, 0.3, 0.2), 0, general)
    assert isinstance(space, AdaptedSpace)
    familiar = [space.heads.familiar(base.texts.meanings(rows)).mean() for rows in (moved.vectors, general)]
    assert familiar[0] > 0.9
    assert familiar[1] < 0.1
