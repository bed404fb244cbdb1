"""The console, measured page by page (`make bench-console`).

Server time, statements, what a browser waits for, streams of events and fair share, in a tenant of 100,000 assets and
50,000 jobs that is written as rows and kept for the next run. `PARTS=pages,browser` runs some of it, `FRESH=1` writes
the tenants anew, `ASSETS=10000 JOBS=5000` smaller ones. Writes var/bench/console.json.
"""

from __future__ import annotations

from _parts import run_parts

PARTS = {
    "pages": "Every page on the server, with 100,000 assets and 50,000 jobs",
    "browser": "Every page in Chromium",
    "live": "Server-Sent Events with 200 listeners",
    "fair": "Fair share of the workers",
}


def main() -> int:
    return run_parts("console", PARTS, lambda part: part.run())


if __name__ == "__main__":
    raise SystemExit(main())
