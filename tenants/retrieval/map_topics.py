"""What the topics of a map are called: by words of what lies in them, read at each look, so that nothing of an asset
that was deleted or held back stays in a name.

Of each topic the assets nearest to its middle are read, by their captions, tags and first words. Where they have none,
it is called by the things of a vocabulary that it is most like, more than the others are, in the model's space, where a
search for them is likely to be answered by what lies in it.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from cachetools import LRUCache
from django.utils.translation import get_language

from ml.projection.topics import keywords
from ml.projection.vocabulary import THINGS
from tenants.datasets.metadata import tags_of
from tenants.datasets.models import Asset
from tenants.datasets.selectors import visible_assets
from tenants.errors import ServiceError
from tenants.retrieval import model_store
from tenants.retrieval.index.vectors import Stored, sampled
from tenants.retrieval.map_points import Points, ids_of
from tenants.retrieval.query.lexical import is_han, located
from tenants.scope import tenant_scope

if TYPE_CHECKING:
    from ml.alignment.relevance import Relevance

#: Assets of a topic whose words are read, the nearest to its middle first; those whose vectors are; examples told.
SAMPLED, LOOKED_AT, EXAMPLES = 80, 8, 3
#: Words that are read of an asset, from its beginning.
READ = 600
#: Things that a topic without words is called by.
MOST_THINGS = 2
#: Things that are tried, the most telling first.
CONSIDERED = 12
#: From this mean chance on a thing is a name: less than of a result, as the page says that it is a guess.
LIKELY = 0.4
LONGEST = 40
#: Of so many assets one has words, else the words say nothing of the topic.
WORDY = 0.2

# What tells no topic apart, and what names of files begin with; beside the words that the index leaves out.
_SAYING_NOTHING = (
    "a about above after again all also am an and any are as at be because been before being below between "
    "both but by can could did do does doing down during each few for from further get got had has have "
    "having he her here hers him his how i if in into is it its itself just let like made make me more most "
    "my myself no nor not now of off on once one only or other our out over own please same she should so "
    "some such than that the their them then there these they this those through to too two under until up us "
    "very want was we were what when where which while who whom why will with would you your im ive dont cant "
    "image images img dsc photo photos picture pictures file jpg jpeg png webp mp3 mp4 wav untitled copy "
    "screenshot didn doesn isn wasn hasn haven hadn couldn wouldn shouldn aren weren won 怎么办 咋办 的 了 是 "
    "在 和 也 就 与 及 或 我 你 他 她 它 我们 你们 他们 这 那 这个 那个 什么 怎么 怎样 如何 吗 呢 吧 啊 有 "
    "没有 不 很 都 会 能 可以 要 想 请 请问 一个 一种 一些 一只 一位 一名 个 只 把 被 给 对 从 到 上 下 里 中 "
    "为 着 得 地 之 以 及其 等 哪些 为什么 多少 需要 应该 正在 "
)
_EMPTY = frozenset(_SAYING_NOTHING.split())
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True)
class Topic:
    """`words`, the most telling first, empty where nothing is known. `guessed`: by likeness to a vocabulary, not by
    the assets' own words. `examples`: assets nearest to the middle."""

    topic: int
    words: list[str]
    guessed: bool
    examples: list[str]


@dataclass
class _Read:
    """What was read of a topic: of each asset the terms, and in which spelling."""

    ids: list[uuid.UUID] = field(default_factory=list)
    terms: list[frozenset[str]] = field(default_factory=list)


def topics_of(tenant_id: uuid.UUID, points: Points) -> list[Topic]:
    """Those with an asset that may be seen, by their number. In no scope, as words may have to be encoded."""
    if points.groups is None:
        return []
    wanted = _nearest(points.ids, points.groups)
    spelt: dict[str, Counter[str]] = defaultdict(Counter)
    with tenant_scope(tenant_id):
        read = _read(wanted, spelt)
    told = keywords({topic: [terms for terms in one.terms if terms] for topic, one in read.items()})
    for topic, one in read.items():
        if sum(map(bool, one.terms)) < WORDY * len(one.ids):
            told[topic] = []
    wordless = [topic for topic in read if not told.get(topic)]
    things = _things(tenant_id, points.model, read, wordless) if wordless else {}
    return [
        Topic(
            topic,
            [_spelling(spelt[word], word) for word in told.get(topic, ())] or things.get(topic, []),
            not told.get(topic) and topic in things,
            [str(asset_id) for asset_id in one.ids[:EXAMPLES]],
        )
        for topic, one in sorted(read.items())
    ]


def _nearest(ids: np.ndarray, groups: np.ndarray) -> dict[uuid.UUID, int]:
    """The assets that stand for topics, the nearest to the middle of theirs first, with its number."""
    order = np.lexsort((np.arange(len(groups)), -groups["nearness"], groups["topic"]))
    topics = groups["topic"][order]
    starts = np.searchsorted(topics, topics)
    chosen = order[(topics >= 0) & (np.arange(len(order)) - starts < SAMPLED)]
    known = ids_of(ids[chosen])
    return {uuid.UUID(one): int(groups["topic"][at]) for one, at in zip(known, chosen, strict=True)}


