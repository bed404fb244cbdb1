"""The training loop: epochs, early stopping, checkpoints, and what to do when something goes wrong.

A run is a walk over positions (phase, epoch, items seen). Everything that happens at one depends on nothing but the
weights there and the recipe's seed, so a run that was killed and goes on from a checkpoint ends where it would have.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ml.training import distributed
from ml.training.checkpoints import Checkpoint, Checkpoints
from ml.training.clock import Clock, Measured, Stopwatch, cpu_seconds
from ml.training.objective import PHASES, Objective, Phase, Recipe, TrainingError
from ml.training.progress import Data, Limits, Progress
from ml.training.stepping import OutOfMemory, Stepper, rate
from ml.training.stream import Batch, Order, prefetched

if TYPE_CHECKING:
    import torch

Report = Callable[..., None]

PROGRESS_S = 1.0
#: Steps that are measured for the estimate; the first one warms up and does not count.
MEASURED_STEPS = 4
LEAST_BATCH = 2


class Trainer:
    """Trains one objective; afterwards its module holds the best weights."""

    def __init__(
        self,
        objective: Objective,
        data: Mapping[Phase, Data],
        report: Report,
        checkpoints: Checkpoints,
        limits: Limits | None = None,
    ) -> None:
        self.objective, self.data, self.report = objective, data, report
        self.recipe: Recipe = objective.recipe
        self.checkpoints, self.limits = checkpoints, limits or Limits()
        self.phases = PHASES[self.recipe.stage]
        self.progress = Progress(batch=self.recipe.batch)
        self._best: dict[str, torch.Tensor] = {}
        self._started = time.perf_counter()
        self._cpu_before = cpu_seconds()
        self._saved_at = self._told_at = time.perf_counter()

    def run(self, estimate_only: bool = False) -> Progress:
        """Prepare, resume or start, train. Raises TrainingError; the last good checkpoint then stays."""
        device = distributed.device()
        self.objective.device, self.objective.data = device, self.data
        self.clock = Clock(device)
        self.objective.prepare(self.data[self.phases[0]].train, device)
        self._names = self._touched()
        resumed = self._resumed()
        if resumed is None:
            self._estimate()
        if not estimate_only:
            for index in range(self.progress.phase, len(self.phases)):
                self._run_phase(self.phases[index], resumed)
                resumed = None
        self.settle()
        return self.progress

    def _run_phase(self, phase: Phase, resumed: Checkpoint | None) -> None:
        progress = self.progress
        stepper = Stepper(self.objective, phase)
        self.clock.start_epoch()
        self._saved_at = time.perf_counter()
        if not progress.epoch and not progress.seen:
            self._judge(phase, 0, {})
        while progress.epoch < self.recipe.epochs and progress.waited < self.limits.patience:
            self._run_epoch(stepper, phase, resumed)
            resumed = None
            if progress.stopped == "time":
                break
        if progress.waited >= self.limits.patience:
            progress.stopped = "early"
        self._load(self._best)
        progress.phase, progress.epoch, progress.seen = progress.phase + 1, 0, 0
        progress.waited, progress.best = 0, None
        self._save(None)

    def _run_epoch(self, stepper: Stepper, phase: Phase, resumed: Checkpoint | None) -> None:
        progress = self.progress
        self.clock.start_epoch()
        self._enter(stepper, phase, resumed)
        while not self._batches(stepper, phase):
            self._halve()
        figures = {"loss": progress.loss_sum / max(progress.steps, 1), **self._figures}
        progress.epoch, progress.seen, progress.steps, progress.loss_sum = progress.epoch + 1, 0, 0, 0.0
        self._judge(phase, progress.epoch, figures)
        if time.perf_counter() - self._saved_at >= self.limits.checkpoint_s:
            self._save(stepper)

    def _enter(self, stepper: Stepper, phase: Phase, resumed: Checkpoint | None) -> None:
        """Stand at the epoch's start, or in its middle with everything as it was there."""
        if resumed and (start := _part(resumed.tensors, "start.")):
            self._load(start)
        self._start = self._snapshot()
        with self.clock.work():
            self.objective.begin_epoch(self.data[phase].train, phase, self.progress.epoch, self.recipe.epochs)
        self._figures: dict[str, float] = {}
        if resumed:
            self._load(_part(resumed.tensors, "model."))
            stepper.load_state(resumed.tensors)

    def _batches(self, stepper: Stepper, phase: Phase) -> bool:
        """Step through the rest of the epoch; False when memory was too short for a batch."""
        for batch in prefetched(self.data[phase].train, self._order(), self.objective.collate):
            if not self._step(stepper, phase, batch):
                return False
            self._tell()
            if time.perf_counter() - self._saved_at >= self.limits.checkpoint_s:
                self._save(stepper)
            if self._out_of_time():
                self.progress.stopped = "time"
                self.report("warning", code="time_limit", detail="The time is up: the best so far is kept.")
                break
        return True

    def _step(self, stepper: Stepper, phase: Phase, batch: Batch) -> bool:
        progress = self.progress
        done = (progress.epoch + progress.seen / len(self.data[phase].train)) / self.recipe.epochs
        try:
            with self.clock.work():
                loss, self._figures = stepper.step(batch.content, rate(done), self._seed(batch))
        except OutOfMemory:
            return False
        except TrainingError as error:
            raise self._located(error, batch, stepper) from error
        progress.seen, progress.steps = batch.seen, progress.steps + 1
        progress.loss_sum += loss
        return True

    def _order(self) -> Order:
        progress = self.progress
        seed = (self.recipe.seed, progress.phase, progress.epoch)
        place = distributed.rank(), distributed.world()
        return Order(seed, progress.batch, progress.seen, self.objective.buffer, *place)

    def _seed(self, batch: Batch) -> int:
        progress = self.progress
        return hash((self.recipe.seed, progress.phase, progress.epoch, batch.seen)) & 0x7FFF_FFFF

    def _judge(self, phase: Phase, epoch: int, figures: Mapping[str, float]) -> None:
        """Validate, keep the best weights, and put a point on the curve."""
        with self.clock.work():
            found = self.objective.validate(self.data[phase].val) if distributed.rank() == 0 else {}
        found = distributed.agreed(found)
        primary = found["primary"]
        progress = self.progress
        better = progress.best is None or primary > progress.best
        if better:
            progress.best, self._best = primary, self._snapshot()
        progress.waited = 0 if better else progress.waited + 1
        took, busy = self.clock.end_epoch()
        point = {"phase": phase, "epoch": epoch, "best": better, **figures, "validation": found}
        point |= {"wall_s": round(took, 3), "busy": round(busy, 4)}
        progress.history.append(point)
        self.report("curve", **point)

    def _halve(self) -> None:
        progress = self.progress
        if distributed.world() > 1 or progress.batch // 2 < LEAST_BATCH:
            detail = f"Memory does not suffice for a batch of {progress.batch}; choose a smaller batch."
            raise TrainingError("out_of_memory", detail)
        progress.batch //= 2
        detail = f"Memory was too short: training goes on with batches of {progress.batch}."
        self.report("warning", code="out_of_memory", detail=detail, batch=progress.batch)

    def _located(self, error: TrainingError, batch: Batch, stepper: Stepper) -> TrainingError:
        """The same error with the batch it happened in; the weights before that batch are kept."""
        number, epoch = self.progress.steps + 1, self.progress.epoch + 1
        kept = self._save(stepper)
        names = ", ".join(batch.keys[:5]) + (", …" if len(batch.keys) > 5 else "")
        detail = f"Batch {number} of epoch {epoch} ({names}): {error}. "
        return TrainingError(error.code, detail + f"The weights before it are kept in checkpoint {kept}.")

    def _out_of_time(self) -> bool:
        # With several processes each would come to its own answer; there the caller's patience is the limit.
        limit = self.limits.wall_s if distributed.world() == 1 else None
        return limit is not None and time.perf_counter() - self._started > limit

    # --- Before, between and after ---------------------------------------------------------------------------

    def _estimate(self) -> None:
        """Measure a few steps and a validation, undo them, and tell what the run will cost at most."""
        before = self._snapshot()
        while (measured := self._measured()) is None:
            self._halve()
        self._load(before)
        sizes = [-(-len(self.data[phase].train) // self.progress.batch) for phase in self.phases]
        self.report("estimate", **measured.of_all(sizes, self.recipe.epochs, self.clock.gpu))

    def _measured(self) -> Measured | None:
        """None when memory was too short for a batch."""
        phase = self.phases[0]
        stepper, train = Stepper(self.objective, phase), self.data[phase].train
        prepared_s = time.perf_counter() - self._started
        self.objective.begin_epoch(train, phase, 0, self.recipe.epochs)
        stopwatch = Stopwatch()
        for batch in prefetched(train, self._order(), self.objective.collate):
            try:
                stepper.step(batch.content, 0.0, self._seed(batch))
            except OutOfMemory:
                return None
            except TrainingError as error:
                raise self._located(error, batch, stepper) from error
            if stopwatch.lap() == MEASURED_STEPS:
                break
        start = time.perf_counter()
        self.objective.validate(self.data[phase].val)
        return Measured(prepared_s, *stopwatch.mean(), time.perf_counter() - start)

    def _tell(self) -> None:
        if time.perf_counter() - self._told_at < PROGRESS_S:
            return
        self._told_at = time.perf_counter()
        progress = self.progress
        sizes = [len(self.data[phase].train) * self.recipe.epochs for phase in self.phases]
        here = len(self.data[self.phases[progress.phase]].train) * progress.epoch + progress.seen
        self.report("progress", done=sum(sizes[: progress.phase]) + here, total=sum(sizes))

    def settle(self) -> None:
        """Add what this process took since the last count to what those before it took."""
        now, progress = cpu_seconds(), self.progress
        progress.cpu_s += now - self._cpu_before
        self._cpu_before = now
        if self.clock.gpu:
            progress.gpu_s += self.clock.total_s
            self.clock.total_s = 0.0

    # --- Weights ---------------------------------------------------------------------------------------------

    def _touched(self) -> set[str]:
        """Names of all that any phase may change: what a checkpoint has to hold."""
        module = self.objective.module
        by_id = {id(one): name for name, one in module.named_parameters()}
        names = set(module.state_dict()) - set(by_id.values())
        for phase in self.phases:
            for group in self.objective.parameter_groups(phase):
                names |= {by_id[id(one)] for one in group["params"]}
        return names

    def _snapshot(self) -> dict[str, torch.Tensor]:
        state = self.objective.module.state_dict()
        return {name: state[name].detach().clone() for name in sorted(self._names)}

    def _load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        if tensors:
            self.objective.module.load_state_dict(dict(tensors), strict=False)

    def _resumed(self) -> Checkpoint | None:
        found = distributed.agreed(self.checkpoints.latest(self._fits) if distributed.rank() == 0 else None)
        if found is None:
            return None
        self.progress = Progress(**found.state["progress"])
        self._best = _part(found.tensors, "best.")
        self._load(_part(found.tensors, "model."))
        place = self.progress
        self.report("resumed", phase=place.phase, epoch=place.epoch, seen=place.seen)
        return found

    def _save(self, stepper: Stepper | None) -> str:
        """Write a checkpoint of this position, with the optimizer if a phase is under way; its name."""
        self._saved_at = time.perf_counter()
        if distributed.rank():
            return ""
        self.settle()
        tensors = {f"model.{name}": one for name, one in self._snapshot().items()}
        tensors |= {f"best.{name}": one for name, one in self._best.items()}
        if stepper:
            tensors |= stepper.state()
            if self.progress.seen:
                tensors |= {f"start.{name}": one for name, one in self._start.items()}
        path = self.checkpoints.save(
            Checkpoint(tensors, {**self._identity(), "progress": asdict(self.progress)})
        )
        self.report("checkpoint", name=path.name, epoch=self.progress.epoch, seen=self.progress.seen)
        return path.name

    def _fits(self, state: dict[str, Any]) -> bool:
        return {name: state.get(name) for name in self._identity()} == self._identity()

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with: the recipe and the data."""
        recipe = {name: str(value) for name, value in asdict(self.recipe).items()}
        plans = {phase: self.data[phase].train.plan.digest for phase in self.phases}
        return {"recipe": recipe, "plans": plans}


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
