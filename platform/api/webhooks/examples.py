"""What the OpenAPI document shows of webhooks (`api.examples`)."""

from __future__ import annotations

from typing import Any, Final

REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "NewWebhook": {
        "url": "https://warehouse.example/crosslight",
        "description": "Warehouse",
        "events": ["asset.ready", "job.failed"],
    },
    "WebhookChange": {"events": ["asset.ready"]},
    "Since": {"since": "2026-12-01T00:00:00Z"},
}

ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "WebhookWithSecret": {"secret": "whsec_bm90IGEgcmVhbCBzZWNyZXQ="},
    "WebhookShape": {
        "id": "01a2381f-7051-7475-8538-40efdc378339",
        "url": "https://warehouse.example/crosslight",
        "description": "Warehouse",
        "events": ["asset.ready"],
        "state": "active",
        "reason": None,
        "failing_since": None,
        "previous_secret_until": "2026-12-03T18:58:34.273Z",
        "created_at": "2026-12-02T18:58:34.193Z",
    },
    "DeliveryShape": {
        "id": "01a23816-f299-7365-8a00-b7836709697c",
        "webhook": "01a23816-ef12-751d-a817-7e73c3d12c4f",
        "state": "succeeded",
        "attempt_count": 1,
        "status": 204,
        "latency_ms": 38,
        "error": None,
        "next_attempt_at": None,
        "created_at": "2026-12-02T18:49:17.721Z",
        "finished_at": "2026-12-02T18:49:17.844Z",
    },
    "EventName": {"id": "01a23816-f296-74db-b725-52e2ab716179", "type": "asset.ready"},
    "Sent": {
        "body": '{"type":"asset.ready","timestamp":"2026-12-02T18:49:17.718Z","data":{"asset":"01a2380c-44e2"}}'
    },
    "Attempt": {
        "at": "2026-12-02T18:49:17.815Z",
        "status": 204,
        "latency_ms": 38,
        "error": "",
        "response": "",
    },
    "Replayed": {"replayed": 3, "more": False},
}
