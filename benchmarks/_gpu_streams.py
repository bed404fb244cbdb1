"""1 to 32 callers at once, one item each, through the product's batcher; and as many CUDA streams without it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from _gpu_device import failure, name, wait
from _gpu_networks import built, inputs
from _report import Line, sized

from ml.batching import Batcher

STREAMS = sized((1, 2, 4, 8, 16, 32), (1, 16))
CALLS = sized(200, 2)
TITLES = ("CLIP ViT-B/16 picture", "BERT-base, 128 tokens")
ARTICLE = 16

Call = Callable[[Any], Any]


def run() -> list[Line]:
    lines: list[Line] = []
    for title in TITLES:
        for precision in ("fp32", "fp16"):
            lines += _of(f"{title}, {precision}", built(title, precision), inputs(title, 1))
    return lines


def _of(title: str, network: Call, item: Any) -> list[Line]:
    lines, rates = [], {}
    for streams in STREAMS:
        with Batcher(lambda items: _batched(network, items), max_batch=32, max_wait_s=0.002) as batcher:
            rates[streams] = _callers(
                f"{title}, {streams} callers batched", streams, batcher.submit, item, lines
            )
    for streams in sized((1, 16, 32), (2,)):
        _callers(f"{title}, {streams} streams unbatched", streams, _alone(network), item, lines)
    if ARTICLE in rates:
        kept = rates[ARTICLE] > rates[1] > 0
        lines.append(Line(f"{title}: 16 at once, all answered, faster than 1", "yes" if kept else "no"))
    return lines


def _batched(network: Call, items: list[Any]) -> list[Any]:
    import torch

    with torch.inference_mode():
        return list(network(torch.cat(items)).float().cpu())


def _alone(network: Call) -> Call:
    """Each caller in a stream of its own, on the card at the same time."""
    import torch

    own = threading.local()

    def call(item: Any) -> Any:
        if name() != "cuda":
            return _batched(network, [item])[0]
        if not hasattr(own, "stream"):
            own.stream = torch.cuda.Stream()
        with torch.cuda.stream(own.stream):
            return _batched(network, [item])[0]

    return call


def _callers(title: str, callers: int, call: Call, item: Any, lines: list[Line]) -> float:
    """Items a second of ``callers`` that ask again and again; 0 where one of them failed."""
    waited: list[float] = []

    def ask(_: int) -> None:
        for _ in range(CALLS):
            start = time.perf_counter()
            call(item)
            waited.append(time.perf_counter() - start)

    try:
        for _ in range(3):
            call(item)
        wait()
        start = time.perf_counter()
        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(ask, range(callers)))
        passed = time.perf_counter() - start
    except Exception as error:
        lines.append(Line(title, failure(error)))
        return 0.0
    waited.sort()
    found = len(waited) / passed
    lines.append(Line(title, round(found, 1), "a second"))
    lines.append(Line("  waited, median", round(waited[len(waited) // 2] * 1000, 2), "ms"))
    lines.append(Line("  waited, 95 of 100", round(waited[int(len(waited) * 0.95)] * 1000, 2), "ms"))
    return found
