"""What the OpenAPI document shows of models, golden queries and classifiers (`api.examples`)."""

from __future__ import annotations

from typing import Any, Final

REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "NewClassifier": {"name": "fruit", "metadata": {"key": "aisle", "value": "fruit"}},
    "ClassifierLabels": {
        "examples": [
            {"asset": "01a2380c-44e2-712d-893f-1c1de6082631", "label": True},
            {"asset": "01a2380c-445a-764f-acbd-1709bb8f0b03", "label": False},
        ]
    },
    "NewClassifierVersion": {"source": "examples", "promote": True},
    "NewFinetune": {
        "dataset": "01a2380c-264a-75f0-8d82-f17e2420522a",
        "name": "Shelf pictures, autumn",
        "epochs": 4,
        "group_by": "aisle",
    },
    "NewGoldenQuery": {"text": "ripe yellow fruit", "relevant": ["01a2380c-42f4-72b1-9526-66f48e1073b8"]},
    "Override": {"override": True, "reason": "Better on our own queries."},
}

ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "AssetDetail": {
        "classifiers": [
            {
                "classifier": "01a2381f-45f6-755f-88ab-eb54edf0d123",
                "name": "fruit",
                "version": 1,
                "state": "examined",
                "probability": 0.9556,
                "tier": "estimated, not calibrated",
            }
        ]
    },
    "LearntModelShape": {
        "id": "01a23812-0f42-7378-8da9-bd0b934a79ab",
        "name": "Shelf pictures",
        "number": 1,
        "built_in": False,
        "space": "cman-01a23812-0f42-7378-8da9-bd0b934a79ab:1",
        "parent": "open-2",
        "state": "candidate",
        "stage": "adapt",
        "method": "heads",
        "settings": {"seed": 0, "epochs": 8, "group_by": "", "include_generated": False},
        "data": {
            "datasets": [
                {
                    "id": "01a2380c-264a-75f0-8d82-f17e2420522a",
                    "name": "products",
                    "pairs": 81,
                    "pictures": 81,
                    "unreadable": 0,
                }
            ],
            "quality": {
                "adapt": {
                    "splits": {"train": 63, "val": 8, "test": 8},
                    "duplicates": {"near": 5, "exact": 0, "compared": 81},
                }
            },
        },
        "metrics": {
            "domain": {
                "captions": 8,
                "pictures": 8,
                "model": {"text>image": {"r1": 0.875, "r5": 1.0, "mrr": 0.9375}},
                "parent": {"text>image": {"r1": 0.75, "r5": 1.0, "mrr": 0.8542}},
            }
        },
        "estimate": {"by": "trial", "cpu_s": 16.2, "gpu_s": 0.0, "steps": 0, "step_s": 0.0, "wall_s": 76.7},
        "cost": {"busy": 0.0, "cpu_s": 52.6, "gpu_s": 0.0, "wall_s": 98.3, "peak_mb": 1026},
        "encoders": None,
        "bytes": 10868590,
        "sha256": "883fd0b7ca039682f19ef1376f157caaf20fe4de6a9c204db39dfbeb1bf5f8a3",
        "job": "01a23812-0f60-7744-9dc1-77fb7be3f494",
        "error": None,
        "created_by": "key:cl1bd0071708",
        "created_at": "2026-12-02T18:43:57.475Z",
        "trained_at": "2026-12-02T18:47:55.738Z",
        "promoted_at": None,
        "retired_at": None,
    },
    "LearntModelWithCurves": {
        "curves": [
            {
                "best": True,
                "busy": 0.8875,
                "epoch": 0,
                "phase": "adapt",
                "wall_s": 0.65,
                "validation": {"r1": 0.5, "mix": 1.0, "base": 0.7917, "primary": 0.8333},
            }
        ]
    },
    "GoldenQueryShape": {
        "id": "01a23818-c1f2-7669-8020-d30c89319146",
        "text": "ripe yellow fruit",
        "image": None,
        "relevant": ["01a2380c-42f4-72b1-9526-66f48e1073b8"],
        "created_by": "key:cl1bd0071708",
        "created_at": "2026-12-02T18:51:16.338Z",
    },
    "PromotionState": {
        "id": "01a23818-c359-762d-b0e4-67af84b10830",
        "model": "01a23812-0f42-7378-8da9-bd0b934a79ab",
        "replaces": "open-2",
        "state": "embedding",
        "report": None,
        "override_reason": None,
        "job": "01a23818-c367-70a6-a0bf-01f1f5f6773e",
        "error": None,
        "created_by": "key:cl1bd0071708",
        "created_at": "2026-12-02T18:51:16.726Z",
        "embedded_at": None,
        "finished_at": None,
    },
    "ClassifierShape": {
        "id": "01a2381f-4d43-76a8-a362-7144d47fc14d",
        "name": "peppers",
        "field": "classifier.peppers.probability",
        "words": "bell peppers",
        "metadata": None,
        "decisions": None,
        "state": "live",
        "live": 1,
        "created_by": "key:cl1bd0071708",
        "created_at": "2026-12-02T18:58:25.221Z",
    },
    "ClassifierCounts": {"yes": 3, "no": 2},
    "ClassifierExampleShape": {
        "asset": "01a2380c-42f4-72b1-9526-66f48e1073b8",
        "label": True,
        "created_by": "key:cl1bd0071708",
        "created_at": "2026-12-02T18:58:23.420Z",
    },
    "ClassifierVersionShape": {
        "number": 1,
        "state": "live",
        "source": "words",
        "model": "open-2",
        "tier": "estimated, not calibrated",
        "report": {
            "n": 263,
            "tier": "estimated, not calibrated",
            "cpu_s": 1.0,
            "sample": {"text": 2, "audio": 7, "image": 248, "video": 6},
            "warnings": ["not_measured"],
            "modalities": ["image"],
        },
        "job": "01a2381f-54a7-7005-b13d-182abf22b355",
        "error": None,
        "stale": False,
        "created_by": "key:cl1bd0071708",
        "created_at": "2026-12-02T18:58:25.345Z",
        "trained_at": "2026-12-02T18:58:27.075Z",
        "promoted_at": "2026-12-02T18:58:27.456Z",
    },
    "ClassifierSuggestion": {
        "asset": "01a2380c-7fc9-7285-9165-02430c9b97aa",
        "probability": 0.493,
        "margin": 0.007,
    },
}
