"""Scenes of two and three things: is each named thing found in the picture?

The judge is the picture tower of `open-2`, bare: 100 names are rendered as pictures of words (two typefaces), the tower
reads them and the scene, and both have the mean of their own kind taken off. No map that was learnt, no emoji. The mean
of pictures is that of OpenMoji's designs, a style that the composer's library does not hold and that nothing of it was
chosen by. A thing is found if its name is among the first five of 100; a prompt, if each of its things is.

Things that the model drew and things that were taken from a design are counted apart.

Each scene is kept in `var/bench/cache/scenes` once it is made: a run that was interrupted goes on where it was. Scenes
of other code, designs or weights of the drawing model are not taken.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from _data import CACHE
from _report import TOY, Line, at_least, sized
from numpy.typing import NDArray

from ml.alignment.numerics import unit
from ml.alignment.space import shared_encoder
from ml.drawing.drawer import Drawer
from ml.generators import small_picture
from ml.generators.base import GenerationParams
from ml.scenes import library
from research.drawing.designs import load_designs
from research.open_space.rendering import FONTS, render

HERE = Path(__file__).parent
TOWER, SIDE = "bundled:clip-vit-b16", 512
#: How many prompts: all of them as it ships, and some of them in the ways that it is compared with.
PROMPTS, COMPARED, EVERY = sized(200, 3), sized(20, 1), sized(10, 2)
FIRST = 5
#: Of the prompts, in percent; of all named things, drawn by the model and found: below, it is a composer of designs.
FOUND, DRAWN = 60.0, 25.0
CALIBRATION_STYLE, CALIBRATED = "openmoji", sized(60, 4)

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


def listed(name: str) -> list[str]:
    rows = (HERE / name).read_text("utf-8").splitlines()
    return [row.strip() for row in rows if row.strip() and not row.startswith("#")]


class Judge:
    """Which of the names a picture shows."""

    def __init__(self, names: Sequence[str]) -> None:
        self._tower: Any = shared_encoder(TOWER)
        faces = range(len(FONTS))
        rendered = [render(name, face) for face in faces for name in names]
        words = unit(self._seen(rendered)).reshape(len(faces), len(names), -1).sum(axis=0)
        self._names = unit(unit(words) - unit(words).mean(axis=0))
        self._mean, self.calibrated = self._calibration()

    def _calibration(self) -> tuple[Floats | None, str]:
        designs = load_designs()
        if designs is None:
            return None, "the mean of what is judged (no designs: `python -m research.drawing fetch`)"
        rows = [
            one.pictures[CALIBRATION_STYLE] for one in designs.concepts if CALIBRATION_STYLE in one.pictures
        ]
        some = [designs.pixels[row] for row in rows[:: max(1, len(rows) // CALIBRATED)]]
        return unit(self._seen(some)).mean(axis=0), f"the mean of {len(some)} OpenMoji designs"

    def _seen(self, pictures: Sequence[Pixels]) -> Floats:
        """What the tower says of pictures that are the same in every run: cached."""
        digest = hashlib.sha256(b"".join(one.tobytes() for one in pictures) + self._tower.version.encode())
        path = CACHE / f"scenes-{digest.hexdigest()[:16]}.npy"
        if not path.is_file():
            CACHE.mkdir(parents=True, exist_ok=True)
            np.save(path, self._tower.encode(pictures))
        return np.asarray(np.load(path))

    def ranks(self, pictures: Sequence[Pixels]) -> NDArray[np.int64]:
        """Of each picture, the place of every name: 0 is the first. [n, names]"""
        seen = unit(self._tower.encode(pictures))
        seen = unit(seen - (seen.mean(axis=0) if self._mean is None else self._mean))
        order = np.argsort(-(seen @ self._names.T), axis=1, kind="stable")
        return np.argsort(order, axis=1, kind="stable")


def run() -> list[Line]:
    names = listed("scenes_names.txt")
    asked = [row.split(" | ") for row in listed("scenes_prompts.txt")]
    asked = asked[:: max(1, len(asked) // PROMPTS)][:PROMPTS]
    if TOY:
        named = {part for _, parts in asked for part in parts.split(", ")}
        names = [name for at, name in enumerate(names) if name in named or at < 4]
    prompts = [prompt for prompt, _ in asked]
    wanted = [[names.index(part) for part in parts.split(", ")] for _, parts in asked]
    judge = Judge(names)
    made = [_made(prompt, at, len(prompts)) for at, prompt in enumerate(prompts)]
    cost = float(np.mean([one.cpu_s for one in made]))
    ranks = judge.ranks([one.pixels for one in made])
    found = [[bool(ranks[at, name] < FIRST) for name in parts] for at, parts in enumerate(wanted)]
    few = list(range(0, len(prompts), EVERY))[:COMPARED]
    return [
        Line("judged with", judge.calibrated),
        *_lines(prompts, wanted, found, made),
        *_compared(judge, [prompts[at] for at in few], [wanted[at] for at in few]),
        Line("of the processor, a scene of one candidate", round(cost, 2), "s"),
        Line("weights", Drawer.load().version),
    ]


@dataclass(frozen=True)
class Made:
    """A scene: ``hows`` says of each of its things how it came about, ``cpu_s`` what making it took."""

    pixels: Pixels
    hows: list[str]
    cpu_s: float


@cache
def _makers() -> str:
    """A digest of what decides how a scene looks: code, designs, weights of the drawing model."""
    folder = Path(library.__file__).parent
    files = [Path(small_picture.__file__), *folder.glob("*.py"), *folder.rglob("things.json")]
    contents = b"".join(path.read_bytes() for path in sorted(files))
    return hashlib.sha256(contents + Drawer.load().version.encode()).hexdigest()


def _made(prompt: str, seed: int, of: int) -> Made:
    """Made now, or by a run before that was interrupted."""
    key = f"{_makers()} {small_picture.FIRST} {SIDE} {seed} {prompt}"
    path = CACHE / "scenes" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    if path.is_file():
        with np.load(path) as kept:
            return Made(kept["pixels"], json.loads(str(kept["hows"])), float(kept["cpu_s"]))
    begun = time.process_time()
    params = GenerationParams(prompt, seed=seed, width=SIDE, height=SIDE)
    [raw] = small_picture.load("").draw([params], lambda step: None)
    assert raw.pixels is not None
    made = Made(raw.pixels, [part.how for part in raw.parts], time.process_time() - begun)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: a run may be killed while it writes.
    partial = path.with_suffix(".part.npz")
    np.savez_compressed(partial, pixels=made.pixels, hows=json.dumps(made.hows), cpu_s=made.cpu_s)
    partial.replace(path)
    if (seed + 1) % EVERY == 0:
        print(f"  … {seed + 1} of {of} scenes", flush=True)
    return made


def _lines(
    prompts: Sequence[str],
    wanted: Sequence[Sequence[int]],
    found: Sequence[Sequence[bool]],
    made: Sequence[Made],
) -> list[Line]:
    whole = np.array([all(parts) for parts in found])
    several = np.array([len(parts) for parts in wanted])
    chinese = np.array([not prompt.isascii() for prompt in prompts])
    parts = np.array([one for row in found for one in row])
    hows = np.array([how for row, one in zip(wanted, made, strict=True) for how in _hows(row, one)])
    lines = [
        at_least(f"each thing among the first {FIRST} of 100, of the prompts", _percent(whole), FOUND, "%"),
        Line("  of two things", _percent(whole[several == 2]), "%"),
        Line("  of three things", _percent(whole[several == 3]), "%"),
        Line("  in Chinese", _percent(whole[chinese]), "%"),
        Line("  of all named things", _percent(parts), "%"),
    ]
    for how in ("drawn", "taken"):
        its = hows == how
        lines += [
            Line(f"things that were {how}, of all", _percent(its), "%"),
            Line(f"  {how} and found, of those {how}", _percent(parts[its]), "%"),
            Line(f"  {how} and found, of all", _percent(its & parts), "%"),
        ]
    share = _percent((hows == "drawn") & parts)
    return [*lines, Line("so it is", "a generator" if share >= DRAWN else "a composer of designs")]


def _hows(row: Sequence[int], made: Made) -> list[str]:
    """How each wanted thing came about. Things of a scene stand in the order of the prompt, as the wanted ones do."""
    return (made.hows + ["absent"] * len(row))[: len(row)]


def _compared(judge: Judge, prompts: Sequence[str], wanted: Sequence[Sequence[int]]) -> list[Line]:
    """Some of the prompts in other ways: all things taken, all drawn, and the prompt as one drawing of the model's."""
    few, before = len(prompts), small_picture.FIRST
    ways: dict[str, list[Any]] = {}
    try:
        for way, first in (("all things taken", 0), ("all things drawn", small_picture.AMONG + 1)):
            small_picture.FIRST = first
            ways[way] = [_made(prompt, at, few).pixels for at, prompt in enumerate(prompts)]
    finally:
        small_picture.FIRST = before
    drawings = Drawer.load().draw(prompts, seeds=range(few))
    ways["the prompt as one drawing"] = [small_picture.enlarged(one, SIDE) for one in drawings]
    lines = []
    for way, pictures in ways.items():
        ranks = judge.ranks(pictures)
        whole = [all(ranks[at, name] < FIRST for name in parts) for at, parts in enumerate(wanted)]
        lines.append(
            Line(f"{way}: each among the first {FIRST} ({few} prompts)", _percent(np.array(whole)), "%")
        )
    return lines


def _percent(shares: NDArray[Any]) -> float:
    return round(100 * float(np.mean(shares)), 1) if len(shares) else 0.0
