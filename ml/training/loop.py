"""The training loop: epochs, early stopping, checkpoints, and what to do when something goes wrong.

A run is a walk over positions (phase, epoch, items seen). Everything that happens at one depends on nothing but the
weights there and the recipe's seed, so a run that was killed and goes on from a checkpoint ends where it would have.
"""

from __future__ import annotations

import hashlib
import math
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.training import distributed
from ml.training.checkpoints import Checkpoint, Checkpoints
from ml.training.objective import PHASES, Objective, Phase, Recipe
from ml.training.plan import Data, Limits, Progress, TrainingError
from ml.training.stream import Batch, Order, prefetched

if TYPE_CHECKING:
    import torch

#: In the folder of a space, with the digests of its files.
MANIFEST = "manifest.json"

# --- Clock -----------------------------------------------------------------------------------------------
# What training takes: seconds of the processor and the GPU, and how much of an epoch the device is at work.


def cpu_seconds() -> float:
    """Of this process and the children that it waited for, user and system."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Clock:
    """Time at work on one device. On a GPU its own events count: that the host waits for it proves nothing."""

    def __init__(self, device: str) -> None:
        self.gpu = device.startswith("cuda")
        self.total_s = 0.0
        self._events: list[tuple[Any, Any]] = []
        self.start_epoch()

    def start_epoch(self) -> None:
        self._begun, self._busy = time.perf_counter(), 0.0

    @contextmanager
    def work(self) -> Iterator[None]:
        """Around everything that keeps the device busy: steps and validation."""
        if self.gpu:
            with self._recorded():
                yield
            return
        start = time.perf_counter()
        try:
            yield
        finally:
            self._busy += time.perf_counter() - start

    def end_epoch(self) -> tuple[float, float]:
        """Seconds of the epoch, and the share of them at work."""
        if self.gpu:
            self._settle()
        took = time.perf_counter() - self._begun
        self.total_s += self._busy
        return took, self._busy / took if took else 0.0

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        import torch

        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        try:
            yield
        finally:
            end.record()
            self._events.append((begin, end))

    def _settle(self) -> None:
        import torch

        torch.cuda.synchronize()
        self._busy += sum(begin.elapsed_time(end) for begin, end in self._events) / 1000
        self._events = []


class Stopwatch:
    """Laps on the wall and of the processor; the first one does not count when there are more."""

    def __init__(self) -> None:
        self._laps = [(time.perf_counter(), cpu_seconds())]

    def lap(self) -> int:
        """How many there were."""
        self._laps.append((time.perf_counter(), cpu_seconds()))
        return len(self._laps) - 1

    def mean(self) -> tuple[float, float]:
        """Seconds of a lap: wall, processor."""
        first = 1 if len(self._laps) > 2 else 0
        counted = max(len(self._laps) - 1 - first, 1)
        wall, cpu = (
            (end - begin) / counted for begin, end in zip(self._laps[first], self._laps[-1], strict=True)
        )
        return wall, cpu


@dataclass(frozen=True)
class StepTimes:
    """What a run took before its first epoch, in seconds; a step with the reading of its batch."""

    prepared_s: float
    step_s: float
    step_cpu_s: float
    validation_s: float

    def of_all(self, steps_an_epoch: list[int], epochs: int, gpu: bool) -> dict[str, Any]:
        """The whole run at most (stopping early takes less), one number of steps for each phase."""
        steps = epochs * sum(steps_an_epoch)
        validations = (epochs + 1) * len(steps_an_epoch)
        wall_s = self.prepared_s + steps * self.step_s + validations * self.validation_s
        share = self.step_cpu_s / max(self.step_s, 1e-9)
        return {
            "wall_s": round(wall_s, 1),
            "cpu_s": round(wall_s * share, 1),
            "gpu_s": round(wall_s, 1) if gpu else 0.0,
            "steps": steps,
            "step_s": round(self.step_s, 4),
        }


# --- Steps -----------------------------------------------------------------------------------------------
# One optimizer step after the other: what the loop does with a batch, alone or with other processes.


LARGEST_GRADIENT = 1.0
WEIGHT_DECAY = 0.01
#: Share of a phase in which the learning rate rises, and what is left of it at the end.
WARM_UP, LAST_RATE = 0.05, 0.02

_OPTIMIZER = "optimizer."


class OutOfMemory(RuntimeError):
    """A batch does not fit; nothing was changed by trying."""


def learning_rate_factor(done: float) -> float:
    """The learning rate's factor after the share ``done`` (0..1) of a phase: linear up, then a cosine down."""
    if done < WARM_UP:
        return max(done, WARM_UP / 10) / WARM_UP
    along = (done - WARM_UP) / (1 - WARM_UP)
    return LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * min(along, 1.0))) / 2


