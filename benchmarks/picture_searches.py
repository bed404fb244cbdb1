"""What one workspace's looping searches by picture cost another's searches by text (`make bench-picture_searches`).

Four clients of a workspace search by the same file, one after the other, without a pause; another workspace searches by
texts that nobody has searched for. By kind of file: one as people upload it, and three that take long to decode.
"""

from __future__ import annotations

import io
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import requests
from _report import OUT, Line, Report, at_most, sized
from _slow import latencies, p99
from _stack import stack_in, start_django
from PIL import Image

CLIENTS, REQUESTS = 4, sized(200, 5)
SIDE = sized(6000, 60)
# Of another workspace's searches; wanted, and nowhere promised.
LIMIT_MS = 300.0
BUSY_PAUSE_S = 0.2


def files() -> Iterator[tuple[str, bytes]]:
    """Noise, which no format makes small."""
    chance = np.random.default_rng(0)
    large = Image.fromarray(chance.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    usual = large.crop((0, 0, SIDE // 8, SIDE // 10))
    square = large.crop((0, 0, SIDE * 2 // 3, SIDE * 2 // 3))
    yield "usual.jpg", _saved(usual, "JPEG", quality=80)
    yield "progressive.jpg", _saved(large, "JPEG", quality=60, progressive=True)
    yield "large.png", _saved(large, "PNG", compress_level=1)
    yield "large.webp", _saved(square, "WEBP", quality=50, method=0)


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    written = io.BytesIO()
    picture.save(written, kind, **options)
    return written.getvalue()


@contextmanager
def looping(url: str, key: str, name: str, content: bytes) -> Iterator[tuple[Counter[int], list[float]]]:
    """Clients that search by a picture again and again; what they were answered, and seconds of each."""
    done, answers, took = threading.Event(), Counter[int](), list[float]()

    def loop() -> None:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {key}"
        while not done.is_set():
            begun = time.perf_counter()
            status = session.post(url, files={"image": (name, content)}, timeout=120).status_code
            took.append(time.perf_counter() - begun)
            answers[status] += 1
            if status != 200:
                done.wait(BUSY_PAUSE_S)

    clients = [threading.Thread(target=loop) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield answers, took
    finally:
        done.set()
        for client in clients:
            client.join()


def text_search(url: str, key: str) -> Callable[[], requests.Response]:
    session, chance = requests.Session(), random.Random(0)
    session.headers["Authorization"] = f"Bearer {key}"
    return lambda: session.post(url, json={"text": f"a lamp {chance.random()}"}, timeout=60)


def run() -> tuple[list[Line], dict[str, object]]:
    from _search_load import create_tenant

    with stack_in(OUT / "picture_searches", demo=False) as stack:
        start_django(stack)
        looper, other = create_tenant("picture-loops"), create_tenant("text-searches")
        url = f"{stack.base_url}/api/v1/search"
        ask = text_search(url, other.key)
        latencies(ask, sized(20, 1))
        idle = latencies(ask, REQUESTS)
        lines = [Line("idle: p99", round(p99(idle), 1), "ms")]
        found: dict[str, object] = {"idle_ms": [idle[len(idle) // 2], p99(idle)]}
        for name, content in files():
            with looping(url, looper.key, name, content) as (answers, took):
                time.sleep(sized(2, 0))
                beside = latencies(ask, REQUESTS)
            lines += [
                at_most(f"beside {name} ({len(content) / 1e6:.1f} MB): p99", p99(beside), LIMIT_MS),
                Line("  median", round(beside[len(beside) // 2], 1), "ms"),
                Line("  a search by it", round(sum(took) / len(took), 2), "s"),
                Line("  its answers", ", ".join(f"{count} × {status}" for status, count in answers.items())),
            ]
            found[name] = {"beside_ms": beside, "answers": dict(answers)}
        return lines, found


def main() -> int:
    report = Report("picture_searches")
    measured = report.run("beside looping searches by picture", run)
    if measured is None:
        return report.finish({})
    lines, found = measured
    for line in lines:
        print(line.shown())
    report.judge("beside looping searches by picture", lines)
    return report.finish({"clients": CLIENTS, "requests": REQUESTS, **found})


if __name__ == "__main__":
    sys.exit(main())
