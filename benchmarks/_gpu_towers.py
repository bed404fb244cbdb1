"""Pictures and texts a second by precision and batch, and whether INT8 is three times as fast as fp32."""

from __future__ import annotations

import gc
from typing import Any

from _gpu_device import failure, name, rate
from _gpu_networks import NETWORKS, built, has_linear, inputs
from _report import TOY, Line, sized

BATCHES = sized((1, 16, 64, 256), (1, 2))


def run() -> list[Line]:
    lines: list[Line] = []
    for title in NETWORKS:
        best = {precision: _of(title, precision, lines) for precision in ("fp32", "fp16", "int8")}
        lines += _ratios(title, best)
    return lines


def _of(title: str, precision: str, lines: list[Line]) -> float:
    """The best rate over the batches, in rows a second; 0 where there is none."""
    if precision == "int8" and not has_linear(title):
        lines.append(Line(f"{title}, int8", "part runtimes"))
        return 0.0
    network = built(title, precision)
    found = [_measure(network, title, precision, rows, lines) for rows in BATCHES]
    if precision == "int8" and name() == "cuda" and not TOY:
        found.append(_compiled(network, title, lines))
    del network
    _forget()
    return max(found)


def _measure(network: Any, title: str, precision: str, rows: int, lines: list[Line]) -> float:
    import torch

    try:
        given = inputs(title, rows)
        with torch.inference_mode():
            found = rate(lambda: network(given)) * rows
    except Exception as error:
        lines.append(Line(f"{title}, {precision}, batch {rows}", failure(error)))
        _forget()
        return 0.0
    lines.append(Line(f"{title}, {precision}, batch {rows}", round(found, 1), "a second"))
    return found


def _compiled(network: Any, title: str, lines: list[Line]) -> float:
    """Eager INT8 reads and writes each activation four times; a compiler joins these steps. It needs Triton."""
    import torch

    return _measure(torch.compile(network, dynamic=False), title, "int8 compiled", BATCHES[-1], lines)


def _ratios(title: str, best: dict[str, float]) -> list[Line]:
    lines = []
    for precision in ("fp16", "int8"):
        if best[precision] and best["fp32"]:
            times = best[precision] / best["fp32"]
            lines.append(Line(f"{title}: {precision} to fp32, best batches", round(times, 2), "x"))
            if precision == "int8":
                lines.append(Line(f"{title}: INT8 three times as fast", "yes" if times >= 3 else "no"))
    return lines


def _forget() -> None:
    import torch

    gc.collect()
    if name() == "cuda":
        torch.cuda.empty_cache()
