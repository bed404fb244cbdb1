"""Several processes of one run (torchrun): who am I, and negatives from all of them. One process needs no set-up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


_alone = False


def world() -> int:
    """How many processes train together."""
    return 1 if _alone else int(os.environ.get("WORLD_SIZE") or 1)


def rank() -> int:
    """Which of them this is; 0 speaks, validates and writes."""
    return 0 if _alone else int(os.environ.get("RANK") or 0)


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process trains by itself whatever the others do: what only process 0 does at the end of a run."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def device() -> str:
    """``cuda:<n>`` where there is a GPU for this process, else ``cpu``."""
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK') or 0) % torch.cuda.device_count()}"


@contextmanager
def process_group() -> Iterator[None]:
    """Inside, the processes that torchrun started can reach each other (NCCL between GPUs, else gloo)."""
    if world() == 1:
        yield
        return
    import torch.distributed as dist

    where = device()
    if where != "cpu":
        import torch

        torch.cuda.set_device(where)
    dist.init_process_group("gloo" if where == "cpu" else "nccl")
    try:
        yield
    finally:
        dist.destroy_process_group()


def gather(rows: torch.Tensor) -> torch.Tensor:
    """The rows [n, …] of all processes in order of rank: [world * n, …]. Gradients flow back to whose rows they are."""
    return _gather().apply(rows) if world() > 1 else rows


def first_row(count: int) -> int:
    """Where this process's ``count`` rows begin in what ``gather`` gives."""
    return rank() * count


def broadcast(value: Any) -> Any:
    """What process 0 has, in all of them: decisions that all must take alike."""
    if world() == 1:
        return value
    import torch.distributed as dist

    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


_function: Any = None


def _gather() -> Any:
    # Made at the first call: the class needs torch, and this module is imported without it.
    global _function
    if _function is None:
        _function = _make_gather()
    return _function


def _make_gather() -> Any:
    import torch
    import torch.distributed as dist

    class Gather(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, rows: torch.Tensor) -> torch.Tensor:
            context.count = len(rows)
            parts = [torch.empty_like(rows) for _ in range(world())]
            dist.all_gather(parts, rows.contiguous())
            return torch.cat(parts)

        @staticmethod
        def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
            total = gradient.contiguous()
            dist.all_reduce(total)
            return total[first_row(context.count) :][: context.count]

    return Gather
