"""One other vector database, measured: `python _peer_run.py NAME FOLDER`; the last line printed is JSON.

FOLDER holds what `_peers._shared` wrote. A way of searching is tried with more and more effort until its recall is what
the plan asks for.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _peer_kinds import PEERS, Peer


def _cpu(pids: list[int]) -> float:
    """Seconds spent by this process and those, with their children."""
    total = 0.0
    for pid in {os.getpid(), *pids}:
        try:
            family = [
                psutil.Process(pid),
                *(psutil.Process(pid).children(recursive=True) if pid != os.getpid() else []),
            ]
            total += sum(sum(one.cpu_times()[:2]) for one in family)
        except psutil.Error:
            continue
    return total


def _measured(
    peer: Peer, queries: np.ndarray, warm: int, tenant: int | None, effort: int
) -> tuple[Any, Any, float]:
    for query in queries[:warm]:
        peer.search(query, tenant, effort)
    found, walls, cpu = [], [], _cpu(peer.pids())
    for query in queries[warm:]:
        start = time.perf_counter()
        found.append(peer.search(query, tenant, effort))
        walls.append((time.perf_counter() - start) * 1000)
    return found, walls, _cpu(peer.pids()) - cpu


def _figures(peer: Peer, given: dict[str, Any], mode: str, efforts: tuple[int, ...]) -> dict[str, float]:
    """At the first effort that is enough, else at the greatest."""
    truth = given["truth_all" if mode == "all" else "truth_one"]
    tenant = None if mode == "all" else given["plan"]["tenant"]
    for effort in efforts:
        found, walls, cpu = _measured(peer, given["queries"], given["plan"]["warm"], tenant, effort)
        shares = [
            len(set(some) & set(true.tolist())) / len(true) for some, true in zip(found, truth, strict=True)
        ]
        if np.mean(shares) >= given["plan"]["recall"]:
            break
    return {
        "p50_ms": float(np.percentile(walls, 50)),
        "p99_ms": float(np.percentile(walls, 99)),
        "recall": float(np.mean(shares)),
        "cpu_ms": cpu * 1000 / len(walls),
        "effort": effort,
    }


def main(name: str, folder: Path) -> None:
    given: dict[str, Any] = {path.stem: np.load(path) for path in folder.glob("*.npy")}
    given["plan"] = json.loads((folder / "plan.json").read_text())
    peer = PEERS[name](given["vectors"], given["owners"])
    found: dict[str, Any] = {}
    try:
        peer.load()
        for way in peer.ways:
            efforts = peer.use(way)
            for mode in ("all", "one tenant"):
                found[f"{mode}{way}"] = _figures(peer, given, mode, efforts)
    finally:
        peer.close()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
