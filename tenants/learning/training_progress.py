"""What a training tells while it runs, noted on its model: quality, estimate, curves, warnings; and its progress."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, Protocol

from django.utils import timezone

from tenants.jobs.models import Job
from tenants.learning.trainer import Event

if TYPE_CHECKING:
    from tenants.learning.models import LearntModel

#: Of the progress bar: pictures that were looked at, and trained; the rest is for judging and keeping.
LOOKED, TRAINED, STEPS = 60, 98, 100
REPORT_S = 1.0
#: Epochs of late that tell how long the rest takes.
RECENT = 5
#: Points of a curve and warnings that are kept.
MAX_POINTS, MAX_WARNINGS = 1_000, 50


class ProgressStore(Protocol):
    """Where it is written. Both raise LeaseLost, `progress` also Cancelled."""

    curves: list[dict[str, object]]
    data: dict[str, Any]

    def store(self, **values: object) -> None: ...
    def progress(self, done: int, *, renew: bool = False) -> None: ...


class TrainingProgress:
    """Takes the events of one training. Writes at most once in REPORT_S, and looks as often whether to go on."""

    def __init__(self, sheet: ProgressStore) -> None:
        self.sheet = sheet
        self.done = LOOKED
        self.renew = False
        self.changed: set[str] = set()
        self.told_at = 0.0

    def report(self, event: Event | None) -> None:
        if event is not None:
            self._apply(event)
        if time.monotonic() - self.told_at >= REPORT_S:
            self.flush()

    def flush(self) -> None:
        """Write what has changed. Raises LeaseLost, Cancelled."""
        self.told_at = time.monotonic()
        if self.changed:
            self.sheet.store(**{name: getattr(self.sheet, name) for name in sorted(self.changed)})
            self.changed.clear()
        self.sheet.progress(self.done, renew=self.renew)
        self.renew = False

    def _apply(self, event: Event) -> None:
        kind, body = event["event"], {name: value for name, value in event.items() if name != "event"}
        if kind == "progress":
            share = body["done"] / max(1, body["total"])
            self.done = max(self.done, LOOKED + round(share * (TRAINED - LOOKED)))
        elif kind == "curve":
            self.sheet.curves = thinned([*curve_before(self.sheet.curves, body), body])
            self.changed.add("curves")
        elif kind == "quality":
            self._set_data("quality", {**self.sheet.data.get("quality", {}), body.pop("phase"): body})
        elif kind == "warning":
            self._set_data("warnings", [*self.sheet.data.get("warnings", []), body][-MAX_WARNINGS:])
        elif kind == "estimate":
            self.sheet.store(estimate={**body, "by": "trial"})
        # A checkpoint: only tries that came no further may end as a dead letter.
        self.renew = self.renew or kind == "checkpoint"

    def _set_data(self, name: str, value: Any) -> None:
        self.sheet.data = {**self.sheet.data, name: value}
        self.changed.add("data")


def curve_before(points: list[dict[str, object]], point: dict[str, object]) -> list[dict[str, object]]:
    """The curve up to a point: after a resume from a checkpoint some points come a second time."""
    place = _position(point)
    return [one for one in points if _position(one) < place]


def _position(point: dict[str, Any]) -> tuple[bool, int]:
    return point.get("phase") == "domain", int(point.get("epoch", 0))


def thinned(points: list[dict[str, object]]) -> list[dict[str, object]]:
    """Every second point of a curve that has become too long; the last one always."""
    return points if len(points) <= MAX_POINTS else [*points[:-1:2], points[-1]]


# --- How long it still takes -----------------------------------------------------------------------------


def time_left_s(model: LearntModel, job: Job) -> float | None:
    """Seconds that the epochs of a training still take at most, by how long its last ones took, or the steps that were
    tried; None before either is known, when they are over, and while nobody works at it."""
    if job.state != Job.State.RUNNING or job.lease_until is None or job.lease_until < timezone.now():
        return None
    sizes, epochs = _items(model), model.settings.get("epochs")
    if not sizes or not isinstance(epochs, int) or not LOOKED <= job.progress_done < TRAINED:
        return None
    total = epochs * sum(sizes.values())
    if (pace := _seconds_an_item(model, sizes, total)) is None:
        return None
    told = (job.progress_done - LOOKED) / (TRAINED - LOOKED) * total
    return max(0.0, total - max(told, _seen(model, sizes, epochs))) * pace


def _items(model: LearntModel) -> dict[str, int]:
    """Pairs that an epoch goes through, by phase in their order; empty before they were counted."""
    phases = ("general", "domain") if model.stage == model.Stage.FULL else ("adapt",)
    found = {phase: _train_split(model.data.get("quality", {}).get(phase)) for phase in phases}
    return found if all(found.values()) else {}


def _train_split(quality: Any) -> int:
    splits = quality.get("splits") if isinstance(quality, dict) else None
    return int(splits.get("train", 0)) if isinstance(splits, dict) else 0


def _seen(model: LearntModel, sizes: dict[str, int], epochs: int) -> int:
    """Items behind the last point. A phase that stopped early counts whole: what is left of it is not done."""
    if not model.curves or (last := model.curves[-1]).get("phase") not in sizes:
        return 0
    before = list(sizes)[: list(sizes).index(last["phase"])]
    return epochs * sum(sizes[one] for one in before) + int(last.get("epoch", 0)) * sizes[last["phase"]]


def _seconds_an_item(model: LearntModel, sizes: dict[str, int], total: int) -> float | None:
    took = [
        one["wall_s"] / sizes[one["phase"]]
        for one in model.curves
        if one.get("epoch") and one.get("phase") in sizes and one.get("wall_s")
    ]
    if took:
        return statistics.median(took[-RECENT:])
    steps, step_s = model.estimate.get("steps"), model.estimate.get("step_s")
    return steps * step_s / total if steps and step_s else None
