"""A distilling run with its corpus: the objective is ``ml.training.objectives.distil``, this writes its request."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from research.compression.corpus import bundled_corpus

BATCH = 64


def distil(
    out: Path,
    texts: Sequence[str],
    shape: dict[str, Any],
    epochs: int,
    tell: Callable[[str], None],
    minutes: float | None = None,
) -> Path:
    """Train in ``out``, going on where an interrupted run stopped; the folder of the student comes back.

    ``texts`` are files or folders beside the bundled corpus, ``shape`` the objective's options; ``tell`` gets one JSON
    line an event; after ``minutes`` it stops with what it has. Raises TrainingError.
    """
    from ml.training.run import REQUEST, run

    corpus = out / "texts"
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "bundled.txt").write_text("\n".join(bundled_corpus()), "utf-8")
    request = {
        "objective": "distil",
        "data": [str(corpus), *texts],
        "epochs": epochs,
        "batch": BATCH,
        "options": shape,
        "limits": {"wall_s": minutes * 60} if minutes else {},
    }
    (out / REQUEST).write_text(json.dumps(request, indent=1))
    result = run(out, lambda event, **fields: tell(json.dumps({"event": event, **fields})))
    return Path(result["space"])
