"""Low-rank adaptation of the text tower: it learns, is kept with its space, and is gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.alignment.own_tower import carry_tower, spec_of
from ml.alignment.space import SHIPPED, JointSpace, SpaceError, reads_chinese
from ml.encoders.base import load_encoder
from ml.training.checkpoints import Checkpoints
from ml.training.loop import Trainer
from ml.training.objective import Objective, Recipe, load_objective
from ml.training.objectives import align_lora
from ml.training.objectives.align_lora import TextTower, adapters_of
from ml.training.plan import TEST, TRAIN, VAL, Data, Selection, TrainingError
from ml.training.quality import inspect_data
from tests.ml.training_pairs import pairs


class NoHeads(Objective):
    """In place of the heads: what it exports places texts as the shipped space does."""

    def prepare(self, train: Iterable[Any], device: str) -> None:
        import torch

        self.module = torch.nn.Linear(1, 1)

    def parameter_groups(self, phase: Any) -> list[dict[str, Any]]:
        return [{"params": self.module.parameters(), "lr": 0.1}]

    def collate(self, items: Any, rng: Any) -> Any:
        import torch

        return torch.ones(len(items), 1)

    def loss(self, batch: Any) -> Any:
        return self.module(batch).mean(), {}

    def validate(self, items: Iterable[Any]) -> dict[str, float]:
        self.seen = list(items)
        return {"primary": 0.0}

    def export(self, folder: Path, manifest_extra: Mapping[str, Any]) -> Path:
        shutil.copytree(SHIPPED, folder)
        return folder


def silent(*said: Any, **fields: Any) -> None:
    pass


@pytest.fixture(scope="module")
def trained(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Path, list[NoHeads]]:
    folder, made = tmp_path_factory.mktemp("lora"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(align_lora, "load_objective", lambda recipe: made.append(NoHeads(recipe)) or made[-1])
        items = pairs(64)
        plan = inspect_data(items, 16).plan
        data = Data(*(Selection(items, plan, code, 100) for code in (TRAIN, VAL, TEST)))
        objective = load_objective(Recipe(method="lora", epochs=2, batch=16))
        trainer = Trainer(objective, {"adapt": data}, silent, Checkpoints(folder / "checkpoints", silent))
        trainer.run()
        objective.export(folder / "space", {})
    return trainer, folder / "space", made


@pytest.mark.slow
def test_the_space_reads_with_its_own_tower(trained: tuple[Trainer, Path, list[NoHeads]]) -> None:
    trainer, folder, _ = trained
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["encoders"]["text"] == spec_of(manifest["text_tower"])
    assert manifest["text_tower"]["precision"] == "int8"
    assert manifest["text_tower"]["parity"]["cosine"] >= 0.99
    texts = ["a red dog number 3, seen 0 times", "", "消防车"]
    space, shipped = JointSpace.load(folder), JointSpace.load()
    assert space.encoders_key != shipped.encoders_key
    tuned = trainer.objective.tower.read(texts)
    assert np.sum(space.read(texts).vectors * tuned, axis=1).min() > 0.98
    assert space.embed_texts(texts).shape == (3, 256)
    assert np.abs(tuned - TextTower([], "cpu").read(texts)).max() > 1e-3


def test_the_heads_are_fitted_to_what_the_tuned_tower_reads(
    trained: tuple[Trainer, Path, list[NoHeads]],
) -> None:
    trainer, _, made = trained
    before = {pair.key: pair for pair in trainer.data["adapt"].val}
    assert {pair.key for pair in made[0].seen} == before.keys()
    for pair in made[0].seen:
        expected = trainer.objective.tower.read(pair.captions)
        assert np.abs(pair.text.astype(np.float32) - expected).max() < 1e-2
        assert np.array_equal(pair.features, before[pair.key].features)


def test_another_run_goes_on_from_the_adapters(trained: tuple[Trainer, Path, list[NoHeads]]) -> None:
    trainer, folder, _ = trained
    again = TextTower(adapters_of(folder), "cpu")
    texts = ["a green bench number 7, seen 1 times"]
    expected = trainer.objective.tower.read(texts)
    assert np.abs(again.read(texts) - expected).max() < 1e-4
    assert [path.suffix for path in adapters_of(folder)] == [".safetensors"]


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_damaged_tower_is_refused(
    trained: tuple[Trainer, Path, list[NoHeads]], tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "space"
    shutil.copytree(trained[1], folder)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(SpaceError, match=f"{name} is damaged"):
        JointSpace.load(folder).read(["x"])
    (folder / name).unlink()
    with pytest.raises(SpaceError, match="cannot be read"):
        JointSpace.load(folder).read(["x"])


def test_another_space_carries_the_tower_on(
    trained: tuple[Trainer, Path, list[NoHeads]], tmp_path: Path
) -> None:
    manifest = json.loads((trained[1] / "manifest.json").read_text())
    for name in ("manifest.json", "space.safetensors"):
        shutil.copyfile(trained[1] / name, tmp_path / name)
    carry_tower(trained[1], manifest["text_tower"], tmp_path)
    texts = ["a red dog number 3"]
    assert np.array_equal(
        JointSpace.load(tmp_path).embed_texts(texts), JointSpace.load(trained[1]).embed_texts(texts)
    )


def test_what_is_chinese_is_still_read_by_the_student(
    trained: tuple[Trainer, Path, list[NoHeads]], tmp_path: Path
) -> None:
    folder = tmp_path / "space"
    shutil.copytree(trained[1], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert not reads_chinese(manifest)
    manifest["text_tower"]["chinese"] = True
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert reads_chinese(manifest)
    space, before = JointSpace.load(folder), JointSpace.load(trained[1])
    chinese, english = ["红色的消防车"], ["a red dog number 3"]
    assert np.array_equal(space.read(chinese).vectors, load_encoder("bundled:bilingual").encode(chinese))
    assert np.array_equal(space.read(english).vectors, before.read(english).vectors)


def test_adapters_are_not_trained_on_chinese(models: Path) -> None:
    items = [replace(item, captions=["红色的狗"] * len(item.captions)) for item in pairs(16)]
    with pytest.raises(TrainingError, match="use heads") as refused:
        load_objective(Recipe(method="lora")).prepare(items, "cpu")
    assert refused.value.code == "not_english"


def test_checkpoints_hold_the_adapters_and_not_the_tower(
    trained: tuple[Trainer, Path, list[NoHeads]],
) -> None:
    size = sum(path.stat().st_size for path in (trained[1].parent / "checkpoints").rglob("*.safetensors"))
    assert size < 2 * 8e6


def test_the_lower_layers_rest_in_the_domain(trained: tuple[Trainer, Path, list[NoHeads]]) -> None:
    objective = trained[0].objective
    counts = [
        sum(one.numel() for one in objective.parameter_groups(phase)[0]["params"])
        for phase in ("general", "domain")
    ]
    assert counts[1] == counts[0] / 2
