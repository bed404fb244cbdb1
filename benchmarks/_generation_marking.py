"""Marked at birth, measured: every file as released, examined as an audit does, and what is left after edits.

Part of `make bench-generation`. `GENERATION_RELEASES` (500) is how many files are made: pictures with and without
negative prompts, of all sizes and guidances, pictures that have no room for a mark (black, white, noise), music, clips
with and without sound. What a wrapper refuses is not released, and counted beside. Of films an audit's decoder chooses
the frames that are looked at.
"""

from __future__ import annotations

import io
import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _audit_provenance_files import encoded, picture
from _generation_edits import FILMS, PICTURES, film, frames, heard
from _report import Line, at_least, at_most, sized
from numpy.typing import NDArray
from PIL import Image

from ml.detectors.base import Item, VideoFrame, load_detector
from ml.generators import load_generator
from ml.generators._marked import MarkedGenerator
from ml.generators.base import (
    GenerationError,
    GenerationParams,
    Generator,
    Kind,
    MarkedOutput,
    Marker,
    RawOutput,
    Watch,
)
from ml.media import Decoder
from ml.provenance.signing import tenant_keys

KEY, OTHER, PAYLOAD = bytes(range(32)), bytes(32), 0xC0FFEE12
RELEASES = int(os.environ.get("GENERATION_RELEASES") or sized(500, 1))
#: Pictures that are edited.
EDITED = sized(min(60, max(12, RELEASES // 8)), 1)
#: Films without a mark, for false alarms, and frames of each: as many as are looked at at most.
UNMARKED, SHOTS = sized(200, 1), sized(10, 2)
PROMPTS = (
    "a cat with a hat walks by the sea", "a red apple", "sad rain at night", "happy festival with fireworks", "black",
    "an all black picture in the dark", "white snow", "", "a green frog and a house", "悲伤的雨夜", "a dog", "moon",
    "plain grey fog", "🎉", "rocket", "a heart",
)  # fmt: skip
Pixels = NDArray[np.uint8]


def run() -> list[Line]:
    """Every figure of this part."""
    with tempfile.TemporaryDirectory() as folder, Decoder() as decoder:
        marker = Marker(KEY, tenant_keys(Path(folder) / "keys", "bench", "Bench"), PAYLOAD, "bench")
        bench = _Bench(Path(folder), marker, decoder)
        return [*bench.births(), *bench.pictures(), *bench.clips()]


class Roomless(Generator):
    """Pictures that leave a mark no room: black, white, one colour, noise, a checkerboard."""

    name, kind, model, how = "roomless", "image", "roomless", "rules"

    def draw(self, batch: Sequence[GenerationParams], watch: Watch) -> list[RawOutput]:
        return [RawOutput(pixels=self._picture(params)) for params in batch]

    @staticmethod
    def _picture(params: GenerationParams) -> Pixels:
        shape, rng = (params.height, params.width, 3), np.random.default_rng(params.seed)
        board = np.indices(shape[:2]).sum(axis=0)[..., None] % 2 * 255
        return [
            np.zeros(shape, np.uint8),
            np.full(shape, 255, np.uint8),
            np.full(shape, rng.integers(0, 256, 3), np.uint8),
            rng.integers(0, 256, shape, dtype=np.uint8),
            np.broadcast_to(board, shape).astype(np.uint8),
        ][params.seed % 5]


class _Bench:
    def __init__(self, folder: Path, marker: Marker, decoder: Decoder) -> None:
        self.folder, self.marker, self.decoder = folder, marker, decoder
        self.chance = random.Random(0)
        self.made: dict[str, list[MarkedOutput]] = {"image": [], "audio": [], "video": []}
        self.detectors = [load_detector(name) for name in ("c2pa", "watermark")]

    # --- Births ---

    def births(self) -> Iterator[Line]:
        started, refused = time.process_time(), 0
        for made in self._all():
            refused += made is None
            if made is not None:
                self.made[made.kind].append(made)
        released = [one for kind in self.made.values() for one in kind]
        bare = [self._examined(one.content, one.media_type) for one in released]
        for name in ("watermark", "c2pa"):
            unmarked = sum(not found[name] for found in bare)
            yield at_most(f"released without {name}, of {len(released)}", unmarked, 0, "")
        kinds = ", ".join(f"{len(found)} {kind}" for kind, found in self.made.items())
        yield at_least(f"released: {kinds}", len(released), RELEASES)
        yield Line("refused, as a mark could not be read back", refused)
        yield Line(
            "a birth and its examination, mean", (time.process_time() - started) / len(released), "cpu s"
        )

    def _all(self) -> Iterator[MarkedOutput | None]:
        counts = {"image": 64, "roomless": 6, "audio": 24, "video": 6}
        specs: dict[str, Any] = {
            "image": load_generator("small-picture", self.marker),
            "roomless": MarkedGenerator(Roomless(), self.marker),
            "audio": load_generator("rules-music", self.marker),
            "video": load_generator("small-clip", self.marker),
        }
        for kind, share in counts.items():
            for at in range(-(-RELEASES * share // 100)):
                try:
                    yield specs[kind].make([self._wish(kind, at)])[0]
                except GenerationError as error:
                    if error.code != "not-marked":
                        raise
                    yield None

    def _wish(self, kind: str, at: int) -> GenerationParams:
        sides = (256, 256, 256, 320, 384, 512)
        small = kind == "video"
        picture = self.chance.choice(self.made["image"]).pixels if small else None
        music = self.chance.choice(self.made["audio"]).sound if small and at % 2 else None
        return GenerationParams(
            PROMPTS[at % len(PROMPTS)] or "x",
            negative=self.chance.choice(("", "", "red", "people, text")),
            seed=at,
            steps=self.chance.choice((1, 2, 4)),
            guidance=self.chance.choice((0.0, 1.0, 3.0, 9.0)),
            width=256 if small else self.chance.choice(sides),
            height=256 if small else self.chance.choice(sides),
            seconds=2.0 if small else self.chance.choice((2.0, 2.5, 4.0, 10.0)),
            picture=picture,
            sound=music,
        )

    def _examined(self, content: bytes, media_type: str) -> dict[str, bool]:
        """Whether an audit finds each mark in these bytes."""
        item = self._item(content, media_type)
        c2pa, mark = (dict(detector.examine(item).fields[detector.name]) for detector in self.detectors)
        payload = int(mark.get("payload", "0"), 16)
        right = payload in (PAYLOAD, PAYLOAD & 0xFFFF)
        return {"c2pa": c2pa["state"] == "trusted" and c2pa["own"], "watermark": right}

    def _item(self, content: bytes, media_type: str) -> Item:
        path = self.folder / "file"
        path.write_bytes(content)
        kind: Any = media_type.partition("/")[0]
        options = {"watermark_key": KEY.hex(), "own_anchors": self.marker.keys.root}
        item = Item(kind, media_type, path=path, options=options)
        if kind == "image":
            item.pixels = np.asarray(Image.open(path).convert("RGB"))
            item.height, item.width = item.pixels.shape[:2]
        else:
            item.sound = heard(content)
        if kind == "video":
            item.shots = [VideoFrame(frame.at_s, frame.pixels) for frame in self.decoder.frames(path)]
        return item

    # --- After edits ---

    def _left(self, kind: Kind, name: str, content: Sequence[tuple[bytes, str]]) -> Line:
        found = [self._examined(*one) for one in content]
        marks, signed = (sum(one[which] for one in found) for which in ("watermark", "c2pa"))
        return Line(f"{kind}, {name}: mark found; C2PA left", f"{marks} of {len(found)}; {signed}")

    def pictures(self) -> Iterator[Line]:
        kept = [one.content for one in self.made["image"] if one.model != "roomless"]
        shown = [
            np.asarray(Image.open(io.BytesIO(one)).convert("RGB"))
            for one in kept[:: max(1, len(kept) // EDITED)]
        ]
        for name, edit in PICTURES.items():
            yield self._left("image", name, [(encoded(edit(pixels), "PNG"), "image/png") for pixels in shown])

    def clips(self) -> Iterator[Line]:
        kept, edited = [frames(one.content) for one in self.made["video"]][:10], []
        for name, (edit, *how) in FILMS.items():
            kind = "video/webm" if "libvpx-vp9" in how else "video/mp4"
            films = [(film([edit(one) for one in shown], *how), kind) for shown in kept]
            edited += films
            yield self._left("video", name, films)
        yield from self._false_alarms([self._item(*one) for one in edited])

    def _false_alarms(self, edited: Sequence[Item]) -> Iterator[Line]:
        """Films with the mark of another key, and films of which every frame shows another part of a picture."""
        moving = [Item("video", "video/mp4", shots=panned(picture(seed, 320))) for seed in range(UNMARKED)]
        took = time.process_time()
        false = sum(self._marked(item, KEY) for item in moving)
        took = time.process_time() - took
        false += sum(self._marked(item, OTHER) for item in edited)
        yield at_most(f"video: false alarms, of {len(moving) + len(edited)}", false, 0, "")
        yield Line(f"video: {SHOTS} frames of 256 px looked at", took / len(moving) * 1000, "cpu ms")

    def _marked(self, item: Item, key: bytes) -> bool:
        item.options = {"watermark_key": key.hex()}
        return bool(self.detectors[1].examine(item).evidence)


def panned(pixels: Pixels) -> list[VideoFrame]:
    height, width = (side - 256 for side in pixels.shape[:2])
    places = [(at * height // SHOTS, at * width // SHOTS) for at in range(SHOTS)]
    return [VideoFrame(at, pixels[y : y + 256, x : x + 256]) for at, (y, x) in enumerate(places)]
