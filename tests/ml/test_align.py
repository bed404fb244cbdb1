"""The objective ``align``, driven by the engine's own loop on pairs that features tell apart and classes do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.alignment.learned_space import LearnedSpace
from ml.alignment.space import JointSpace
from ml.training.checkpoints import Checkpoints
from ml.training.loop import Trainer
from ml.training.objective import Recipe, load_objective
from ml.training.plan import TEST, TRAIN, VAL, Data, Plan, Selection, TrainingError
from ml.training.shards import Pair

FEATURES = 40


def made_pairs(count: int) -> list[Pair]:
    """Each with two captions that tell what its features hold."""
    random, rules = np.random.default_rng(0), np.random.default_rng(9)
    hidden = random.normal(size=(count, 6))
    to_text, to_features, common = (
        rules.normal(size=(6, 384)),
        rules.normal(size=(6, FEATURES)),
        rules.normal(size=384),
    )
    rows = []
    for number, one in enumerate(hidden):
        text = (one @ to_text + 3 * common + 0.3 * random.normal(size=(2, 384))) / 20
        halves = {"text": text, "text_colours": np.zeros((2, 11)), "probabilities": np.full(1000, 0.001)}
        halves |= {
            "features": one @ to_features + 0.3 * random.normal(size=FEATURES),
            "colours": np.zeros(11),
        }
        typed: dict[str, Any] = {name: values.astype(np.float16) for name, values in halves.items()}
        rows.append(Pair(str(number), f"g{number}", "", (f"a {number}", f"b {number}"), **typed))
    return rows


@pytest.fixture(scope="module")
def trained(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[dict[str, Any]], Path]:
    """The objective after three epochs, the points of its curve, and the exported folder."""
    return run(tmp_path_factory.mktemp("one"))


def run(folder: Path, **options: Any) -> tuple[Any, list[dict[str, Any]], Path]:
    rows = made_pairs(80)
    plan = Plan(np.array([VAL if number % 5 == 0 else TRAIN for number in range(80)], np.uint8))
    parts = [Selection(rows, plan, code, keep=80) for code in (TRAIN, VAL, TEST)]
    objective = load_objective(Recipe(epochs=3, batch=32, options=options))
    curve: list[dict[str, Any]] = []

    def report(event: str, **fields: Any) -> None:
        if event == "curve":
            curve.append(fields)

    Trainer(objective, {"adapt": Data(*parts)}, report, Checkpoints(folder / "kept", lambda *_: None)).run()
    return objective, curve, objective.export(folder / "space", {"made": "here"})


@pytest.mark.slow
def test_it_never_loses_to_where_it_started(trained: tuple[Any, list[dict[str, Any]], Path]) -> None:
    _, curve, _ = trained
    found = [point["validation"]["primary"] for point in curve]
    assert max(found) >= found[0] > 0.5
    assert all(point["validation"]["primary"] >= point["validation"]["trained"] for point in curve)


def test_the_curve_shows_the_temperature_above_a_sinking_floor(trained: tuple[Any, Any, Path]) -> None:
    points = [point for point in trained[1] if "temperature" in point]
    assert [point["floor"] for point in points] == sorted((point["floor"] for point in points), reverse=True)
    assert all(point["temperature"] >= point["floor"] - 1e-6 for point in points)


def test_what_is_exported_is_a_space_that_finds_pairs(trained: tuple[Any, Any, Path]) -> None:
    objective, _, folder = trained
    space = JointSpace.load(folder)
    assert isinstance(space.placing, LearnedSpace)
    assert (space.manifest["made"], space.encoders_key) == ("here", objective.base.encoders_key)
    assert space.manifest["weights"]["learnt"] > 0


@pytest.mark.slow
def test_the_same_pairs_and_seed_give_the_same_bytes(trained: tuple[Any, Any, Path], tmp_path: Path) -> None:
    again = run(tmp_path / "two")[2]
    assert (again / "space.safetensors").read_bytes() == (trained[2] / "space.safetensors").read_bytes()


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TrainingError, match="no option 'learning_rate'"):
        load_objective(Recipe(options={"learning_rate": 1}))
