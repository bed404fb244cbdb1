"""A small objective for tests of the loop: two linear heads that learn which of two noisy views belong together.

``python -m tests.ml.training_toy FOLDER`` runs it as a process that may be killed; ``FOLDER/toy.json`` says how.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml.training import distributed
from ml.training.checkpoints import Checkpoints
from ml.training.loop import Trainer
from ml.training.objective import PHASES, Objective, Phase, Recipe
from ml.training.plan import TEST, TRAIN, VAL, Data, Limits, Plan, Selection
from tests.waiting import pause

DIMENSION = 12


@dataclass(frozen=True)
class Thing:
    key: str
    group: str
    split: str
    left: np.ndarray
    right: np.ndarray


def things(count: int, seed: int = 0) -> list[Thing]:
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(6, DIMENSION)), random.normal(size=(6, DIMENSION))
    hidden = random.normal(size=(count, 6))
    left, right = (hidden @ one + random.normal(0, 0.7, (count, DIMENSION)) for one in mixing)
    return [
        Thing(f"k{row}", f"k{row}", "", left[row].astype(np.float32), right[row].astype(np.float32))
        for row in range(count)
    ]


class Toy(Objective):
    """``options``: ``sleep_s`` a step, ``dropout``, ``noise``, ``poison`` (key of a batch without finite loss) and
    ``most`` (rows that fit into memory)."""

    features = False
    buffer = 64

    def prepare(self, train: Iterable[Thing], device: str) -> None:
        import torch

        self.option = self.recipe.options
        torch.manual_seed(0)
        left, right = (torch.nn.Linear(DIMENSION, 8, bias=False) for _ in range(2))
        self.module = torch.nn.ModuleDict({"left": left, "right": right}).to(device)
        self.drop = torch.nn.Dropout(self.option.get("dropout", 0.0))

    def parameter_groups(self, phase: Phase) -> list[dict[str, Any]]:
        parts = ["right"] if phase == "domain" else ["left", "right"]
        return [{"params": self.module[part].parameters(), "lr": 0.02} for part in parts]

    def begin_epoch(self, train: Iterable[Thing], phase: Phase, epoch: int, epochs: int) -> None:
        # Depends on the weights, as mining does: a resumed run must see those of the epoch's start.
        self.sharpness = 10 * (1 + float(self.module["left"].weight.detach().mean()))

    def collate(self, items: Sequence[Thing], rng: np.random.Generator) -> dict[str, Any]:
        import torch

        noise = rng.normal(0, 0.1, (len(items), DIMENSION)).astype(np.float32)
        noise *= self.option.get("noise", 1.0)
        sides = {side: np.stack([getattr(item, side) for item in items]) for side in ("left", "right")}
        batch = {side: torch.from_numpy(rows + noise) for side, rows in sides.items()}
        batch["bad"] = torch.tensor(self.option.get("poison") in {item.key for item in items})
        return batch

    def loss(self, batch: dict[str, Any]) -> tuple[Any, dict[str, float]]:
        import torch

        pause(self.option.get("sleep_s", 0.0), "a step that takes so long")
        rows = len(batch["left"])
        if rows > self.option.get("most", rows):
            torch.empty(1 << 50, dtype=torch.uint8)  # what the allocator itself says of too much
        left, right = (
            torch.nn.functional.normalize(self.module[side](batch[side])) for side in ("left", "right")
        )
        scores = self.drop(left) @ distributed.gather(right).T * self.sharpness
        back = self.drop(right) @ distributed.gather(left).T * self.sharpness
        wanted = torch.arange(rows) + distributed.first_row(rows)
        loss = sum(torch.nn.functional.cross_entropy(one, wanted) for one in (scores, back)) / 2
        if batch["bad"]:
            loss = loss * float("nan")
        return loss, {"sharpness": self.sharpness}

    def validate(self, items: Iterable[Thing]) -> dict[str, float]:
        import torch

        held = list(items)
        with torch.no_grad():
            left, right = (
                self.module[side](torch.from_numpy(np.stack([getattr(item, side) for item in held])))
                for side in ("left", "right")
            )
            scores = torch.nn.functional.normalize(left) @ torch.nn.functional.normalize(right).T
        ranks = (scores > scores.diagonal()[:, None]).sum(1)
        return {"primary": float((1 / (ranks + 1)).mean())}

    def export(self, folder: Path, manifest_extra: Mapping[str, Any]) -> Path:
        raise NotImplementedError


def split(items: list[Thing]) -> Data:
    codes = np.full(len(items), TRAIN, np.uint8)
    codes[::5], codes[1::10] = VAL, TEST
    plan = Plan(codes)
    return Data(*(Selection(items, plan, code, 64) for code in (TRAIN, VAL, TEST)))


def trainer(
    folder: Path, report: Any, recipe: Recipe, limits: Limits | None = None, count: int = 200
) -> Trainer:
    """A trainer of the toy, with data of its own for each phase."""
    data = {phase: split(things(count, seed)) for seed, phase in enumerate(PHASES[recipe.stage])}
    checkpoints = Checkpoints(
        folder / "checkpoints", lambda code, detail: report("warning", code=code, detail=detail)
    )
    return Trainer(Toy(recipe), data, report, checkpoints, limits)


def weights(trained: Trainer) -> dict[str, list[Any]]:
    return {name: one.tolist() for name, one in trained.objective.module.state_dict().items()}


def main(folder: Path) -> None:
    asked = json.loads((folder / "toy.json").read_text())

    def report(event: str, **fields: Any) -> None:
        if distributed.rank() == 0:
            sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
            sys.stdout.flush()

    with distributed.process_group():
        trained = trainer(folder, report, Recipe(**asked["recipe"]), Limits(**asked["limits"]))
        progress = trained.run()
        report("result", weights=weights(trained), best=[point["validation"] for point in progress.history])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
