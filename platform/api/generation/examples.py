"""What the OpenAPI document shows of generations (`api.examples`)."""

from __future__ import annotations

from typing import Any, Final

REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "NewGeneration": {
        "prompt": "a yellow sun over the sea",
        "outputs": ["image"],
        "seed": 7,
        "steps": 25,
        "width": 512,
        "height": 512,
    },
    "DisclosureChanges": {"icon": True, "notice": None},
}

ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "GenerationShape": {
        "id": "01a2381f-56fb-774f-9000-8a83ab108f81",
        "state": "succeeded",
        "prompt": "a yellow sun over the sea",
        "negative": "",
        "outputs": ["image"],
        "seed": 7,
        "steps": 25,
        "guidance": 3.0,
        "width": 512,
        "height": 512,
        "seconds": 10.0,
        "candidates": 2,
        "dataset": "01a23812-eb50-71f3-afdf-2a16ed73f4c1",
        "score": 0.1363,
        "models": {"image": "Crosslight drawing-d2500e1ad89a"},
        "variation_of": None,
        "remix_of": None,
        "prompt_audit": "01a2381f-577d-7416-942b-3341d82fb577",
        "job": "01a2381f-56fb-774f-9000-8a8440096fb8",
        "error": None,
        "created_by": "key:cl1bd0071708",
        "created_at": "2026-12-02T18:58:27.724Z",
        "finished_at": "2026-12-02T18:58:31.714Z",
    },
    "GenerationResult": {
        "kind": "image",
        "asset": "01a2381f-6648-76f4-bf43-21e2a5156951",
        "score": 0.1363,
        "scores": [0.1363, 0.1314],
        "how": "model",
        "model": "Crosslight drawing-d2500e1ad89a",
        "provenance": {
            "c2pa": {
                "own": True,
                "state": "trusted",
                "signer": {
                    "name": "Crosslight tenant 01a2380c-22bd-7383-a227-109fa0e02923",
                    "serial": "131466115585941231080218672245482650608742846900",
                    "algorithm": "Es256",
                    "organisation": "Corner Grocery",
                },
                "source_type": "trainedAlgorithmicMedia",
            },
            "watermark": {"read": 1, "seen": 26.75, "marked": 1, "payload": "ab108f81"},
        },
        "audit": "01a2381f-6624-7655-ab46-d8fc0e4282da",
        "decision": "label",
        "moderation": "label",
    },
    "DisclosureMark": {"installation": "on", "chosen": None, "in_force": True},
}
