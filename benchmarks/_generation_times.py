"""How long it takes to make something by the embedded generators, marking, signing and reading back included.

Wall time is what somebody waits on this machine; processor seconds say what it costs where the machine is busy with
other things, too. Models are loaded and each path was taken once before. Weights: all files that making needs beside
the platform's text encoder and joint space, which are there anyway.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from _report import Line, at_most, sized

from ml.generators import load_generator
from ml.generators.base import GenerationParams, Marker
from ml.generators.studio import Request, Studio
from ml.provenance.signing import tenant_keys

ROOT = Path(__file__).resolve().parents[1]
PICTURE_S, CLIP_S, MUSIC_S, WEIGHTS_MB = 5.0, 60.0, 5.0, 40.0
ROUNDS = sized(5, 1)
PROMPT = "a red apple"
SPECS = {"image": "small-picture", "video": "small-clip", "audio": "rules-music"}


def run() -> list[Line]:
    with tempfile.TemporaryDirectory() as folder:
        keys = tenant_keys(Path(folder), "benchmark", "Benchmark")
        marker = Marker(bytes(range(32)), keys, 0xBE7C4, "benchmark")
        return [*_parts(marker), *_whole(marker), _weights()]


def _parts(marker: Marker) -> list[Line]:
    picture, clip, music = (load_generator(SPECS[kind], marker) for kind in ("image", "video", "audio"))
    params = GenerationParams(PROMPT, steps=25, width=512, height=512)
    start = picture.make([params])[0].pixels
    film = GenerationParams(PROMPT, width=512, height=512, seconds=2.0, picture=start)
    return [
        *_timed("a picture of 512 px, 25 steps", lambda at: picture.make([_seed(params, at)]), PICTURE_S),
        *_timed("a clip of 2 s, 512 px", lambda at: clip.make([_seed(film, at)]), CLIP_S),
        *_timed(
            "music of 10 s", lambda at: music.make([GenerationParams(PROMPT, seconds=10.0, seed=at)]), MUSIC_S
        ),
    ]


def _whole(marker: Marker) -> list[Line]:
    studio = Studio(SPECS, marker)

    def create(at: int) -> object:
        return studio.create(Request(PROMPT, outputs=("image", "video", "audio"), seed=at, seconds=10.0))

    return _timed("picture of two candidates, clip and music of 10 s together", create, None)


def _seed(params: GenerationParams, seed: int) -> GenerationParams:
    return replace(params, seed=seed)


def _timed(what: str, make: Callable[[int], object], limit: float | None) -> list[Line]:
    """The median of ``ROUNDS``, by the clock and by the processor."""
    make(0)
    walls, costs = [], []
    for at in range(1, ROUNDS + 1):
        wall, cost = time.monotonic(), time.process_time()
        make(at)
        walls.append(time.monotonic() - wall)
        costs.append(time.process_time() - cost)
    wall, cost = float(np.median(walls)), float(np.median(costs))
    timed = Line(what, round(wall, 2), "s") if limit is None else at_most(what, wall, limit, "s")
    return [
        timed,
        Line(f"  fastest and slowest of {ROUNDS}", f"{min(walls):.1f} to {max(walls):.1f}", "s"),
        Line("  of the processor", round(cost, 2), "s"),
    ]


def _weights() -> Line:
    folders = (ROOT / "ml" / "drawing" / "weights", ROOT / "ml" / "composing" / "bank")
    size = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
    return at_most("weights and notes that ship", size / 1e6, WEIGHTS_MB, "MB")
