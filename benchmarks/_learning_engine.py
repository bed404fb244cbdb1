"""What training costs beside the training itself: the share of an epoch in which the device is at work.

Drawn pairs of the real sizes, because the overhead (reading shards, shuffling, putting batches together, checkpoints)
does not depend on what they show. Each run is the process that the platform starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _report import ROOT, Line, at_least, sized

from ml.alignment.space import JointSpace
from ml.training.shards import Pair, ShardWriter

BUSY = 0.9
HIDDEN = 48


@dataclass(frozen=True)
class Case:
    name: str
    pairs: int
    body: dict[str, Any]


CASES = (
    Case("heads, 1,000 pairs", sized(1_000, 40), {"epochs": sized(8, 1), "batch": sized(128, 8)}),
    Case("heads, 6,000 pairs, streamed", 6_000, {"epochs": 3, "batch": 256}),
    Case("LoRA of the text tower, 250 pairs", 250, {"epochs": 2, "batch": 32, "method": "lora"}),
)


def run() -> list[Line]:
    """One line a case."""
    return [line for case in CASES[: sized(None, 1)] for line in _lines(case)]


def _lines(case: Case) -> list[Line]:
    with tempfile.TemporaryDirectory() as scratch:
        events = _train(case, Path(scratch))
    last = events[-1]
    if last["event"] != "result":
        print(f"{case.name}: {last}")
        return [Line(f"device busy, {case.name}", "failed", "", f">= {BUSY}", False)]
    epochs = [event for event in events if event["event"] == "curve" and event["epoch"]]
    took = sum(event["wall_s"] for event in epochs)
    busy = sum(event["busy"] * event["wall_s"] for event in epochs) / took
    estimate = next(event for event in events if event["event"] == "estimate")
    print(
        f"{case.name}: {len(epochs)} epochs in {took:.1f} s, busy {busy:.1%} (least of an epoch "
        f"{min(event['busy'] for event in epochs):.1%}); estimated {estimate['cpu_s']} cpu s at most, "
        f"took {last['cpu_s']} with the report"
    )
    return [at_least(f"device busy, {case.name}", busy, BUSY)]


def _train(case: Case, folder: Path) -> list[dict[str, Any]]:
    with ShardWriter(folder / "pairs", JointSpace.load().encoders_key) as writer:
        for pair in drawn(case.pairs):
            writer.add(pair)
    (folder / "run.json").write_text(json.dumps({"data": [str(folder / "pairs")], **case.body}))
    done = subprocess.run(
        [sys.executable, "-m", "ml.training", "--nice", "0", "run", str(folder)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdin=_open_input(), stdout=subprocess.PIPE,
        text=True, check=False,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _open_input() -> int:
    """An input that stays open: the process ends when it closes."""
    return os.pipe()[0]


def drawn(count: int) -> Iterator[Pair]:
    """Pairs of the shipped encoders' sizes with something to learn in them."""
    random = np.random.default_rng(0)
    widths = {"text": 384, "classes": 1000, "features": _features()}
    maps = {name: random.normal(size=(HIDDEN, width)).astype(np.float32) for name, width in widths.items()}
    for row in range(count):
        hidden = random.normal(size=HIDDEN)
        said = (hidden + random.normal(0, 0.5, (5, HIDDEN))) @ maps["text"]
        seen = hidden + random.normal(0, 0.5, HIDDEN)
        classes = np.exp(0.25 * seen @ maps["classes"])
        yield Pair(
            key=f"drawn-{row}",
            group=f"{row}",
            split="",
            captions=tuple(f"what picture {row} shows, told for the time number {time}" for time in range(5)),
            text=(said / np.linalg.norm(said, axis=1, keepdims=True)).astype(np.float16),
            text_colours=np.zeros((5, 11), np.float16),
            probabilities=(classes / classes.sum()).astype(np.float16),
            features=_halves(seen @ maps["features"]),
            colours=_halves(random.normal(size=11)),
        )


def _halves(values: Any) -> Any:
    return (values / np.linalg.norm(values)).astype(np.float16)


def _features() -> int:
    """How many features the shipped encoders tell of a picture."""
    blank = np.zeros((8, 8, 3), np.uint8)
    return int(JointSpace.load().see([blank]).features.shape[1])


if __name__ == "__main__":
    for line in run():
        print(line.shown())
