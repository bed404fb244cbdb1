"""One optimizer step after the other: what the loop does with a batch, alone or with other processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ml.training import distributed
from ml.training.objective import Objective, Phase, TrainingError

if TYPE_CHECKING:
    import torch

LARGEST_GRADIENT = 1.0
WEIGHT_DECAY = 0.01
#: Share of a phase in which the learning rate rises, and what is left of it at the end.
WARM_UP, LAST_RATE = 0.05, 0.02

_OPTIMIZER = "optimizer."


class OutOfMemory(RuntimeError):
    """A batch does not fit; nothing was changed by trying."""


def rate(done: float) -> float:
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
