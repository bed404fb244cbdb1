"""Hate and abuse by what a text means: linear heads over frozen sentence encoders (docs/models/abuse.md).

The heads are in ``weights/hate-1``; the encoders are MiniLM and multilingual-e5-small, of which the second is prepared
only where its package is installed.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ml.auditing.calibration import Calibration
from ml.auditing.text_models import Floats, Head, mask_identifiers
from ml.auditing.text_normalization import normalise
from ml.compression.store import ModelsMissing, find_model
from ml.encoders.base import Encoder

FOLDER = Path(__file__).with_name("weights") / "hate-1"
MANIFEST = "manifest.json"
#: The encoders whose vectors a language's head reads, one after the other.
ENCODERS: dict[str, tuple[str, ...]] = {"en": ("minilm", "e5"), "zh": ("e5",)}

# --- What is read ----------------------------------------------------------------------------------------

_PICTURE = re.compile(r"[\u2600-\u27bf\U0001f300-\U0001faff]")
_TONES = {
    chr(0x1F3FB + at): f" {name} skin "
    for at, name in enumerate(("light", "light", "medium", "dark", "dark"))
}
_MASKED = {"\x01": " link ", "\x02": " user "}
_MASK = re.compile(r"\x01+|\x02+")
_SPACES = re.compile(r"\s+")


def readings(text: str) -> list[str]:
    """What the encoders are given of a text: its plain reading, and its folded one where that differs.

    Pictures are named, since whom a sentence is about may be said by one alone; users, links and digits are
    placeholders.
    """
    read = normalise(_PICTURE.sub(_named, text))
    return list(dict.fromkeys(_tidy(reading.text) for reading in (read.plain, read.folded)))


def _named(found: re.Match[str]) -> str:
    sign = found.group()
    return _TONES.get(sign) or f" {unicodedata.name(sign, '').lower()} "


def _tidy(text: str) -> str:
    masked = _MASK.sub(lambda found: _MASKED[found.group()[0]], mask_identifiers(text))
    return _SPACES.sub(" ", masked).strip()


def vectors_of(texts: Sequence[str], language: str) -> list[Floats]:
    """Of each text the vectors of its readings: float32 [readings, d]. Raises ModelsMissing."""
    if not texts:
        return []
    read = [readings(text) for text in texts]
    vectors = encode([one for each in read for one in each], ENCODERS[language])
    return np.split(vectors, np.cumsum([len(each) for each in read])[:-1])


def encode(texts: Sequence[str], encoders: Sequence[str]) -> Floats:
    """Vectors of what ``readings`` gave, one encoder's after the other: float32 [n, d]. Raises ModelsMissing."""
    return np.concatenate([_encoder(name).encode(list(texts)) for name in encoders], axis=1)


@cache
def _encoder(name: str) -> Encoder:
    # Here, as the runtime is loaded by what encodes only.
    from ml.encoders.e5 import E5
    from ml.encoders.minilm import MiniLM

    return MiniLM() if name == "minilm" else E5()


# --- Heads -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MeaningHead:
    """A category's head for one language, with its calibration.

    ``weights`` float32 [d] and ``bias`` over the vectors of ``ENCODERS``; ``words``: what the logit by words of the
    same category counts beside, 0 where it does not. ``version``: digits over its file.
    """

    language: str
    weights: Floats
    bias: float
    words: float
    head: Head
    version: str

    def logits(self, meant: Sequence[Floats], by_words: Sequence[float]) -> Floats:
        """float32 [n] of what ``vectors_of`` gave for n texts: of each the reading with the highest.

        ``by_words`` [n]: the logits of the model of words.
        """
        highest = [float((vectors @ self.weights).max()) for vectors in meant]
        words = np.asarray(by_words, np.float32)
        return np.asarray(highest, np.float32) + self.bias + self.words * words


@cache
def load_heads(folder: Path = FOLDER) -> dict[tuple[str, str], MeaningHead]:
    """The heads by language and category, of those that passed their frozen cases.

    Raises ValueError for files that do not belong together.
    """
    from safetensors.numpy import load

    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    content = (folder / manifest["file"]).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != manifest["sha256"]:
        raise ValueError(f"{folder / manifest['file']} is not the file that its manifest describes")
    arrays = load(content)
    found = {}
    for name, entry in manifest["heads"].items():
        language, _, category = name.partition("/")
        if entry["examined"]:
            calibration = Calibration.loads(json.dumps(entry["calibration"]))
            found[language, category] = MeaningHead(
                language, arrays[f"{name}/weights"], float(arrays[f"{name}/bias"][0]), entry["words"],
                Head(category, calibration, entry["threshold"]), digest[:12],
            )  # fmt: skip
    return found


def encoders_prepared() -> bool:
    """Whether hate can be told by meaning here: both encoders are among the prepared models. Loads no weights."""
    try:
        return all(find_model(name) for name in ("minilm", "e5"))
    except ModelsMissing:
        return False
