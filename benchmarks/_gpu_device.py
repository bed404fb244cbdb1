"""Where `make bench-gpu` runs, what that is, and how calls are timed there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

from _report import sized

NOT_INSTALLED = "not installed"
NEEDED = ("torch", "transformers", "timm")
#: How long a figure is measured, after as many calls to warm up.
SECONDS, WARM = sized(2.0, 0.0), sized(5, 1)


def find() -> tuple[str | None, str]:
    """The device (``cuda``, or what DEVICE names), and where there is none, why."""
    if absent := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        return None, f"{', '.join(absent)} {NOT_INSTALLED}"
    wanted = os.environ.get("DEVICE") or "cuda"
    if wanted not in ("cuda", "cpu"):
        return None, f"DEVICE is cuda or cpu, not {wanted!r}"
    if wanted == "cuda":
        import torch

        if not torch.version.cuda:
            return None, f"this torch ({torch.__version__}) is built without CUDA"
        if not torch.cuda.is_available():
            return None, "there is no graphics card that CUDA can use"
    return wanted, ""


def name() -> str:
    wanted, _ = find()
    return wanted or "cpu"


def describe(wanted: str) -> dict[str, str]:
    """The card, its memory, its driver and the libraries."""
    import torch

    found = {"torch": torch.__version__}
    if wanted == "cuda":
        card = torch.cuda.get_device_properties(0)
        capability = f"{card.major}.{card.minor}"
        found = {
            "card": card.name,
            "GiB": f"{card.total_memory / 2**30:.0f}",
            "capability": capability,
            "driver": _driver(),
            "CUDA": str(torch.version.cuda),
            "cuDNN": str(torch.backends.cudnn.version()),
            **found,
        }
    else:
        found = {"card": "none (DEVICE=cpu)", **found}
    return found


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def wait() -> None:
    """Until the card has done what it was asked for."""
    import torch

    if name() == "cuda":
        torch.cuda.synchronize()


def rate(call: Callable[[], Any]) -> float:
    """Calls a second, the card's work included."""
    for _ in range(WARM):
        call()
    wait()
    start, calls = time.perf_counter(), 0
    while True:
        call()
        wait()
        calls += 1
        passed = time.perf_counter() - start
        if passed >= SECONDS:
            return calls / passed


def failure(error: BaseException) -> str:
    """The first line of what went wrong, for a table."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:100]
