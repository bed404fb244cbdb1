"""The process that trains: followed, ended, refused; and what its lines become."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from ml import sandbox
from tenants.jobs import processes
from tenants.jobs.models import Job
from tenants.learning import training_progress
from tenants.learning.models import LearntModel
from tenants.learning.trainer import TrainingRefused, train
from tenants.learning.training_progress import TrainingProgress


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Stands in for the trainer: run with the folder as its argument."""

    def write(body: str) -> None:
        package = tmp_path / "ml"
        (package / "training").mkdir(parents=True)
        for folder in (package, package / "training"):
            (folder / "__init__.py").touch()
        head = "import json, os, sys, time\nfolder = sys.argv[-1]\n"
        head += "def say(event, **more):\n    print(json.dumps({'event': event, **more}), flush=True)\n"
        (package / "training" / "__main__.py").write_text(head + body)
        monkeypatch.setattr(sandbox, "ROOT", tmp_path)

    return write


def run(folder, told=lambda event: None, in_vain=lambda cpu_s: None):
    return train(folder, {"epochs": 3}, told, in_vain)


def test_every_line_is_told_and_the_last_one_counts(script, tmp_path):
    script(
        "say('progress', done=1, total=2)\nprint('a library says hello', flush=True)\nprint('[1]', flush=True)\n"
        "say('result', recipe=json.load(open(folder + '/run.json')), threads=os.environ['OMP_NUM_THREADS'])\n"
    )
    told = []
    trained = run(tmp_path, told.append)
    events = [event for event in told if event]
    assert [event["event"] for event in events] == ["progress", "result"]
    assert trained.result["recipe"] == {"epochs": 3}
    assert trained.peak_mb > 1


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ("say('error', code='too_few_pairs', detail='more')\nsys.exit(1)", TrainingRefused, "more"),
        ("say('error', code='failed', detail='KeyError')\nsys.exit(1)", RuntimeError, "KeyError"),
        ("os.kill(os.getpid(), 9)", RuntimeError, "status -9"),
        ("say('progress', done=1, total=2)", RuntimeError, "status 0"),
        ("say('result', space='x')\nsys.exit(4)", RuntimeError, "status 4"),
    ],
)
def test_how_it_may_end(script, tmp_path, body, error, words):
    script(body)
    spent = []
    with pytest.raises(error, match=words) as raised:
        run(tmp_path, in_vain=spent.append)
    assert len(spent) == 1
    if error is TrainingRefused:
        assert raised.value.slug == "too-few-pairs"


