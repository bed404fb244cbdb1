"""What the OpenAPI document shows of datasets, assets and erasures (`api.examples`)."""

from __future__ import annotations

from typing import Any, Final

REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "AssetChanges": {
        "captions": ["Ripe bananas on a shelf", "A hand of yellow bananas"],
        "metadata": {"price": 1.9, "aisle": "fruit"},
    },
    "NewDataset": {
        "name": "Autumn range",
        "description": "What is new in October.",
        "metadata_schema": {"price": {"type": "number", "required": True}, "aisle": {"type": "text"}},
        "duplicates": "skip",
    },
    "DatasetChanges": {"description": "What is new in October and November.", "retention_days": 365},
    "NewAsset": {
        "text": "Crisp red apples from the orchard, picked this morning.",
        "metadata": {"price": 2.4, "aisle": "fruit"},
        "external_id": "sku-1042",
    },
    "NewErasure": {"filter": {"customer_id": "42"}, "external_ids": ["sku-1042"], "dry_run": True},
    "NewMerge": {"plan": "01a23818-b1fe-77b3-abbd-b3afb39be900"},
}

ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "Dataset": {
        "id": "01a23818-aae7-7042-884a-4b546ae704e9",
        "name": "Autumn range",
        "description": "What is new in October and November.",
        "metadata_schema": {"aisle": {"type": "text"}, "price": {"type": "number", "required": True}},
        "assets": 3,
        "ready": 3,
        "retention_days": 365,
        "duplicates": "skip",
        "created_at": "2026-12-02T18:51:10.439Z",
    },
    "Asset": {
        "id": "01a2380c-44e2-712d-893f-1c1de6082631",
        "dataset": "01a2380c-264a-75f0-8d82-f17e2420522a",
        "modality": "image",
        "status": "ready",
        "external_id": "product/80",
        "sha256": "1dbacb283922df4e805fc37df77175b586a2e60eb23f0cbf61490d81633bab6c",
        "bytes": 4207,
        "media_type": "image/jpeg",
        "width": 198,
        "height": 198,
        "filename": None,
        "caption": "Zucchini. Zucchini can be eaten raw, but is usually used in soups, pots, stews, etc.",
        "captions": ["Zucchini. Zucchini can be eaten raw, but is usually used in soups, pots, stews, etc."],
        "excerpt": "",
        "metadata": {"aisle": "vegetables", "label": "Zucchini", "price": 2.44},
        "moderation": "label",
        "labels": ["new"],
        "generated": False,
        "created_at": "2026-12-02T18:37:37.892Z",
    },
    "Scan": {"state": "not_scanned", "reason": "off", "at": "2026-12-02T18:37:37.818Z"},
    "TranscriptSegment": {
        "start_s": 0.0,
        "end_s": 2.52,
        "text": "Hello, this is a message for the manager.",
        "confidence": 0.8867,
    },
    "ErasurePreview": {"matched": 1, "bytes": 4207},
    "Erasure": {
        "id": "01a23818-b798-71e2-b717-050ce4db09a3",
        "kind": "subject",
        "target": None,
        "subject_hash": "74f85b901834abd1cb2d2a451110ddd81061bf7a72f9d0baeca5a0df8a1201f3",
        "job": "01a23818-b79c-76c1-9ccd-c59598a4c598",
        "requested_by": "key:cl1bd0071708",
        "matched": 1,
        "removed": {
            "jobs": 1,
            "rows": {
                "asset": 1,
                "facet": 2,
                "vector": 1,
                "facet_change": 1,
                "audit_request": 1,
                "lexical_entry": 1,
                "audit_evidence": 1,
            },
            "bytes": 55,
            "files": {"clean": 0, "original": 1, "thumbnail": 0},
            "assets": 1,
            "answers": 0,
            "search_pages": 2,
        },
        "remains": {
            "places": [
                {"what": "what they held when they were made", "until": "2027-01-01", "where": "backups"}
            ],
            "shared_blobs": 0,
        },
        "verified": True,
        "created_at": "2026-12-02T18:51:13.698Z",
        "finished_at": "2026-12-02T18:51:14.393Z",
    },
    "DatasetShare": {
        "id": "01a2380c-264a-75f0-8d82-f17e2420522a",
        "name": "products",
        "assets": 1,
        "bytes": 4207,
    },
}
