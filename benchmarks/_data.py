"""The measuring sets, where they are, and what the encoders say about them (cached: encoding takes minutes)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from _baselines import picture_features
from _report import OUT, ROOT, TOY, skip
from numpy.typing import NDArray

from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.numerics import unit
from ml.alignment.space import SHIPPED, JointSpace, shared_encoder
from ml.encoders.base import Encoder
from ml.media import Decoder

CACHE = OUT / "cache"
DATA = Path(os.environ.get("CROSSLIGHT_DATA", ROOT.parent / "shared" / "data"))

Array = NDArray[Any]
Row = dict[str, Any]
BATCH = 8
TOY_ROWS = 8


def rows_of(name: str, file: str = "manifest.jsonl", *, whole: bool = False) -> list[Row] | None:
    """The rows of a set, or None, said plainly, where it is absent. At toy size some of them, from all over,
    unless it has to be `whole`."""
    path = DATA / name / file
    if not path.is_file():
        skip(f"the set {name!r} is not in $CROSSLIGHT_DATA or ../shared/data")
        return None
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    return rows[:: max(1, len(rows) // TOY_ROWS)] if TOY and not whole else rows


class Encoded:
    """The shipped encoders with a cache on disk, keyed by their versions and the input."""

    def __init__(self, space: JointSpace) -> None:
        self.space = space
        self.text_encoder = shared_encoder(space.manifest["encoders"]["text"])
        self.image_encoders = [shared_encoder(spec) for spec in space.manifest["encoders"]["image"]]
        self.decoder = Decoder()

    @cached_property
    def prior(self) -> Encoded:
        """Encoders that name classes: this one's, or those of the prior where a space has a tower that names none."""
        named = self.space.manifest.get("kind", "prior") == "prior"
        return self if named else Encoded(JointSpace.load(SHIPPED))

    def texts(self, texts: list[str]) -> Array:
        """The text encoder's vectors [n, d]."""
        return self.cached(
            "texts", [self.text_encoder], texts, lambda: {"vectors": self.text_encoder.encode(texts)}
        )["vectors"]

    def read(self, texts: list[str]) -> TextFeatures:
        """The same with the colours that they name."""
        return TextFeatures(self.texts(texts), self.space.named_colours(texts))

    def see(self, paths: list[Path]) -> ImageFeatures:
        """What the image encoders say of pictures below DATA or OUT."""
        names = [str(path.relative_to(DATA if path.is_relative_to(DATA) else OUT)) for path in paths]
        return ImageFeatures(**self.cached("sight", self.image_encoders, names, lambda: self._see(paths)))

    def pictures(self, paths: list[Path]) -> tuple[Array, Array]:
        """Class probabilities [n, 1000] and colour scores [n, 11]."""
        seen = self.prior.see(paths)
        return seen.probabilities, seen.colours

    def linear_features(self, paths: list[Path]) -> Array:
        """What linear models that need pairs see of pictures: [n, F], rows of norm 1."""
        if self.prior is self:
            return picture_features(self.pictures(paths)[0])
        features = self.see(paths).features
        return unit(features - features.mean(axis=0))

    def embed_texts(self, texts: list[str]) -> Array:
        """In the space: [n, dimension]."""
        return self.space.project_text(self.read(texts))

    def embed_pictures(self, paths: list[Path]) -> Array:
        """In the space: [n, dimension]."""
        return self.space.project_image(self.see(paths))

    def transcripts(self, paths: list[Path]) -> list[str]:
        """What Whisper tiny.en hears."""
        path = CACHE / f"transcripts-{_digest(['whisper-tiny-en', *map(str, paths)])}.json"
        if not path.exists():
            from ml.encoders.whisper_tiny_en import Transcriber

            transcriber = Transcriber()
            heard = [transcriber.transcribe(self.decoder.audio(sound)).text for sound in paths]
            _write(path, json.dumps(heard).encode())
        return list(json.loads(path.read_text()))

    def _see(self, paths: list[Path]) -> dict[str, Array]:
        batches = (paths[start : start + BATCH] for start in range(0, len(paths), BATCH))
        pixels = ([self.decoder.image(path, thumbnail=False).pixels for path in batch] for batch in batches)
        return dict(vars(ImageFeatures.concatenate([self.space.see(batch) for batch in pixels])))

    def cached(
        self, kind: str, encoders: list[Encoder], names: list[str], make: Callable[[], dict[str, Array]]
    ) -> dict[str, Array]:
        versions = [f"{encoder.id} {encoder.version}" for encoder in encoders]
        path = CACHE / f"{kind}-{_digest([*versions, *names])}.npz"
        if not path.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part.npz")
            np.savez(part, **make())
            part.replace(path)
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}


def _digest(names: list[str]) -> str:
    return hashlib.sha256("\n".join(names).encode("utf-8", "replace")).hexdigest()[:16]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)
