"""What the OpenAPI document shows of imports and exports (`api.examples`)."""

from __future__ import annotations

from typing import Any, Final

REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "NewExport": {"vectors": False},
    "Changes": {"mapping": {"id": "sku", "text": "text", "metadata": {"price": "price"}}},
    "NewImport": {
        "source": "s3://shop-pictures/autumn",
        "credentials": {"access_key": "AKIDEXAMPLE", "secret_key": "not-a-real-secret"},
        "mapping": {"id": "sku", "text": "text", "metadata": {"price": "price"}},
        "start": False,
    },
}

ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "Import": {
        "id": "01a23818-b1ac-7222-90d7-82313d6bd407",
        "dataset": "01a23818-aae7-7042-884a-4b546ae704e9",
        "source": "upload",
        "location": "pears.csv",
        "format": "csv",
        "bytes": 59,
        "options": {
            "types": {"sku": "text", "text": "text", "price": "number"},
            "encoding": "utf-8",
            "delimiter": ",",
        },
        "state": "succeeded",
        "job": "01a23818-b1fe-77b3-abbd-b3afb39be900",
        "total": 2,
        "imported": 2,
        "merged": 0,
        "duplicate": 0,
        "failed": 0,
        "created_at": "2026-12-02T18:51:12.173Z",
    },
    "Mapping": {"id": "sku", "text": "text", "file": None, "metadata": "*"},
    "ImportPreview": {
        "format": "csv",
        "total": 2,
        "options": {
            "encoding": "utf-8",
            "delimiter": ",",
            "types": {"sku": "text", "text": "text", "price": "number"},
        },
        "warnings": [],
    },
    "ImportColumn": {"name": "sku", "examples": ["sku-1", "sku-2"], "guessed_type": "text"},
    "ImportItem": {
        "row": 1,
        "name": "line 2",
        "external_id": "sku-1",
        "text": "Ripe pears",
        "file": None,
        "metadata": {"price": 1.5},
        "error": None,
    },
    "ImportLine": {
        "row": 1,
        "name": "line 2",
        "outcome": "imported",
        "asset": "01a23818-b35e-7064-af2b-b8529a0d1ec6",
        "reason": "",
        "external_id": "",
        "text": "",
    },
    "Export": {
        "id": "01a23818-bbc2-71c6-8f04-c5eaf247abda",
        "job": "01a23818-bbc8-7337-8c5d-146967d03b36",
        "with_vectors": False,
        "requested_by": "key:cl1bd0071708",
        "ready": True,
        "bytes": 24876317,
        "sha256": "e4c6a04feae1d224889cb2bc40efad380d29a301e611c137617aa67fd687d47d",
        "created_at": "2026-12-02T18:51:14.779Z",
        "expires_at": "2026-12-09T18:51:15.916Z",
    },
}
