"""How soon a new asset is found, among a hundred thousand, and what building an index does to those who search."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
from _report import Line, at_least, at_most, sized
from _search_bench import RECALL, Bench
from _search_http import Run, SectionFailed, Wire, measure, message
from _search_load import Tenant, connect
from _search_single import hundred, large, searched, warmed
from _stack import _family, memory_mb

ROUNDS, DEADLINE_S = sized(20, 2), 30.0


class Watcher:
    """Follows one new asset from outside: when its vector is stored, when its job has succeeded, when it is found."""

    def __init__(self, bench: Bench, tenant: Tenant) -> None:
        self._bench, self._tenant = bench, tenant
        self._wire, self._jobs = Wire(bench.stack.base_url), Wire(bench.stack.base_url)
        self._database = connect(bench.stack)
        self._database.autocommit = True

    def follow(self, words: str) -> dict[str, float]:
        """Seconds from stored to found, and from the job's success to the answer of a search that finds it."""
        answer = self._send(
            self._wire, "POST", f"/api/v1/datasets/{self._tenant.dataset}/assets", {"text": words}
        )
        asset, job = answer["asset"]["id"], answer["job"]["id"]
        found: dict[str, float] = {}
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(self._await_job, job, words, asset)
            self._await(lambda: self._stored(asset), "stored")
            stored = time.perf_counter()
            self._await(lambda: self._finds(self._wire, words, asset), "found")
            found["stored_to_found_s"] = time.perf_counter() - stored
            found |= ended.result()
        self._send(self._wire, "DELETE", f"/api/v1/assets/{asset}")
        found["gone"] = not self._finds(self._wire, words, asset)
        return found

    def _await_job(self, job: str, words: str, asset: str) -> dict[str, float]:
        self._await(
            lambda: self._send(self._jobs, "GET", f"/api/v1/jobs/{job}")["state"] == "succeeded", "done"
        )
        start = time.perf_counter()
        seen = self._finds(self._jobs, words, asset)
        return {"at_once": seen, "succeeded_to_found_s": time.perf_counter() - start}

    def _stored(self, asset: str) -> bool:
        with self._database.cursor() as cursor:
            cursor.execute(
                "SELECT 1 FROM vector WHERE tenant_id = %s AND asset_id = %s", [str(self._tenant.id), asset]
            )
            return cursor.fetchone() is not None

    def _finds(self, wire: Wire, words: str, asset: str) -> bool:
        results = self._send(wire, "POST", "/api/v1/search", {"text": words})["results"]
        return any(hit["asset"]["id"] == asset for hit in results)

    def _send(self, wire: Wire, method: str, path: str, body: Any = None) -> Any:
        status, content = wire.send(message(wire.host, method, path, self._tenant.key, body))
        if status >= 300:
            raise SectionFailed(f"{method} {path}: {status} {content[:300]!r}")
        return json.loads(content) if content else None

    @staticmethod
    def _await(condition: Any, what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            if time.monotonic() > deadline:
                raise SectionFailed(f"not {what} after {DEADLINE_S:.0f} s")
            time.sleep(0.002)


def fresh(bench: Bench) -> list[Line]:
    tenant = hundred(bench)
    warmed(bench, tenant)
    watcher = Watcher(bench, tenant)
    found = [
        watcher.follow(f"a note that nobody wrote before, number {time.time_ns()}") for _ in range(ROUNDS)
    ]
    stored = [one["stored_to_found_s"] for one in found]
    done = [one["succeeded_to_found_s"] for one in found]
    missed = sum(not one["at_once"] for one in found)
    left = sum(not one["gone"] for one in found)
    bench.figures["fresh"] = {
        "stored_to_found_s": stored,
        "succeeded_to_found_s": done,
        "missed": missed,
        "left": left,
    }
    return [
        at_most(f"from its vector stored to found, worst of {ROUNDS}", max(stored), 1, "s"),
        Line("… median", float(np.median(stored)), "s"),
        at_most("from its job's success to found, worst", max(done), 1, "s"),
        at_most("searches after the success that missed it", missed, 0, ""),
        at_most("searches after its deletion that found it", left, 0, ""),
    ]


# --- Building while serving ------------------------------------------------------------------------------


class Peaks:
    """The greatest memory of the builder and of the web process while a block runs, sampled five times a second."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self.mb = bench, {"builder": 0.0, "builder_own": 0.0, "web": 0.0}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            seen = {"web": memory_mb(self._bench.stack, "web"), "builder": 0.0, "builder_own": 0.0}
            for process in _family(self._bench.stack.pid("worker-general")):
                resident, own = _builder_mb(process)
                seen["builder"], seen["builder_own"] = seen["builder"] + resident, seen["builder_own"] + own
            self.mb = {name: max(value, seen[name]) for name, value in self.mb.items()}


def _builder_mb(process: Any) -> tuple[float, float]:
    """Resident, and of that what is not a mapped file; nothing of processes that build no index."""
    try:
        if not any("ml.indexes.build" in word for word in process.cmdline()):
            return 0.0, 0.0
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
    except Exception:  # it has ended meanwhile
        return 0.0, 0.0
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    return sizes.get("Rss", 0.0), sizes.get("Anonymous", 0.0)


PAUSE_S = 0.02


def build(bench: Bench) -> list[Line]:
    """Build the large tenant's index anew while somebody searches it, fifty times a second at most."""
    tenant = large(bench)
    warmed(bench, tenant)
    idle = _paced(bench, tenant, sized(600, 10))
    beside: list[Run] = []
    with Peaks(bench) as peaks:
        start = time.perf_counter()
        process = bench.build_process(tenant)
        while process.poll() is None:
            beside.append(_paced(bench, tenant, sized(100, 10)))
        took = time.perf_counter() - start
    output = process.communicate()[0].strip().splitlines()
    if process.returncode:
        raise SectionFailed(f"build_index: {output[-1][:300]}")
    walls = np.concatenate([run.walls_ms for run in beside])
    during, ratio = float(np.percentile(walls, 99)), float(np.percentile(walls, 99)) / idle.p99
    _, found = searched(bench, tenant, bench.queries(sized(300, 10), seed=73))
    bench.figures["build"] = {
        "seconds": took, "peak_mb": peaks.mb, "said": output[-1], "idle": idle.figures(), "recall": found,
        "beside": {"searches": len(walls), "p50_ms": float(np.median(walls)), "p99_ms": during},
    }  # fmt: skip
    return [
        Line(f"building {tenant.count:,} vectors: {output[-1]}", took, "s"),
        Line("… builder's peak memory, resident", peaks.mb["builder"], "MB"),
        Line("… of that its own, not mapped files", peaks.mb["builder_own"], "MB"),
        Line("… web process's peak memory meanwhile (PSS)", peaks.mb["web"], "MB"),
        Line("… p50 of searches meanwhile", float(np.median(walls)), "ms"),
        Line("… p99 of searches, idle", idle.p99, "ms", cpu_ms=idle.cpu_ms),
        at_most("… p99 of searches meanwhile, over idle", ratio, 2, "x"),
        at_least("… recall@10 of what was built", found, RECALL),
    ]


def _paced(bench: Bench, tenant: Tenant, count: int) -> Run:
    return measure(bench.stack, bench.searches(tenant, bench.queries(count, seed=71)), PAUSE_S)
