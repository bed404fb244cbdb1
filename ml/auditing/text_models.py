"""The shipped models of abuse: hashed n-grams, eight-bit weights, a calibration and a threshold for each head.

One safetensors file and one JSON manifest a language in ``weights/abuse-1``; see docs/models/abuse.md.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ml.auditing.calibration import Calibration

# --- Languages -------------------------------------------------------------------------------------------
# Which language a short text is in, as far as the text models care: English, Chinese, or one that they cannot read.
#
# By the share of scripts, and among Latin texts by function words: no statistics, so it says "unknown" rather than
# guess.


Language = Literal["en", "zh", "other", "unknown"]

#: Short words that are frequent in one language and, as far as possible, none in English.
_OTHERS = {
    "de": "und der das ist nicht ich du sie wir ihr ein eine zu mit auf für dem den von wie aber auch sind bist dich",
    "fr": "le la les des et est pas je tu vous nous que qui dans pour une sur avec ce cette mais sont c'est du au",
    "es": "el los las que de y en es no un una por con para como pero más mi tu te lo muy eres está del todo son",
    "pt": "o os as que de e é não um uma por com para como mas mais meu você se muito está do da em são isso",
    "it": "il lo gli che di e è non un una per con come ma più mio sei sono questo della nel anche mi ti",
    "nl": "de het een en is niet ik je wij zij van dat met voor op te zijn maar ook jij hij deze wordt bent",
    "pl": "i w na nie się z do to jest że jak ale czy ja ty co po za od tak mnie jesteś",
    "tr": "bir ve bu da de ne için çok ben sen o mi ama gibi daha var yok değil kadar siz",
    "id": "yang dan di itu ini dengan untuk tidak dari dalam akan pada juga saya kamu ke karena ada bisa",
    "vi": "và là của có không được cho một trong người này với các những tôi bạn đã để",
    "sv": "och är det att jag du inte en ett på som med för av till den har vi de men om",
    "ro": "și este nu o un de la cu pe care mai ce sunt eu tu din pentru dar ești",
}
_COMMON = (
    "the a an and or but if of to in on at by for with from as is are was were be been am i you he she it we they me"
    " him her us them my your his its our their this that these those not no so do does did don't dont can can't will"
    " would should could have has had what who how why when where which there here all just like get got out up about"
    " than then too very im i'm it's u ur yo lol please thanks hi hello go know think want need make one some any more"
)
_ENGLISH = frozenset(_COMMON.split())
#: Single letters are no sign of a language: spaced-out English is full of them.
_WORDS = {
    name: frozenset(word for word in words.split() if len(word) > 1) - _ENGLISH
    for name, words in _OTHERS.items()
}

_TOKEN = re.compile(r"[a-zß-žảạấầẩẫậắằẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]+(?:'[a-z]+)?")
_HAN = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]")
_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")
_KANA = re.compile(r"[\u3040-\u30ff]")
_FOREIGN = re.compile(r"[\u0370-\u052f\u0530-\u1cff\u3040-\u30ff\uac00-\ud7af]")
_ACCENTED = re.compile(r"[À-ɏ\u1ea0-\u1eff]")
#: A character of Chinese says about as much as this many Latin letters.
HAN_WEIGHT = 3
READ = 2_000


def language_of(text: str, written: str | None = None) -> Language:
    """The language of a text: ``unknown`` is too little to tell.

    The first 2,000 characters count. ``written``: the same text before disguises and accents were taken off, which
    tells languages in Latin letters apart. A Latin text without function words of any language counts as English:
    insults are short. What is written in two languages is what the larger half says.
    """
    head = text[:READ]
    han, latin, foreign = (len(pattern.findall(head)) for pattern in (_HAN, _LATIN, _FOREIGN))
    if not han + latin + foreign:
        return "unknown"
    if len(_KANA.findall(head)) > han / 5 and han + foreign > latin / HAN_WEIGHT:
        return "other"
    if foreign > (han * HAN_WEIGHT + latin) / 2:
        return "other"
    return (
        "zh" if han * HAN_WEIGHT >= latin else _of_latin(text if written is None else written[:READ], latin)
    )


def _of_latin(text: str, letters: int) -> Language:
    tokens = _TOKEN.findall(text.lower())
    english = sum(token in _ENGLISH for token in tokens)
    other = max(sum(token in words for token in tokens) for words in _WORDS.values())
    if other > english and (other >= 2 or len(tokens) <= 4):
        return "other"
    # A look-alike here and there is evasion; several in a hundred letters are another alphabet.
    accented = len(_ACCENTED.findall(text))
    return "other" if english == 0 and accented > 0.08 * letters and accented >= 3 else "en"


# --- Hashed n-grams --------------------------------------------------------------------------------------
# Texts as hashed n-grams, and linear models over them that ship as plain arrays: NumPy only.
#
# Hashing keeps no vocabulary: the weights hold no user name, and no rare word of anybody's post (Weinberger et al.
# 2009, arXiv:0902.2206).


BITS = 18
BUCKETS = 1 << BITS
#: Odd, from splitmix and FNV: which ones does not matter, only that they stay the same.
_STEP = np.uint32(0x01000193)
_MIX = np.uint32(0x9E3779B1)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class NGrams:
    """The n-grams of a text: ``buckets`` int64 [n]; each covers the characters ``starts`` to ``ends`` of it."""

    buckets: NDArray[np.int64]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]


def mask_identifiers(text: str) -> str:
    """Lower case; names of users, addresses and digits as placeholders. Every character stays in its place."""
    text = _ADDRESS.sub(lambda found: "\x01" * len(found.group()), _lower(text))
    return _DIGIT.sub("0", _USER.sub(lambda found: "\x02" * len(found.group()), text))


def ngrams(text: str, words: int, characters: tuple[int, int]) -> NGrams:
    """n-grams of up to ``words`` words, and of ``characters`` from to, of a cleaned text.

    White space counts as one space, a placeholder as one character.
    """
    codes, places = _codes(text)
    parts = [_character_grams(codes, places, n) for n in range(characters[0], characters[1] + 1)]
    if words:
        parts.append(_word_grams(text, words))
    return NGrams(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@dataclass(frozen=True)
class LinearModel:
    """``weights`` float16 [heads, BUCKETS], ``idf`` float16 [BUCKETS], ``bias`` float32 [heads]; logits before Platt.

    A bucket's value is (1 + log count) · idf, the vector has norm 1.
    """

    weights: NDArray[np.float16]
    idf: NDArray[np.float16]
    bias: Floats
    words: int
    characters: tuple[int, int]

    def vector(self, text: str) -> tuple[NDArray[np.int64], Floats]:
        """The buckets of a cleaned text, sorted, and their values: float32 of norm 1."""
        return tf_idf(ngrams(text, self.words, self.characters).buckets, self.idf)

    def logits(self, text: str) -> Floats:
        """float32 [heads] of a cleaned text."""
        buckets, values = self.vector(text)
        return self.weights[:, buckets].astype(np.float32) @ values + self.bias

    def shares(self, text: str, head: int) -> Floats:
        """What each character of a cleaned text adds to a head's logit: float32 [len(text)]."""
        found = ngrams(text, self.words, self.characters)
        buckets, values = tf_idf(found.buckets, self.idf)
        if not text or not len(buckets):
            return np.zeros(len(text), np.float32)
        each = values * self.weights[head, buckets].astype(np.float32)
        at = np.searchsorted(buckets, found.buckets)
        counts = np.bincount(at, minlength=len(buckets))
        lengths = np.maximum(found.ends - found.starts, 1)
        per_character = each[at] / counts[at] / lengths
        steps = np.zeros(len(text) + 1, np.float64)
        np.add.at(steps, found.starts, per_character)
        np.add.at(steps, found.ends, -per_character)
        return np.cumsum(steps[:-1]).astype(np.float32)


