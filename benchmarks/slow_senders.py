"""What 200 slow senders cost others (`make bench-slow_senders`), on a stack of its own.

Ends with 1 where p99 beside them is above twice the idle one and 5 ms, which a busy machine adds to anything.
tests/flows/test_slow_senders.py asserts the same at a smaller size.
"""

from __future__ import annotations

import sys

from _report import OUT, Line, Report, at_most, sized
from _slow import FACTOR, FLOOR_MS, measure
from _stack import stack_in, start_django

SENDERS, REQUESTS = sized(200, 10), sized(400, 10)


def run() -> dict[str, dict[str, float]]:
    from _search_load import create_tenant

    with stack_in(OUT / "slow_senders", demo=False) as stack:
        start_django(stack)
        tenant = create_tenant("slow-senders")
        return measure(stack.base_url, tenant.key, str(tenant.dataset), senders=SENDERS, count=REQUESTS)


def promises(found: dict[str, dict[str, float]]) -> list[Line]:
    return [
        at_most(
            f"{name}: p99 beside {SENDERS} slow senders (idle {row['idle_p99_ms']:g} ms)",
            row["beside_p99_ms"],
            FACTOR * row["idle_p99_ms"] + FLOOR_MS,
            noise=0,
        )
        for name, row in found.items()
    ]


def main() -> int:
    report = Report("slow_senders")
    found = report.run("beside slow senders", run)
    if found is None:
        return report.finish({})
    lines = promises(found)
    for line in lines:
        print(line.shown())
    report.judge("beside slow senders", lines)
    return report.finish({"senders": SENDERS, "requests": REQUESTS, **found})


if __name__ == "__main__":
    sys.exit(main())
