"""What a run is made of and where it stands: its data, its limits, its progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ml.training.plan import Selection

PATIENCE = 6
CHECKPOINT_S = 20.0


@dataclass(frozen=True)
class Data:
    """One phase's items."""

    train: Selection
    val: Selection
    test: Selection


@dataclass(frozen=True)
class Limits:
    """``wall_s``: stop with the best so far after so many seconds; None is no limit."""

    wall_s: float | None = None
    patience: int = PATIENCE
    checkpoint_s: float = CHECKPOINT_S


@dataclass
class Progress:
    """Where a run stands: the JSON part of a checkpoint."""

    batch: int
    phase: int = 0
    epoch: int = 0
    seen: int = 0
    best: float | None = None
    waited: int = 0
    steps: int = 0
    loss_sum: float = 0.0
    cpu_s: float = 0.0
    gpu_s: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = "epochs"