def _read(wanted: dict[uuid.UUID, int], spelt: dict[str, Counter[str]]) -> dict[int, _Read]:
    rows = visible_assets().filter(pk__in=list(wanted)).exclude(moderation__in=Asset.HIDDEN)
    known = {one.pk: one for one in rows.select_related(None).defer("labels", "error")}
    found: dict[int, _Read] = defaultdict(_Read)
    for asset_id, topic in wanted.items():
        if asset_id in known:
            found[topic].ids.append(asset_id)
            found[topic].terms.append(_terms(known[asset_id], spelt))
    return dict(found)


def _terms(asset: Asset, spelt: dict[str, Counter[str]]) -> frozenset[str]:
    """Words and pairs of words of an asset, and its tags as they are."""
    kept: set[str] = set()
    for tag in tags_of(asset.metadata):
        if term := " ".join(tag.casefold().split()):
            kept.add(term)
            spelt[term][tag.strip()] += 1
    texts = [*asset.captions, asset.excerpt] if asset.caption or asset.excerpt else [_stem(asset.filename)]
    for text in texts:
        for term, spelling in _terms_of(text[:READ]):
            kept.add(term)
            spelt[term][spelling] += 1
    return frozenset(kept)


def _stem(filename: str) -> str:
    return filename.rpartition(".")[0].replace("_", " ").replace("-", " ")


def _terms_of(text: str) -> Iterator[tuple[str, str]]:
    before, ended = "", -1
    started = 0
    for word, start, end in located(text):
        spelling = text[start:end]
        if not _tells(word, spelling):
            before = ""
            continue
        yield word, spelling
        if before and text[ended:start] == " " and not is_han(word):
            yield f"{before} {word}", text[started:end]
        before, started, ended = (word, start, end) if not is_han(word) else ("", start, end)


def _tells(word: str, spelling: str) -> bool:
    if word in _EMPTY or spelling.casefold() in _EMPTY or _DIGIT.search(word) or len(word) > LONGEST:
        return False
    return len(word) > 1 if is_han(word) else len(word) > 2


def _spelling(counted: Counter[str], word: str) -> str:
    """As most write it, in small letters where some do."""
    best = max(counted, key=lambda one: (counted[one], one), default=word)
    return best.lower() if best.lower() in counted else best


# --- Topics without words ----------------------------------------------------------------------------------

_embedded: LRUCache[tuple[uuid.UUID, str], np.ndarray] = LRUCache(8)
_lock = threading.Lock()


def _things(
    tenant_id: uuid.UUID, model: str, read: dict[int, _Read], wordless: Sequence[int]
) -> dict[int, list[str]]:
    """What of the vocabulary these topics are most like, beyond what all topics are. Empty where the model reads no
    words, or cannot be had; a topic is left out where no thing is likely."""
    try:
        space = model_store.space(model, tenant_id)
        known = _vocabulary((tenant_id, model), space)
    except (ServiceError, OSError, ValueError, RuntimeError):
        # The names are an extra: without them topics have numbers.
        return {}
    ids = {asset_id: topic for topic, one in read.items() for asset_id in one.ids[:LOOKED_AT]}
    with tenant_scope(tenant_id):
        stored = sampled(list(ids), model=model, most=1, own=True)
    stands: dict[int, list[Stored]] = defaultdict(list)
    for one in stored:
        stands[ids[one.asset_id]].append(one)
    topics = sorted(stands)
    if not topics or stored[0].values.shape[0] != known.shape[1]:
        return {}
    middles = np.array([sum(one.values for one in stands[topic]) for topic in topics])
    middles /= np.maximum(np.linalg.norm(middles, axis=1, keepdims=True), 1e-9)
    scores = middles @ known.T
    if len(topics) > 1:
        scores = scores - scores.mean(axis=0)
    place = 1 if (get_language() or "").startswith("zh") else 0
    best = np.argsort(-scores, axis=1, kind="stable")[:, :CONSIDERED]
    named: dict[int, list[str]] = {}
    for row, topic in enumerate(topics):
        likely = (at for at in best[row] if _is_likely(space.relevance, stands[topic], known[at]))
        if topic in wordless and (found := [THINGS[at][place] for at in islice(likely, MOST_THINGS)]):
            named[topic] = found
    return named


def _is_likely(relevance: Relevance | None, assets: list[Stored], thing: np.ndarray) -> bool:
    """Whether a search for the thing is likely to be answered by these assets, by the mean of their chances.

    What a topic is most like among the things of the vocabulary may still be nothing that lies in it. True where
    nothing is calibrated.
    """
    if relevance is None:
        return True
    chances = [relevance.of("text", one.modality, float(one.values @ thing)) for one in assets]
    known = [chance for chance in chances if chance is not None]
    return not known or sum(known) / len(known) >= LIKELY


def _vocabulary(key: tuple[uuid.UUID, str], space: Any) -> np.ndarray:
    """The names of THINGS in this space: float32 [n, d] of norm 1. Encoded once a process and space."""
    with _lock:
        if (known := _embedded.get(key)) is None:
            found = space.embed_texts([english for english, _chinese in THINGS])
            known = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
            _embedded[key] = known
        return known