def test_a_cancel_ends_it_although_it_says_nothing(script, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE_S", 0.05)
    script("open(folder + '/pid', 'w').write(str(os.getpid()))\ntime.sleep(600)")
    asked = []

    def told(event):
        asked.append(event)
        if (tmp_path / "pid").exists():
            raise TimeoutError

    with pytest.raises(TimeoutError):
        run(tmp_path, told)
    assert asked[-1] is None


# --- What the lines become --------------------------------------------------------------------------------


class Sheet:
    def __init__(self):
        self.curves, self.data, self.stored, self.bars = [], {}, {}, []

    def store(self, **values):
        self.stored |= values

    def progress(self, done, *, renew=False):
        self.bars.append((done, renew))


def follow(*events):
    sheet = Sheet()
    follower = TrainingProgress(sheet)
    for event in events:
        follower.report(event)
    follower.flush()
    return sheet


def point(epoch, phase="adapt"):
    return {"event": "curve", "phase": phase, "epoch": epoch, "loss": 1 / (epoch + 1)}


def test_curves_grow_and_what_a_resume_repeats_stands_once():
    sheet = follow(point(0), point(1), point(2), point(1), point(2), point(3))
    assert [one["epoch"] for one in sheet.stored["curves"]] == [0, 1, 2, 3]


def test_two_phases_follow_each_other():
    sheet = follow(point(0, "general"), point(1, "general"), point(0, "domain"), point(1, "domain"))
    assert [(one["phase"], one["epoch"]) for one in sheet.stored["curves"]] == [
        ("general", 0),
        ("general", 1),
        ("domain", 0),
        ("domain", 1),
    ]


def test_long_curves_are_thinned_and_keep_both_ends(monkeypatch):
    monkeypatch.setattr(training_progress, "MAX_POINTS", 10)
    epochs = [one["epoch"] for one in follow(*(point(n) for n in range(40))).stored["curves"]]
    assert len(epochs) <= 10
    assert (epochs[0], epochs[-1]) == (0, 39)
    assert epochs == sorted(set(epochs))


def test_quality_warnings_estimate_and_progress():
    sheet = follow(
        {"event": "quality", "phase": "general", "items": 9},
        {"event": "quality", "phase": "domain", "items": 7},
        {"event": "warning", "code": "out_of_memory", "detail": "halved"},
        {"event": "estimate", "cpu_s": 12.0, "gpu_s": 0.0, "wall_s": 6.0},
        {"event": "progress", "done": 5, "total": 10},
        {"event": "checkpoint", "name": "x"},
    )
    assert sheet.stored["data"]["quality"] == {"general": {"items": 9}, "domain": {"items": 7}}
    assert sheet.stored["data"]["warnings"] == [{"code": "out_of_memory", "detail": "halved"}]
    assert sheet.stored["estimate"] == {"cpu_s": 12.0, "gpu_s": 0.0, "wall_s": 6.0, "by": "trial"}
    assert sheet.bars[-1] == (
        training_progress.LOOKED + (training_progress.TRAINED - training_progress.LOOKED) // 2,
        True,
    )


def test_a_bar_never_falls():
    sheet = follow(
        {"event": "progress", "done": 8, "total": 10}, {"event": "progress", "done": 2, "total": 10}
    )
    assert sheet.bars[-1][0] > training_progress.LOOKED + 25


# --- How long it still takes -----------------------------------------------------------------------------


def left(model: dict[str, Any], **job: Any) -> float | None:
    lease = timezone.now() + dt.timedelta(minutes=1)
    shown = Job(**{"state": "running", "progress_done": 60, "lease_until": lease, **job})
    made = {"stage": "adapt", "settings": {"epochs": 10}, "data": counted(adapt=100)}
    return training_progress.time_left_s(LearntModel(**{**made, **model}), shown)


def counted(**train: int) -> dict[str, Any]:
    return {"quality": {phase: {"splits": {"train": count, "val": 10}} for phase, count in train.items()}}


def took(*seconds: float, phase: str = "adapt") -> list[dict[str, Any]]:
    return [
        {"phase": phase, "epoch": epoch, "wall_s": took_s} for epoch, took_s in enumerate((9.0, *seconds))
    ]


def test_time_left_is_not_known_before_anything_was_measured() -> None:
    assert left({}) is None
    assert left({"curves": took()}) is None
    assert left({"curves": took(2.0), "data": {}}) is None
    assert left({"curves": took(2.0), "settings": {}}) is None


def test_time_left_comes_from_the_steps_that_were_tried_then_from_epochs() -> None:
    trial = {"by": "trial", "steps": 40, "step_s": 0.5}
    assert left({"estimate": trial}) == 20.0
    # Half of the bar of its training.
    assert left({"estimate": trial}, progress_done=79) == 10.0
    assert left({"estimate": trial, "curves": took(3.0, 3.0)}) == 24.0
    # One epoch that had to wait does not count, nor what was long ago.
    assert left({"curves": took(50.0, 50.0, 50.0, 2.0, 2.0, 90.0, 2.0, 2.0)}) == 4.0


def test_time_left_covers_both_stages() -> None:
    full = {"stage": "full", "data": counted(general=300, domain=100)}
    assert left({**full, "curves": took(6.0, phase="general")}) == 9 * 6 + 10 * 2
    # The first stage stopped early: only the second one is left.
    second = [*took(6.0, phase="general"), *took(1.0, phase="domain")]
    assert left({**full, "curves": second}) == pytest.approx(9 * 1.5)


def test_time_left_is_not_told_when_nobody_works_at_it_or_it_is_judged() -> None:
    known = {"curves": took(2.0)}
    assert left(known) == 18.0
    late = timezone.now() - dt.timedelta(seconds=1)
    for odd in ({"state": "queued"}, {"lease_until": late}, {"lease_until": None}, {"progress_done": 98}):
        assert left(known, **odd) is None
