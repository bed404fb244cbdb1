"""What the OpenAPI document shows of jobs (`api.examples`)."""

from __future__ import annotations

from typing import Any, Final

REQUESTS: Final[dict[str, dict[str, Any]]] = {"PriorityBody": {"priority": 3}}

ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "Job": {
        "id": "01a23818-b1fe-77b3-abbd-b3afb39be900",
        "kind": "import_assets",
        "state": "succeeded",
        "cancelling": False,
        "priority": 2,
        "parent": None,
        "log_lines": 1,
        "attempts": 1,
        "queued_at": "2026-12-02T18:51:12.254Z",
        "started_at": "2026-12-02T18:51:12.322Z",
        "finished_at": "2026-12-02T18:51:12.844Z",
        "queue_wait_s": 0.068,
        "rate_per_s": None,
        "time_left_s": None,
        "result": {
            "failed": 0,
            "import": "01a23818-b1ac-7222-90d7-82313d6bd407",
            "merged": 0,
            "failures": [],
            "imported": 2,
            "duplicate": 0,
        },
    },
    "Progress": {"done": 2, "total": 2, "failed": 0},
    "Cost": {"cpu_s": 0.11, "gpu_s": 0.0},
    "JobLine": {
        "number": 1,
        "at": "2026-12-02T18:51:12.822Z",
        "level": "info",
        "text": "Up to row 2: 2 imported, 0 known, 0 failed.",
    },
}