def tf_idf(buckets: NDArray[np.int64], idf: NDArray[np.float16]) -> tuple[NDArray[np.int64], Floats]:
    """Distinct buckets and their values, scaled to norm 1; an empty text stays empty."""
    distinct, counts = np.unique(buckets, return_counts=True)
    values = (1 + np.log(counts)).astype(np.float32) * idf[distinct].astype(np.float32)
    norm = float(np.sqrt(values @ values))
    return distinct, values / norm if norm else values


def _codes(text: str) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """Code points with single spaces, one at each end, and the place of each in the text."""
    codes = np.frombuffer(f" {text} ".encode("utf-32-le", "replace"), np.uint32)
    codes = np.where(codes == 10, np.uint32(32), codes)
    repeated = (codes[1:] == codes[:-1]) & np.isin(codes[1:], (32, 1, 2))
    kept = np.flatnonzero(~np.concatenate([[False], repeated]))
    return codes[kept], np.clip(kept - 1, 0, max(len(text) - 1, 0)).astype(np.int32)


def _character_grams(
    codes: NDArray[np.uint32], places: NDArray[np.int32], n: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    count = max(len(codes) - n + 1, 0)
    mixed = np.full(count, n, np.uint32)
    for at in range(n):
        mixed = (mixed ^ codes[at : at + count]) * _STEP
        mixed ^= mixed >> np.uint32(15)
    buckets = (mixed * _MIX) >> np.uint32(32 - BITS)
    return buckets.astype(np.int64), places[:count], places[n - 1 : n - 1 + count] + 1


def _word_grams(text: str, most: int) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    words = [(found.group().encode(), *found.span()) for found in _WORD.finditer(text)]
    buckets, starts, ends = [], [], []
    for n in range(1, most + 1):
        for at in range(len(words) - n + 1):
            hashed = n
            for word, _, _ in words[at : at + n]:
                hashed = zlib.crc32(word, hashed)
            buckets.append(hashed >> (32 - BITS))
            starts.append(words[at][1])
            ends.append(words[at + n - 1][2])
    return np.array(buckets, np.int64), np.array(starts, np.int32), np.array(ends, np.int32)


def _lower(text: str) -> str:
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(each.lower()[:1] or each for each in text)


_ADDRESS = re.compile(r"(?:https?://|www\.)[^\s\u3000-\u9fff]+")
_USER = re.compile(r"(?<![a-z0-9_.])@[a-z0-9_]+")
_DIGIT = re.compile(r"[0-9]")
_WORD = re.compile(r"[^\W_]+|\x01+|\x02+|[^\w\s]")


# --- Models ----------------------------------------------------------------------------------------------


FOLDER = Path(__file__).with_name("weights") / "abuse-1"
MANIFEST = "manifest.json"
LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Head:
    """One category of a model. ``threshold``: the probability that had the best macro-F1 on the calibration split."""

    name: str
    calibration: Calibration
    threshold: float

    @classmethod
    def read(cls, name: str, entry: Mapping[str, Any]) -> Head:
        """As a manifest describes it."""
        return cls(name, Calibration.loads(json.dumps(entry["calibration"])), entry["threshold"])


@dataclass(frozen=True)
class TextModel:
    """A language's model: ``heads`` in the order of its logits. ``version``: digits over its files."""

    language: str
    linear: LinearModel
    heads: tuple[Head, ...]
    version: str

    def probabilities(self, cleaned: str) -> dict[str, float]:
        """By category, of a text that ``hashed_text.clean`` gave."""
        logits = self.linear.logits(cleaned)
        return {
            head.name: head.calibration.probability(float(logit))
            for head, logit in zip(self.heads, logits, strict=True)
        }


@cache
def load_model(language: str, folder: Path = FOLDER) -> TextModel:
    """The model of ``en`` or ``zh``. Raises FileNotFoundError, ValueError for files that do not belong together."""
    from safetensors.numpy import load

    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))["models"][language]
    content = (folder / manifest["file"]).read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest["sha256"]:
        raise ValueError(f"{folder / manifest['file']} is not the file that its manifest describes")
    arrays = load(content)
    linear = LinearModel(
        weights=dequantized(arrays["weights"], arrays["weight_scales"][:, None]),
        idf=dequantized(arrays["idf"], arrays["idf_scale"]),
        bias=arrays["bias"],
        words=manifest["words"],
        characters=tuple(manifest["characters"]),
    )
    heads = tuple(Head.read(name, head) for name, head in manifest["heads"].items())
    return TextModel(language, linear, heads, manifest["sha256"][:12])


def dequantized(values: NDArray[Any], scale: NDArray[np.float32]) -> NDArray[np.float16]:
    return (values.astype(np.float32) * scale).astype(np.float16)
