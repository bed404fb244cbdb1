"""The loop: it learns, stops early, survives being killed, and says what went wrong."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ml.training.loop import learning_rate_factor
from ml.training.objective import Recipe
from ml.training.plan import Limits, TrainingError
from tests.ml import training_toy

ROOT = Path(__file__).resolve().parents[2]
OFTEN = Limits(checkpoint_s=0)


class Events(list[dict[str, Any]]):
    def __call__(self, event: str, **fields: Any) -> None:
        self.append({"event": event, **fields})

    def of(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self if one["event"] == event]


@pytest.fixture
def events() -> Events:
    return Events()


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{"epochs": 4, "batch": 32, "seed": 3, **changes})


def test_it_learns_and_keeps_the_best(tmp_path: Path, events: Events) -> None:
    trained = training_toy.trainer(tmp_path, events, recipe(epochs=8))
    progress = trained.run()
    curve = [point["validation"]["primary"] for point in events.of("curve")]
    assert [point["epoch"] for point in events.of("curve")][:2] == [0, 1]
    assert max(curve) > curve[0] + 0.2
    assert trained.objective.validate(trained.data["adapt"].val)["primary"] == max(curve)
    assert progress.cpu_s > 0
    assert events.of("estimate")[0]["steps"] == 8 * 5
    assert all(0 < point["busy"] <= 1 for point in events.of("curve"))


def test_an_estimate_trains_nothing(tmp_path: Path, events: Events) -> None:
    trained = training_toy.trainer(tmp_path, events, recipe())
    trained.run(estimate_only=True)
    fresh = training_toy.trainer(tmp_path, Events(), recipe())
    fresh.objective.prepare([], "cpu")
    assert training_toy.weights(trained) == training_toy.weights(fresh)
    assert [event["event"] for event in events] == ["estimate"]
    assert not (tmp_path / "checkpoints").exists()


def test_it_stops_early(tmp_path: Path, events: Events) -> None:
    trained = training_toy.trainer(tmp_path, events, recipe(epochs=50), Limits(patience=2))
    assert trained.run().stopped == "early"
    curve = [point["validation"]["primary"] for point in events.of("curve")]
    assert len(curve) < 51
    assert curve.index(max(curve)) == len(curve) - 3


def test_the_time_limit_keeps_the_best_so_far(tmp_path: Path, events: Events) -> None:
    slow = recipe(epochs=100, options={"sleep_s": 0.05})
    trained = training_toy.trainer(tmp_path, events, slow, Limits(wall_s=0.6))
    assert trained.run().stopped == "time"
    assert events.of("warning")[0]["code"] == "time_limit"
    assert len(events.of("curve")) < 10


def test_full_freezes_in_its_second_phase(tmp_path: Path, events: Events) -> None:
    trained = training_toy.trainer(tmp_path, events, recipe(stage="full", epochs=2))
    trained.run()
    assert [point["phase"] for point in events.of("curve")] == ["general"] * 3 + ["domain"] * 3
    assert not trained.objective.module["left"].weight.requires_grad


@pytest.mark.parametrize("stage", ["adapt", "full"])
def test_every_checkpoint_leads_to_the_same_end(tmp_path: Path, stage: str) -> None:
    asked = recipe(stage=stage, epochs=3, options={"dropout": 0.2})
    whole = training_toy.trainer(tmp_path / "whole", Events(), asked)
    whole.run()
    events = Events()
    stopped = training_toy.trainer(tmp_path / "cut", events, asked, OFTEN)
    saved, limit = 0, 7 if stage == "adapt" else 23
    original = stopped.checkpoints.save

    def save(checkpoint: Any) -> Path:
        nonlocal saved
        saved += 1
        path = original(checkpoint)
        if saved == limit:
            raise KeyboardInterrupt
        return path

    stopped.checkpoints.save = save
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    resumed = training_toy.trainer(tmp_path / "cut", events, asked)
    resumed.run()
    assert events.of("resumed")[0]["seen"] > 0
    assert training_toy.weights(resumed) == training_toy.weights(whole)
    assert _without_time(resumed.progress.history) == _without_time(whole.progress.history)


@pytest.mark.slow
def test_killed_in_the_middle_it_ends_the_same(tmp_path: Path) -> None:
    asked = {"epochs": 3, "batch": 32, "options": {"sleep_s": 0.02, "dropout": 0.2}}
    whole = training_toy.trainer(tmp_path / "whole", Events(), Recipe(**asked))
    whole.run()
    killed = _process(tmp_path / "killed", asked)
    assert killed.stdout
    for line in killed.stdout:
        if json.loads(line)["event"] == "checkpoint" and json.loads(line)["seen"]:
            break
    killed.kill()
    killed.wait()
    lines = _process(tmp_path / "killed", asked).communicate(timeout=90)[0].splitlines()
    assert json.loads(lines[0])["event"] == "resumed"
    assert json.loads(lines[-1])["weights"] == training_toy.weights(whole)


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    """With the environment that torchrun gives its processes."""
    asked = {"epochs": 2, "batch": 32, "options": {"noise": 0.0}}
    alone = training_toy.trainer(tmp_path / "one", Events(), Recipe(**asked))
    history = alone.run().history
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
    folder = _folder(tmp_path / "two", asked)
    both = [_process(folder, asked, place | {"RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")]
    said = [process.communicate(timeout=120)[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[1] == []
    together = json.loads(said[0][-1])
    for name, rows in training_toy.weights(alone).items():
        for mine, theirs in zip(rows, together["weights"][name], strict=True):
            assert mine == pytest.approx(theirs, abs=1e-4)
    assert [point["validation"]["primary"] for point in history] == pytest.approx(
        [one["primary"] for one in together["best"]], abs=0.02
    )


def test_a_loss_that_is_not_finite_stops_with_the_batch(tmp_path: Path, events: Events) -> None:
    asked = recipe(options={"poison": "k44"}, epochs=2, batch=16)
    trained = training_toy.trainer(tmp_path, events, asked)
    with pytest.raises(TrainingError, match=r"Batch \d+ of epoch 1 .*nan.*checkpoint 000000") as caught:
        trained.run()
    assert caught.value.code == "not_finite"
    kept = trained.checkpoints.latest(lambda state: True)
    assert kept
    assert all(bool(one.isfinite().all()) for one in kept.tensors.values())


def test_short_memory_halves_the_batch_and_says_so(tmp_path: Path, events: Events) -> None:
    trained = training_toy.trainer(tmp_path, events, recipe(options={"most": 10}))
    assert trained.run().batch == 8
    assert [one["batch"] for one in events.of("warning")] == [16, 8]
    assert max(point["validation"]["primary"] for point in events.of("curve")) > 0.5


def test_no_memory_for_anything_is_an_error(tmp_path: Path, events: Events) -> None:
    trained = training_toy.trainer(tmp_path, events, recipe(options={"most": 1}))
    with pytest.raises(TrainingError) as caught:
        trained.run()
    assert caught.value.code == "out_of_memory"


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, events: Events) -> None:
    whole = training_toy.trainer(tmp_path / "whole", Events(), recipe())
    whole.run()
    first = training_toy.trainer(tmp_path, Events(), recipe(), OFTEN)
    first.run()
    newest = max((tmp_path / "checkpoints").iterdir()) / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    again = training_toy.trainer(tmp_path, events, recipe())
    again.run()
    assert [one["code"] for one in events.of("warning")] == ["damaged_checkpoint"]
    assert events.of("resumed")
    assert training_toy.weights(again) == training_toy.weights(whole)


def test_without_a_whole_checkpoint_it_starts_anew(tmp_path: Path, events: Events) -> None:
    training_toy.trainer(tmp_path, Events(), recipe(), OFTEN).run()
    for folder in (tmp_path / "checkpoints").iterdir():
        (folder / "state.json").write_text("{")
    again = training_toy.trainer(tmp_path, events, recipe())
    again.run()
    assert [one["code"] for one in events.of("warning")] == [*["damaged_checkpoint"] * 2, "starts_anew"]
    assert not events.of("resumed")


def test_checkpoints_of_another_recipe_are_not_used(tmp_path: Path, events: Events) -> None:
    training_toy.trainer(tmp_path, Events(), recipe(), OFTEN).run()
    training_toy.trainer(tmp_path, events, recipe(seed=4)).run()
    assert [one["code"] for one in events.of("warning")] == ["other_run"]


def test_checkpoints_are_gone_on_with_where_the_base_lies_elsewhere(tmp_path: Path, events: Events) -> None:
    """As on another host; with another base they are not."""
    for name, body in (("here", "{}"), ("there", "{}"), ("another", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(body)
    training_toy.trainer(tmp_path, Events(), recipe(base=tmp_path / "here"), OFTEN).run()
    training_toy.trainer(tmp_path, events, recipe(base=tmp_path / "there")).run()
    assert (len(events.of("resumed")), events.of("warning")) == (1, [])
    training_toy.trainer(tmp_path, events, recipe(base=tmp_path / "another")).run()
    assert [one["code"] for one in events.of("warning")] == ["other_run"]


def test_checkpoints_of_a_former_release_are_gone_on_with(tmp_path: Path, events: Events) -> None:
    """They name the folder of the base."""
    asked = recipe(base=tmp_path / "base")
    training_toy.trainer(tmp_path, Events(), asked, OFTEN).run()
    (tmp_path / "base").mkdir()
    (tmp_path / "base/manifest.json").write_text("{}")
    training_toy.trainer(tmp_path, events, asked).run()
    assert (len(events.of("resumed")), events.of("warning")) == (1, [])


def test_checkpoints_hold_no_pickles(tmp_path: Path, events: Events) -> None:
    training_toy.trainer(tmp_path, events, recipe(), OFTEN).run()
    names = {path.name for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()}
    assert names == {"state.safetensors", "state.json"}


def test_the_rate_rises_and_falls() -> None:
    rates = [learning_rate_factor(done / 100) for done in range(101)]
    assert rates.index(max(rates)) == 5
    assert rates[0] < 0.2
    assert rates[-1] == pytest.approx(0.02)


def _without_time(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: one for name, one in point.items() if name not in ("wall_s", "busy")} for point in history]


def _folder(folder: Path, asked: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "toy.json").write_text(json.dumps({"recipe": asked, "limits": {"checkpoint_s": 0.1}}))
    return folder


def _process(
    folder: Path, asked: dict[str, Any], more: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    if not folder.exists():
        _folder(folder, asked)
    command = [sys.executable, "-m", "tests.ml.training_toy", str(folder)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **(more or {})}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
