"""What one graphics card does (`make bench-gpu`, or `PYTHONPATH=. python benchmarks/gpu.py` of a bare checkout).

Needs torch, transformers and timm; no Django, no database, no weights: networks of the usual sizes are built from their
configurations with random weights, whose speed does not depend on what they say. `PARTS=towers,streams` runs some.
Parts whose packages are absent print "not installed". Without a card it says that it did not run, and ends with 0;
`DEVICE=cpu` runs it on the processor all the same (at a toy's size the tests do so).
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from typing import Any

import _gpu_device as device
from _parts import chosen, measured, show
from _report import Report, skip, skipped

PARTS = {
    "towers": "Towers by precision, in torch alone",
    "streams": "Concurrent callers through the batcher",
    "training": "Training",
    "runtimes": "ONNX Runtime and TensorRT",
    "diffusion": "A diffusion model's network",
}


def main() -> int:
    report = Report("gpu")
    wanted, why = device.find()
    if wanted is None:
        print(f"did not run: {why}")
        skip(f"all of it: {why}")
        return report.finish({"card": None})
    card = device.describe(wanted)
    print("  " + ", ".join(f"{name} {value}" for name, value in card.items()))
    return report.finish({"card": card, **_measured(report)})


def _measured(report: Report) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for part in chosen(PARTS):
        start = time.monotonic()
        lines = measured(report, f"_gpu_{part}", lambda module: module.run())
        seconds = time.monotonic() - start
        show(PARTS[part], lines, seconds)
        skipped.update(f"{part}: {line.what}" for line in lines if line.value == device.NOT_INSTALLED)
        figures[part] = {"seconds": round(seconds, 1), "lines": [asdict(line) for line in lines]}
    return figures


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
