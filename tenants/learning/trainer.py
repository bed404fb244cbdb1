"""The process that trains: started, followed line by line, killed when nobody wants its result any more.

What it printed last tells how it ended.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

from django.conf import settings

from ml import sandbox
from ml.compression import model_places
from tenants.errors import Conflict
from tenants.jobs import processes

RUN = "run.json"
# Variables that choose and tune graphics cards and encoders.
DEVICES: tuple[str, ...] = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
    "HIP_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
)
DEVICES += ("PYTORCH_CUDA_ALLOC_CONF", "NCCL_DEBUG", "NCCL_P2P_DISABLE", "NCCL_SOCKET_IFNAME")
DEVICES += ("CROSSLIGHT_ENCODER_THREADS", "CROSSLIGHT_ONNX_PROVIDERS", "CROSSLIGHT_ONNX_DEVICE")
DEVICES += ("CROSSLIGHT_ONNX_FP16", "CROSSLIGHT_ONNX_MEMORY_BYTES")
# The code of an error that another attempt may not meet.
PASSING = "failed"

Event = dict[str, Any]


class TrainingRefused(Conflict):
    """The trainer said why there is no model; the same data and settings would bring the same."""

    title = "The training ended without a model"

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = code.replace("_", "-")


@dataclass(frozen=True)
class Trained:
    """The last event, and what the process took."""

    result: Event
    peak_mb: float


class Ended(Protocol):
    """Told what a process took that ended without a result."""

    def __call__(self, cpu_s: float) -> None: ...


def train(
    folder: Path, recipe: dict[str, Any], told: Callable[[Event | None], None], in_vain: Ended
) -> Trained:
    """Run the recipe in `folder` to its end. `told` gets each event, and None about every second.

    Whatever `told` raises ends the process. Raises TrainingRefused, and RuntimeError where it died without a word.
    """
    (folder / RUN).write_text(json.dumps(recipe))
    command = [sys.executable, "-m", "ml.training", "run", "--confined", str(folder)]
    threads = str(settings.LEARNING_THREADS)
    env = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TMPDIR": str(folder)}
    env |= model_places() | sandbox.kept(*DEVICES)
    last: Event = {}
    with processes.running(command, folders=[folder], env=env) as child:
        try:
            for event in _events(child):
                told(event)
                last = event or last
        except BaseException:
            child.end()
            in_vain(child.cpu_s)
            raise
    if child.status or last.get("event") != "result":
        in_vain(child.cpu_s)
        _refuse(child.status, last)
    return Trained(last, child.peak_mb)


def _events(child: processes.Child) -> Iterator[Event | None]:
    """Its events; libraries print, too."""
    for line in child.lines():
        if line is None or "event" in line:
            yield line


def _refuse(status: int | None, last: Event) -> NoReturn:
    if last.get("event") == "error" and last["code"] != PASSING:
        raise TrainingRefused(str(last["code"]), str(last["detail"]))
    # Killed, out of room, or a fault of its own: another attempt may fare better.
    raise RuntimeError(f"the trainer ended with status {status}: {last.get('detail', 'it said nothing')}")
