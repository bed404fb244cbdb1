"""The texts that the models of abuse are trained and measured on, split so that no near copy is on both sides."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ml.auditing.text_models import mask_identifiers
from ml.auditing.text_normalization import normalise

Split = Literal["train", "calibration", "test"]

#: Two texts that share so much of their letters (cosine of 4-grams, of Chinese 2-grams) are copies of each other.
NEAR = 0.7
#: Everyday texts without abuse, so that ordinary language is no sign of it: the sets to learn from and to measure with.
#: Where both are the same, half of it is learnt from.
EVERYDAY = {"en": ("clinc150_small", "banking77"), "zh": ("zh_medical_qa", "zh_medical_qa")}
SETS = {"en": "davidson_hate", "zh": "cold_zh"}
HEADS = {"en": ("abuse", "hate"), "zh": ("abuse",)}


@dataclass(frozen=True)
class Texts:
    """``raw`` as written, ``texts`` cleaned; ``labels`` bool [n, heads]; ``groups`` by near copies; ``topics``."""

    raw: Sequence[str]
    texts: Sequence[str]
    labels: NDArray[np.bool_]
    groups: NDArray[np.int64]
    topics: Sequence[str]

    def split(self, seed: int) -> NDArray[np.str_]:
        """Each text's split, by a digest of its group: 15 % test, 10 % calibration."""
        places = {group: _place(f"{seed}/{self.texts[at]}") for at, group in _firsts(self.groups)}
        return np.array([places[group] for group in self.groups])


def load(data: Path, language: str) -> Texts:
    """The labelled set of a language. Raises FileNotFoundError."""
    rows = _rows(data / SETS[language])
    # The tweets were stored as HTML; that is a fault of the set, not something that people write.
    raw = [html.unescape(html.unescape(row["text"])) for row in rows]
    texts = [cleaned(text) for text in raw]
    safe = {"neither", "safe"}
    labels = [[row["label"] not in safe, row["label"] == "hate"][: len(HEADS[language])] for row in rows]
    topics = [row.get("topic") or "" for row in rows]
    return Texts(raw, texts, np.array(labels), near_copies(texts, 2 if language == "zh" else 4), topics)


def everyday(data: Path, language: str) -> tuple[list[str], list[str]]:
    """Texts without abuse, distinct, as written: (to learn from, to measure with)."""
    learnt, measured = (
        sorted({row.get("title") or row["text"] for row in _rows(data / name)}) for name in EVERYDAY[language]
    )
    if learnt == measured:
        learnt = [text for text in learnt if _digest(text) % 2]
    return learnt, sorted(set(measured) - set(learnt))


def cleaned(text: str) -> str:
    return mask_identifiers(normalise(text).plain.text)


def near_copies(texts: Sequence[str], n: int) -> NDArray[np.int64]:
    """A number for each text, the same for texts that are near copies, also by way of others."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    letters = [re.sub(r"[\W\d_\x01\x02]+", " ", re.sub(r"\brt\b", " ", text)) for text in texts]
    vectorizer = CountVectorizer(
        analyzer="char_wb", ngram_range=(n, n), binary=True, max_df=0.02, dtype=np.float32
    )
    vectors = normalize(vectorizer.fit_transform(letters))
    rows, columns = [], []
    for start in range(0, len(letters), 1000):
        alike = (vectors[start : start + 1000] @ vectors.T).tocoo()
        near = alike.data >= NEAR
        rows.append(alike.row[near] + start)
        columns.append(alike.col[near])
    pairs = np.concatenate(rows), np.concatenate(columns)
    graph = csr_matrix((np.ones(len(pairs[0])), pairs), shape=(len(texts), len(texts)))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _firsts(groups: NDArray[np.int64]) -> list[tuple[int, int]]:
    distinct, first = np.unique(groups, return_index=True)
    return [(int(at), int(group)) for group, at in zip(distinct, first, strict=True)]


def _place(name: str) -> Split:
    part = _digest(name) % 100
    return "test" if part < 15 else "calibration" if part < 25 else "train"


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:4], "big")


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "manifest.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]