class Stepper:
    """The optimizer of one phase, and with several processes the wrapper (DDP) that averages gradients."""

    def __init__(self, objective: Objective, phase: Phase) -> None:
        import torch

        self.objective = objective
        groups = _usable(objective.parameter_groups(phase))
        self._rates = [group["lr"] for group in groups]
        self.parameters: list[torch.nn.Parameter] = [one for group in groups for one in group["params"]]
        _thaw(objective.module, self.parameters)
        self.optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
        self._forward = _forward(objective)

    def step(self, batch: Any, factor: float, seed: int) -> tuple[float, dict[str, float]]:
        """One step with the learning rate times ``factor``; the loss and the objective's figures.

        Raises OutOfMemory, and TrainingError(``not_finite``) without having changed a weight.
        """
        import torch

        torch.manual_seed(seed)
        self.optimizer.zero_grad(set_to_none=True)
        try:
            loss = self._forward(_moved(batch, self.objective.device))
            loss.backward()
        except (MemoryError, RuntimeError) as error:
            if not _is_memory(error):
                raise
            self.optimizer.zero_grad(set_to_none=True)
            raise OutOfMemory(str(error).splitlines()[0]) from error
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, LARGEST_GRADIENT)
        value = float(loss.detach())
        if not math.isfinite(float(norm)) or not (math.isfinite(value) or distributed.world() > 1):
            raise TrainingError("not_finite", f"the loss is {value}, the norm of its gradient {float(norm)}")
        for group, lr in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = lr * factor
        self.optimizer.step()
        return value, self._forward_figures()

    def state(self) -> dict[str, torch.Tensor]:
        """The optimizer's moments under the names of their parameters."""
        names = _names(self.objective.module)
        states = self.optimizer.state.items()
        return {
            f"{_OPTIMIZER}{names[id(one)]}/{key}": value
            for one, kept in states
            for key, value in kept.items()
        }

    def load_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """What ``state`` gave, among other tensors."""
        by_name = dict(self.objective.module.named_parameters())
        for name, tensor in tensors.items():
            if name.startswith(_OPTIMIZER):
                parameter, _, key = name.removeprefix(_OPTIMIZER).rpartition("/")
                one = by_name[parameter]
                # The count of steps stays on the CPU, as AdamW itself keeps it.
                self.optimizer.state[one][key] = tensor if key == "step" else tensor.to(one.device)

    def _forward_figures(self) -> dict[str, float]:
        module = getattr(self._forward, "module", self._forward)
        return dict(module.figures)


