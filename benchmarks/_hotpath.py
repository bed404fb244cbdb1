"""Where the time of one search by vector goes, and how many a second there are beside an empty view (GET /healthz).

The steps are the server's own (`explain`), each a median; what lies around them is the way through server, bridge and
middleware, which the empty view pays, too. Processor time is that of the web process and that of the whole stack with
its databases.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _search_client import write_requests
from _search_http import SectionFailed, Wire, message, vector_body, web_cpu
from _search_http import measure as send_all
from _stack import cpu_seconds
from numpy.typing import NDArray

from standalone.stack import Stack

CLIENTS = (1, 8)
SECONDS = 5.0
WARM = 100


def measure(stack: Stack, key: str, vectors: NDArray[np.float32]) -> dict[str, Any]:
    """Measure with these query vectors as the tenant of this key, print two tables, return the figures.

    Raises SectionFailed for an answer other than 200.
    """
    host = Wire(stack.base_url).host
    told = [_search(host, key, vector, explain=True) for vector in vectors]
    plain = [_search(host, key, vector) for vector in vectors]
    empty = [message(host, "GET", "/healthz")]
    for some in (plain, empty):
        send_all(stack, (some * WARM)[:WARM])
    figures: dict[str, Any] = {"steps_ms": _steps(stack, told), "clients": {}}
    for clients in CLIENTS:
        # Around the searches, as what else runs on the machine changes.
        before, searches, after = (_rate(stack, some, clients) for some in (empty, plain, empty))
        view = {name: (before[name] + after[name]) / 2 for name in before}
        share = searches["per_s"] / view["per_s"]
        figures["clients"][clients] = {"search": searches, "empty_view": view, "share": share}
    _print(figures)
    return figures


def _search(host: str, key: str, vector: NDArray[np.float32], **more: Any) -> bytes:
    return message(host, "POST", "/api/v1/search", key, vector_body(vector, **more))


def _steps(stack: Stack, requests: list[bytes]) -> dict[str, float]:
    """Medians in milliseconds, in the order of the steps; `around` is what the client waits beyond their total."""
    run = send_all(stack, requests)
    timings = [answer["explain"]["timings_ms"] for answer in run.answers()]
    names = dict.fromkeys(name for one in timings for name in one)
    steps = {name: statistics.median(one.get(name, 0.0) for one in timings) for name in names}
    around = statistics.median(
        wall - one["total"] for wall, one in zip(run.walls_ms.tolist(), timings, strict=True)
    )
    return {**steps, "around": around, "client": run.p50}


def _rate(stack: Stack, requests: list[bytes], clients: int) -> dict[str, float]:
    """What clients that never wait get done; processor milliseconds are for each answer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "requests")
        write_requests(path, requests)
        web, whole = web_cpu(stack), cpu_seconds(stack)
        program = str(Path(__file__).with_name("_search_client.py"))
        arguments = [stack.base_url, str(clients), str(SECONDS), str(path)]
        ran = subprocess.run(
            [sys.executable, program, *arguments], capture_output=True, text=True, check=True
        )
        web, whole = web_cpu(stack) - web, cpu_seconds(stack) - whole
    done = json.loads(ran.stdout)
    if done["failed"] or not done["answers"]:
        raise SectionFailed(f"clients were refused: {done}")
    each = 1000 / done["answers"]
    return {
        "per_s": done["answers"] / done["seconds"],
        "web_cpu_ms": web * each,
        "stack_cpu_ms": whole * each,
        "client_cpu_ms": done["cpu_s"] * each,
    }


def _print(figures: dict[str, Any]) -> None:
    print("\nOne search by vector, top 10, one client; medians in milliseconds")
    for name, took in figures["steps_ms"].items():
        print(f"  {name:30}{took:>10.3f}")
    print(f"\n{'':32}{'/s':>10}{'web cpu':>10}{'all cpu':>10}{'client':>10}   (cpu: ms an answer)")
    for clients, found in figures["clients"].items():
        for name, what in (("empty view", "empty_view"), ("search", "search")):
            row = [found[what][key] for key in ("web_cpu_ms", "stack_cpu_ms", "client_cpu_ms")]
            shown = "".join(f"{value:>10.2f}" for value in row)
            print(f"  {f'{name}, {clients} clients':30}{found[what]['per_s']:>10.0f}{shown}")
        print(f"  {'… share of the empty view':30}{found['share']:>10.2f}")
