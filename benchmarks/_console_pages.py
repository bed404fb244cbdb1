"""What each page costs the server: time, processor time and statements, with 1,000 and with 100,000 assets."""

from __future__ import annotations

from statistics import median
from typing import Any

from _console_world import SIZES, world
from _report import Line, at_most, sized

LIMIT_MS, ROUNDS = 300, sized(11, 1)


def run() -> list[Line]:
    """One line a page, then what grew with the tenant."""
    with world() as all_of_it:
        small, busy = (_opened(all_of_it, all_of_it.tenants[size]) for size in SIZES)
        operators = _opened(all_of_it, all_of_it.tenants["busy"]["operator"])
    assert small.keys() == busy.keys()
    every = busy | {f"operator-{name}": found for name, found in operators.items()}
    refused = [name for name, found in every.items() if found["status"] >= 400 and name != "404"]
    lines = [_page(name, found) for name, found in every.items()]
    # Fewer is no growth: the first page looks up assets only where one of the newest jobs names one.
    grown = [name for name in small if small[name]["queries"] < busy[name]["queries"]]
    for name in grown:
        lines.append(
            Line(
                f"{name}: statements at 1,000 assets and now",
                f"{small[name]['queries']}, {busy[name]['queries']}",
            )
        )
    lines.append(at_most("pages whose number of statements grows with the tenant", len(grown), 0, ""))
    lines.append(at_most(f"pages that answer an error {' '.join(refused)}".strip(), len(refused), 0, ""))
    return lines


def _opened(all_of_it: Any, tenant: dict[str, Any]) -> dict[str, Any]:
    pages = dict(list(tenant["pages"].items())[: sized(None, 10)])
    asked = {"user": tenant["user"], "pages": pages, "rounds": ROUNDS}
    return dict(all_of_it.run("_console_probe", asked))


def _page(name: str, found: dict[str, Any]) -> Line:
    wall = sorted(found["wall"])
    p95 = wall[min(len(wall) - 1, round(0.95 * len(wall)))]
    what = f"{name} (p95 {p95:.0f} ms, {found['queries']} statements)"
    return at_most(what, median(wall), LIMIT_MS, cpu_ms=median(found["cpu"]))