def _usable(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    listed = [{**group, "params": list(group["params"])} for group in groups]
    filled = [group for group in listed if group["params"]]
    if not filled:
        raise TrainingError("nothing_to_train", "The objective has no parameter to train in this phase.")
    return filled


def _thaw(module: torch.nn.Module, parameters: list[torch.nn.Parameter]) -> None:
    wanted = {id(one) for one in parameters}
    for one in module.parameters():
        one.requires_grad_(id(one) in wanted)


def _names(module: torch.nn.Module) -> dict[int, str]:
    return {id(one): name for name, one in module.named_parameters()}


def _forward(objective: Objective) -> Any:
    """The loss as a module, so that DDP sees its forward and its parameters."""
    import torch

    class Loss(torch.nn.Module):
        figures: dict[str, float]

        def __init__(self) -> None:
            super().__init__()
            self.trained = objective.module
            self.figures = {}

        def forward(self, batch: Any) -> torch.Tensor:
            loss, self.figures = objective.loss(batch)
            return loss

    if distributed.world() == 1:
        return Loss()
    # Modality dropout leaves parameters without a gradient in some batches.
    return torch.nn.parallel.DistributedDataParallel(Loss(), find_unused_parameters=True)


def _moved(value: Any, device: str) -> Any:
    if device == "cpu":
        return value
    if hasattr(value, "to"):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {name: _moved(one, device) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_moved(one, device) for one in value)
    return value


def _is_memory(error: BaseException) -> bool:
    """True for what CUDA, the CPU allocator and Python say when memory is short."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in words or "can't allocate memory" in words


# --- Loop ------------------------------------------------------------------------------------------------


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
        self.clock.start_epoch()
        self._saved_at = time.perf_counter()
        if not progress.epoch and not progress.seen:
            self._judge(phase, 0, {})
        if self.objective.gradients:
            self._run_epochs(phase, resumed)
        if progress.waited >= self.limits.patience:
            progress.stopped = "early"
        self._load(self._best)
        progress.phase, progress.epoch, progress.seen = progress.phase + 1, 0, 0
        progress.waited, progress.best = 0, None
        self._save(None)

    def _run_epochs(self, phase: Phase, resumed: Checkpoint | None) -> None:
        progress, stepper = self.progress, Stepper(self.objective, phase)
        while progress.epoch < self.recipe.epochs and progress.waited < self.limits.patience:
            self._run_epoch(stepper, phase, resumed)
            resumed = None
            if progress.stopped == "time":
                break

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
                loss, self._figures = stepper.step(
                    batch.content, learning_rate_factor(done), self._seed(batch)
                )
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
        found = distributed.broadcast(found)
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
        if not self.objective.gradients:
            self._tell_solved()
            return
        before = self._snapshot()
        while (measured := self._measured()) is None:
            self._halve()
        self._load(before)
        sizes = [-(-len(self.data[phase].train) // self.progress.batch) for phase in self.phases]
        self.report("estimate", **measured.of_all(sizes, self.recipe.epochs, self.clock.gpu))

    def _tell_solved(self) -> None:
        """Without steps nearly all has been done by now."""
        wall_s, cpu_s = time.perf_counter() - self._started, cpu_seconds() - self._cpu_before
        told = {"wall_s": round(wall_s, 1), "cpu_s": round(cpu_s, 1), "gpu_s": 0.0, "steps": 0, "step_s": 0.0}
        self.report("estimate", **told)

    def _measured(self) -> StepTimes | None:
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
        return StepTimes(prepared_s, *stopwatch.mean(), time.perf_counter() - start)

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
        found = distributed.broadcast(
            self.checkpoints.latest(self._fits) if distributed.rank() == 0 else None
        )
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
        found = {name: state.get(name) for name in self._identity()}
        recipe = {name: str(value) for name, value in asdict(self.recipe).items()}
        # Those of former releases name the folder of the base.
        return found in (self._identity(), {**self._identity(), "recipe": recipe})

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with: the recipe and the data, on whatever host they lie."""
        told = {**asdict(self.recipe), "base": _content_of(self.recipe.base)}
        recipe = {name: str(value) for name, value in told.items()}
        plans = {phase: self.data[phase].train.plan.digest for phase in self.phases}
        return {"recipe": recipe, "plans": plans}


def _content_of(base: Path | None) -> str | None:
    """The digest of the manifest of a base, which holds those of its files; where it lies says nothing."""
    if base is None:
        return None
    if not (base / MANIFEST).is_file():
        return str(base)
    return hashlib.sha256((base / MANIFEST).read_bytes()).hexdigest()


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
