"""What the OpenAPI document shows of searches, tasks, feedback and maps (`api.examples`)."""

from __future__ import annotations

from typing import Any, Final

REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "NewFeedback": {
        "search_id": "01a23818-b712-72d3-b5c5-ffe11bcc58f7",
        "asset": "01a2380c-42f4-72b1-9526-66f48e1073b8",
        "kind": "click",
    },
    "NewMap": {
        "name": "Fruit and vegetables",
        "method": "umap",
        "datasets": ["01a2380c-264a-75f0-8d82-f17e2420522a"],
        "modality": "image",
        "neighbours": 15,
    },
    "Compared": {"assets": ["01a2380c-42f4-72b1-9526-66f48e1073b8", "01a2380c-33bc-7087-abdf-d617ea91eb89"]},
    "SearchBody": {
        "text": "ripe yellow fruit",
        "top_k": 2,
        "datasets": ["01a2380c-264a-75f0-8d82-f17e2420522a"],
        "modalities": ["image"],
        "highlight": True,
        "facets": ["aisle"],
        "group": "duplicates",
    },
    "NewTask": {
        "slug": "shelf",
        "description": "Photos count more than words.",
        "weights": {"text": 1, "image": 2},
        "rules": [{"when": ["colour", "color"], "weights": {"image": 3}}],
    },
    "TaskChange": {"weights": {"text": 1, "image": 1.5}, "dynamic": False},
}

ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "Found": {
        "search_id": "01a23818-b712-72d3-b5c5-ffe11bcc58f7",
        "next": "MDFhMjM4MTgtYjcxMi03MmQzLWI1YzUtZmZlMTFiY2M1OGY3LjI",
        "total_candidates": 81,
        "weights": {"text": 1.0},
        "cache": "miss",
        "took_ms": 24.7,
        "facets": {"aisle": {"type": "text", "values": [{"value": "fruit", "count": 28}]}},
    },
    "Result": {
        "score": 0.2007,
        "highlights": [{"field": "caption", "text": "A hand of yellow bananas", "marks": [[10, 16]]}],
    },
    "Matched": {"modality": "text", "segment": {"caption": 1}},
    "Model": {"id": "open-2", "version": "2", "dimension": 576},
    "Index": {"generation": "420", "kind": "flat", "size": 416, "recall_estimate": 1.0},
    "FeedbackShape": {
        "id": "01a23818-b758-72c3-ab9a-e6db3e788e8f",
        "search_id": "01a23818-b712-72d3-b5c5-ffe11bcc58f7",
        "asset": "01a2380c-42f4-72b1-9526-66f48e1073b8",
        "kind": "click",
        "rank": 1,
        "created_at": "2026-12-02T18:51:13.625Z",
    },
    "TaskShape": {
        "slug": "shelf",
        "description": "Photos count more than words.",
        "weights": {"text": 1.0, "image": 2.0},
        "dynamic": True,
        "built_in": False,
        "created_at": "2026-12-02T18:51:16.200Z",
    },
    "Rule": {"when": ["colour", "color"], "weights": {"image": 3.0}},
    "GateShape": {"source": "built-in", "number": None, "trained_at": None},
    "GateFeedback": {"usable": 0, "needed": 50},
    "MapShape": {
        "id": "01a2381d-5951-7691-b45f-4d6cb93bd7b0",
        "name": "Fruit and vegetables",
        "method": "umap",
        "state": "ready",
        "model": "open-2",
        "space": "open:2",
        "datasets": ["01a2380c-264a-75f0-8d82-f17e2420522a"],
        "modality": "image",
        "params": {"most": 100000, "seed": 0, "min_dist": 0.1, "neighbours": 15},
        "total": 81,
        "points": 81,
        "details": {"used": "umap", "cpu_s": 38.8, "kept_neighbours": 0.6543},
        "job": "01a2381d-5954-714c-83f5-89eed0d2dce3",
        "error": None,
        "created_by": "key:cl1bd0071708",
        "created_at": "2026-12-02T18:56:17.244Z",
        "finished_at": "2026-12-02T18:58:23.053Z",
    },
    "Similarity": {
        "model": "open-2",
        "assets": ["01a2380c-42f4-72b1-9526-66f48e1073b8", "01a2380c-33bc-7087-abdf-d617ea91eb89"],
        "matrix": [[1.0, 0.4677], [0.4677, 1.0]],
    },
    "MapPoints": {
        "method": "pca",
        "model": "open-2",
        "total": 263,
        "details": {"explained": [0.1608, 0.1473], "kept_neighbours": 0.332},
        "ids": ["01a2380c-2678-7349-baf8-3e125da3a54a", "01a2380c-272b-7531-8916-c7fbc82f5660"],
        "x": [-0.2973, -0.3222],
        "y": [-0.5364, -0.5243],
        "columns": {
            "modality": {"kind": "category", "values": ["image", "audio", "video"], "codes": [0, 0]},
            "status": {"kind": "category", "values": ["ready"], "codes": [0, 0]},
            "field": {"kind": "category", "values": ["fruit", "vegetables", "dairy"], "codes": [0, 0]},
        },
    },
}
