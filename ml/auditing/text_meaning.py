"""Abuse, hate, insults, threats and sexual remarks by what a text means: a small network for each language over frozen
sentence encoders (docs/models/abuse.md).

The networks are in ``weights/abuse-2``; the encoders are MiniLM and multilingual-e5-small, of which the second is
prepared only where its package is installed.
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

from ml.auditing.text_models import Floats, Head, mask_identifiers
from ml.auditing.text_normalization import normalise
from ml.compression.store import ModelsMissing, find_model
from ml.encoders.base import Encoder

NAME = "abuse-2"
FOLDER = Path(__file__).with_name("weights") / NAME
MANIFEST = "manifest.json"
#: The encoders whose vectors a language's network reads, one after the other.
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


# --- Networks --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A language's network over the vectors of ``ENCODERS``, of one hidden layer (rectified), an output a head.

    ``hidden`` float32 [d, h] and ``hidden_bias`` [h], ``out`` [h, heads] and ``out_bias`` [heads]. ``version``: digits
    over its file.
    """

    language: str
    hidden: Floats
    hidden_bias: Floats
    out: Floats
    out_bias: Floats
    heads: tuple[Head, ...]
    version: str

    def logits(self, meant: Sequence[Floats]) -> Floats:
        """float32 [n, heads] of what ``vectors_of`` gave for n texts: of each the reading with the highest."""
        layers = self.hidden, self.hidden_bias, self.out, self.out_bias
        found = [outputs(vectors, *layers).max(axis=0) for vectors in meant]
        return np.asarray(found, np.float32).reshape(len(found), len(self.heads))


def outputs(vectors: Floats, hidden: Floats, hidden_bias: Floats, out: Floats, out_bias: Floats) -> Floats:
    """Logits [n, k] of vectors [n, d]."""
    return np.asarray(np.maximum(vectors @ hidden + hidden_bias, 0) @ out + out_bias, np.float32)


@cache
def load_networks(folder: Path = FOLDER) -> dict[str, Network]:
    """The networks by language, with the heads that passed their frozen cases.

    Raises ValueError for files that do not belong together.
    """
    from safetensors.numpy import load

    found = {}
    for language, entry in json.loads((folder / MANIFEST).read_text("utf-8"))["models"].items():
        content = (folder / entry["file"]).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest != entry["sha256"]:
            raise ValueError(f"{folder / entry['file']} is not the file that its manifest describes")
        arrays = {name: value.astype(np.float32) for name, value in load(content).items()}
        # In the order of the outputs.
        examined = [at for at, name in enumerate(entry["outputs"]) if entry["heads"][name]["examined"]]
        names = [entry["outputs"][at] for at in examined]
        heads = tuple(Head.read(name, entry["heads"][name]) for name in names)
        found[language] = Network(
            language, arrays["hidden"], arrays["hidden_bias"], arrays["out"][:, examined],
            arrays["out_bias"][examined], heads, digest[:12],
        )  # fmt: skip
    return found


def encoders_prepared() -> bool:
    """Whether texts can be read for their meaning here: both encoders were prepared. Loads no weights."""
    try:
        return all(find_model(name) for name in ("minilm", "e5"))
    except ModelsMissing:
        return False
