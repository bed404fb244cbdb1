"""The objective ``align`` from a space on a picture tower: driven by the engine, judged, exported, and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.alignment.adapted_space import AdaptedSpace
from ml.alignment.space import JointSpace
from ml.alignment.storage import SHIPPED
from ml.alignment.tower_space import TowerSpace
from ml.training import run as module
from ml.training.objective import Recipe, load_objective
from ml.training.objectives import _align_tower as align_tower
from ml.training.objectives._align_tower import AlignTower, tower_of
from ml.training.plan import TrainingError
from ml.training.run import run
from ml.training.shards import Pair, ShardWriter
from tests.ml.towers import shard_rows, write_tower


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, models: Path) -> None:
    monkeypatch.setattr(align_tower, "GENERAL", 20)
    monkeypatch.setattr(module, "_limit", lambda limits: None)


def ask(folder: Path, rows: list[Pair], base: Path, **body: Any) -> Path:
    with ShardWriter(folder / "pairs", JointSpace.load(base).encoders_key) as writer:
        for row in rows:
            writer.add(row)
    asked = {"data": [str(folder / "pairs")], "base": {"folder": str(base)}, **body}
    (folder / "run.json").write_text(json.dumps({"space": {"id": "cman-x", "version": "1"}, **asked}))
    return folder


def train(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    said: list[dict[str, Any]] = []
    return run(folder, lambda event, **fields: said.append({"event": event, **fields})), said


def refused(folder: Path) -> TrainingError:
    with pytest.raises(TrainingError) as caught:
        train(folder)
    return caught.value


def test_a_run_from_pairs_to_a_space_that_finds_more(tmp_path: Path) -> None:
    base = write_tower(tmp_path / "base")
    result, said = train(ask(tmp_path, shard_rows(200), base))
    kinds = [one["event"] for one in said]
    assert kinds == ["quality", "estimate", "curve", "checkpoint"]
    assert (result["epochs"], result["busy"]) == (0, 0.0)
    space = JointSpace.load(result["space"])
    assert isinstance(space.placing, AdaptedSpace)
    assert (space.id, space.dimension) == ("cman-x", space.placing.dimension)
    parent = JointSpace.load(base)
    assert space.encoders_key == parent.encoders_key
    assert space.manifest["base"] == {name: parent.manifest[name] for name in ("id", "version", "sha256")}
    gained = result["metrics"]["domain"]["differences"]["parent"]["text>image"]["mrr"]["difference"]
    assert gained > 0.02
    # Asked again, it answers without solving again; and from anew it comes to the same bytes.
    assert train(tmp_path) == (result, [])
    first = (Path(result["space"]) / "space.safetensors").read_bytes()
    ask(tmp_path, shard_rows(200), base, resume=False)
    assert (Path(train(tmp_path)[0]["space"]) / "space.safetensors").read_bytes() == first


def test_general_pairs_teach_too(tmp_path: Path) -> None:
    base = write_tower(tmp_path / "base")
    (tmp_path / "general").mkdir()
    general = ask(tmp_path / "general", shard_rows(80, seed=1), base) / "pairs"
    result, said = train(ask(tmp_path, shard_rows(60), base, stage="full", general=[str(general)]))
    assert set(result["metrics"]) == {"general", "domain"}
    assert [one["phase"] for one in said if one["event"] == "curve"] == ["general", "domain"]
    # 64 general pairs and 48 of the domain's, and those of it that judged.
    assert JointSpace.load(result["space"]).manifest["weights"]["learnt"] == pytest.approx(0.6 * 112 / 240)


def test_an_adapted_space_is_adapted_anew_from_its_base(tmp_path: Path) -> None:
    base = write_tower(tmp_path / "base")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = Path(train(ask(tmp_path / "one", shard_rows(100), base))[0]["space"])
    second = JointSpace.load(train(ask(tmp_path / "two", shard_rows(100), first))[0]["space"])
    assert second.manifest["base"]["id"] == "tiny"


def test_pairs_that_teach_nothing_give_the_base_under_another_name(tmp_path: Path) -> None:
    base, rows = write_tower(tmp_path / "base"), shard_rows(80)
    wrong = [replace(row, features=rows[number - 7].features) for number, row in enumerate(rows)]
    space = JointSpace.load(train(ask(tmp_path, wrong, base))[0]["space"])
    assert (space.id, space.manifest["kind"]) == ("cman-x", "tower")
    assert isinstance(space.placing, TowerSpace)
    assert space.manifest["sha256"] == JointSpace.load(base).manifest["sha256"]


def test_held_out_pairs_that_find_more_with_the_base_keep_it(tmp_path: Path) -> None:
    rows = shard_rows(200)
    objective = AlignTower(Recipe(base=write_tower(tmp_path / "base")))
    objective.prepare(rows[:150], "cpu")
    assert objective.validate(rows[150:])["mix"] == 1.0
    # Validation pairs of another world than the training pairs.
    wrong = [replace(row, features=-rows[number].features) for number, row in enumerate(rows[150:])]
    found = objective.validate(wrong)
    assert (found["primary"], found["mix"] < 1.0) == (max(found["primary"], found["base"]), True)


def test_too_few_pairs_say_how_many_are_needed(tmp_path: Path) -> None:
    error = refused(ask(tmp_path, shard_rows(12), write_tower(tmp_path / "base")))
    assert error.code == "too_few_pairs"
    assert "20 are needed" in str(error)


def test_features_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    rows = shard_rows(60)
    for number in range(0, 60, 3):
        rows[number].features[number % 20] = np.nan
    error = refused(ask(tmp_path, rows, write_tower(tmp_path / "base")))
    assert error.code == "not_finite"
    assert "encode them anew" in str(error)


def test_features_of_another_tower_are_refused(tmp_path: Path) -> None:
    rows = [replace(row, features=row.features[:-2]) for row in shard_rows(60)]
    error = refused(ask(tmp_path, rows, write_tower(tmp_path / "base")))
    assert (error.code, "(384, 18) numbers; the base reads (384, 20)" in str(error)) == (
        "other_encoders",
        True,
    )


def test_shards_of_other_encoders_than_the_base_are_refused(tmp_path: Path) -> None:
    base = write_tower(tmp_path / "base")
    ask(tmp_path, shard_rows(60), base)
    other = write_tower(tmp_path / "other", encoders={"text": "bundled:minilm", "image": ["bundled:else"]})
    request = json.loads((tmp_path / "run.json").read_text()) | {"base": {"folder": str(other)}}
    (tmp_path / "run.json").write_text(json.dumps(request))
    assert refused(tmp_path).code == "other_encoders"


def test_tuning_the_text_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="use heads, or another base"):
        load_objective(Recipe(base=write_tower(tmp_path / "base"), method="lora"))


def test_it_has_no_options_and_needs_a_tower(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no option 'lr'"):
        load_objective(Recipe(base=write_tower(tmp_path / "base"), options={"lr": 1}))
    with pytest.raises(TrainingError, match="a space on a picture tower"):
        AlignTower(Recipe()).prepare(shard_rows(20), "cpu")


def with_classes(count: int, features: int) -> list[Pair]:
    """Pairs as the encoders of `open-2` see and read them, with nothing to learn."""
    random = np.random.default_rng(4)
    rows = []
    for number in range(count):
        halves = {"text": random.normal(size=(2, 768)), "text_colours": np.zeros((2, 11))}
        halves |= {"features": random.normal(size=features), "colours": np.zeros(11)}
        halves["probabilities"] = random.dirichlet(np.full(1000, 0.01))
        typed: dict[str, Any] = {name: values.astype(np.float16) for name, values in halves.items()}
        rows.append(Pair(f"k{number}", f"g{number}", "", (f"{number} one", f"{number} two"), **typed))
    return rows


def test_a_base_with_classes_keeps_them(tmp_path: Path) -> None:
    result, _ = train(ask(tmp_path, with_classes(40, 512 + 30), SHIPPED / "open-2"))
    space, base = JointSpace.load(result["space"]), JointSpace.load(SHIPPED / "open-2")
    for name in ("classes", "stored_hub", "near_duplicate"):
        assert space.manifest[name] == base.manifest[name]
    assert tower_of(space).classes is not None
    assert space.encoders_key == base.encoders_key


def test_features_without_the_networks_of_the_classes_are_refused(tmp_path: Path) -> None:
    error = refused(ask(tmp_path, with_classes(40, 512), SHIPPED / "open-2"))
    assert error.code == "other_encoders"
