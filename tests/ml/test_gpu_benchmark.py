"""`make bench-gpu` runs from a bare checkout: on the processor at a toy's size, and without a card it says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# As where nothing but ml's own libraries is installed.
BARE = """
import runpy, sys
for name in ("django", "celery", "psycopg2", "redis", "tenants", "config", "standalone"):
    sys.modules[name] = None
sys.path.insert(0, "benchmarks")
runpy.run_path("benchmarks/gpu.py", run_name="__main__")
"""


def run(folder: Path, **chosen: str) -> tuple[subprocess.CompletedProcess[str], dict]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", BARE],
        cwd=ROOT,
        env={**kept, "PYTHONPATH": ".", "DATA_DIR": str(folder), "CROSSLIGHT_MODELS": "/nowhere", **chosen},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done, json.loads((folder / "bench" / "gpu.json").read_text())


@pytest.mark.slow
def test_every_part_runs_on_the_processor_without_the_product(tmp_path: Path) -> None:
    done, figures = run(tmp_path, DEVICE="cpu", BENCH="toy")
    assert figures["broke_off"] == []
    assert figures["card"]["card"] == "none (DEVICE=cpu)"
    parts = ("towers", "streams", "training", "runtimes", "diffusion")
    told = {line["what"]: line["value"] for part in parts for line in figures[part]["lines"]}
    # A call that fails stands in the table as what it raised.
    assert not [what for what, value in told.items() if "Error" in str(value)], told
    for what in (
        "CLIP ViT-B/16 picture: INT8 three times as fast",
        "BERT-base, 128 tokens, fp16: 16 at once, all answered, faster than 1",
    ):
        assert told[what] in ("yes", "no")
        assert what in done.stdout
    assert told["CLIP's two towers, batch 2, fp16"] > 0
    assert told["BERT-base, 128 tokens, CPU, int8, batch 2"] > 0


def test_without_a_card_it_says_why_it_did_not_run(tmp_path: Path) -> None:
    done, figures = run(tmp_path, CUDA_VISIBLE_DEVICES="")
    assert figures["card"] is None
    assert "did not run: " in done.stdout
    assert "CUDA" in done.stdout
    assert "towers" not in figures
