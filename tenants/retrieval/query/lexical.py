"""Words: how a text becomes those of the lexical index, which assets hold them, and where they stand in a result."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
import uuid
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from django.db import connection

from ml.normalization import MAX_MARKS, normalize
from tenants.datasets import filenames
from tenants.datasets.models import Asset
from tenants.datasets.selectors import is_any
from tenants.retrieval.models import LexicalEntry
from tenants.retrieval.types import Restriction
from tenants.scope import current_tenant_id, narrowing

# --- A text as words ------------------------------------------------------------------------------------

# Texts and queries go through the same steps. Words are lower-cased and rid of accents; English plurals become
# singular (what stemmers conflate beyond that, the vectors find as well); Chinese is cut by jieba's dictionary; kana,
# Thai, Lao, Khmer and Burmese, which write no spaces either, become pairs of characters.

MAX_CHARACTERS = 20_000
MAX_WORDS = 2_000
MAX_WORD = 40

_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSPACED = "\u3041-\u3096\u30a1-\u30ff\u31f0-\u31ff\u0e01-\u0e4e\u0e80-\u0ece\u1000-\u109f\u1780-\u17d3"
# Signs that belong to the letters before them, which \w leaves out.
_SIGNS = "\u0591-\u05c7\u064b-\u065f\u0670\u0900-\u0963\u0970-\u0dff"
_RUNS = re.compile(rf"([{_HAN}]+)|([{_UNSPACED}]+)|((?:(?![{_HAN}{_UNSPACED}])[^\W_]|[{_SIGNS}])+)")
_ASCII_RUNS = re.compile("[a-z0-9]+")
_HAN_ONLY = re.compile(f"[{_HAN}]+")
_ACCENTS = re.compile("[\u0300-\u036f]")
_JOINING = frozenset(chr(code) for code in (*range(0x1160, 0x1200), 0xFF9E, 0xFF9F, *range(0xFFA0, 0xFFDD)))

# In nearly every English or Chinese text, so they tell none apart.
_STOP = (
    "a an and are as at be been but by for from had has have if in into is it its no not of on or such that the their "
    "then there these they this to was were which will with 的 了 是 在 和 也 就 与 及 或"
)
STOP_WORDS = frozenset(_STOP.split())


def tokens(text: str) -> list[str]:
    """The words of a text in order, as they are indexed: at most MAX_WORDS of its first MAX_CHARACTERS."""
    found: list[str] = []
    for word in _words(text[:MAX_CHARACTERS]):
        if word not in STOP_WORDS:
            found.append(word)
            if len(found) == MAX_WORDS:
                break
    return found


def located(text: str) -> Iterator[tuple[str, int, int]]:
    """The words of a text's first MAX_CHARACTERS, each with where it stands: text[start:end]. May overlap."""
    folded, places = _folded(text[:MAX_CHARACTERS])
    for match in _RUNS.finditer(folded):
        for word, start, end in _parts(match):
            at = match.start()
            yield word, places[at + start][0], places[at + end - 1][1]


def folded(text: str) -> str:
    """The text's first MAX_CHARACTERS as words are compared in it: to see quickly whether one can be there at all."""
    return _plain(text[:MAX_CHARACTERS])


def is_han(word: str) -> bool:
    """Whether a word consists of Chinese characters."""
    return not word.isascii() and _HAN_ONLY.fullmatch(word) is not None


def _words(text: str) -> Iterator[str]:
    if text.isascii():
        for run in _ASCII_RUNS.findall(text.lower()):
            yield _singular(run[:MAX_WORD])
        return
    for han, unspaced, run in _RUNS.findall(_plain(text)):
        if run:
            yield _singular(run[:MAX_WORD])
        elif han:
            yield from (word[:MAX_WORD] for word in _chinese().cut_for_search(han))
        else:
            yield from _pairs(unspaced)


def _chinese() -> Any:
    """The dictionary of words takes .1 s and 34 MB in each process: loaded with the first Chinese text."""
    import rjieba

    return rjieba


def _plain(text: str) -> str:
    """Compatibility forms, case and accents folded away; Korean syllables and voiced kana stay whole."""
    folded = normalize("NFKD", normalize("NFKC", text).casefold())
    return normalize("NFKC", _ACCENTS.sub("", folded))


def _parts(match: re.Match[str]) -> Iterator[tuple[str, int, int]]:
    """The words of one run, with their places in it."""
    run = match.group()
    if match.group(3):
        yield _singular(run[:MAX_WORD]), 0, len(run)
    elif match.group(1):
        yield from ((word[:MAX_WORD], start, end) for word, start, end in _chinese().tokenize(run, "search"))
    else:
        yield from ((pair, at, at + len(pair)) for at, pair in enumerate(_pairs(run)))


def _folded(text: str) -> tuple[str, list[tuple[int, int]]]:
    """What `_plain` makes of a text, and for each of its characters where the ones behind it begin and end."""
    kept, places = [], []
    for start, end in _clusters(text):
        plain = _plain_cluster(text[start : min(end, start + 1 + MAX_MARKS)])
        kept.append(plain)
        places += [(start, end)] * len(plain)
    return "".join(kept), places


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Each character with those that may join it when a text is normalised."""
    start = 0
    for at in range(1, len(text)):
        if not _joins(text[at]):
            yield start, at
            start = at
    if text:
        yield start, len(text)


@lru_cache(maxsize=20_000)
def _joins(character: str) -> bool:
    """Marks, the later letters of a Korean syllable, and the voicing marks of half-width kana."""
    return character in _JOINING or unicodedata.category(character)[0] == "M"


@lru_cache(maxsize=20_000)
def _plain_cluster(cluster: str) -> str:
    return _plain(cluster)


def _pairs(run: str) -> Iterator[str]:
    yield from (run[at : at + 2] for at in range(max(1, len(run) - 1)))


@lru_cache(maxsize=20_000)
def _singular(word: str) -> str:
    """English plurals, in the manner of Harman's S-stemmer (How effective is suffixing?, JASIS 1991)."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes", "zzes")) or (word.endswith("oes") and len(word) > 5):
        return word[:-2]
    return word[:-1]


# --- The index ------------------------------------------------------------------------------------------

# An entry is a tsvector of what an asset says (weight A) and of its metadata (weight B); Chinese characters stand
# beside the words that hold them (weight C), so that one character finds them too. Every lexeme begins with eight
# characters that stand for the tenant: the shared GIN index then never reads another tenant's postings, whose number
# would show in the time that a query takes. Row-level security keeps Postgres from using that index (`@@` is not
# leakproof); the function `lexical_matches` (migration 0002) reads it for the tenant that is set, and for no other.

MAX_QUERY_WORDS = 16
# Documents compared in one query, shared by its words: what its rarer words find is always among them.
CANDIDATES = 2_000
# Assets whose titles are looked at for words, and characters of them. A word that is begun has to have some letters:
# fewer stand for much of the index.
NAMED_AMONG, MAX_TITLE, LEAST_BEGUN = 200, 1_000, 3
# Longer lists of assets cost more to send than to look through afterwards.
MAX_ALLOWED = 20_000


@dataclass(frozen=True)
class Entry:
    """What an asset is found by: its name, text, captions or transcript, and the words of its metadata. `names`: of its
    file, and the id that its tenant gave it."""

    asset_id: uuid.UUID
    dataset_id: uuid.UUID
    modality: str
    content: str
    fields: str = ""
    names: tuple[str, ...] = ()


def entry_of(asset: Asset, schema: Mapping[str, Any], said: Iterable[str]) -> Entry:
    """The entry of an asset that says this. Its name comes first: what is long is not indexed to its end."""
    content = "\n".join([filenames.searchable_text(asset.filename), *said])
    names = tuple(filter(None, (asset.filename, asset.external_id)))
    return Entry(asset.id, asset.dataset_id, asset.modality, content, words_of(asset.metadata, schema), names)


def name_key(name: str) -> str:
    """What stands for a name in the index, whatever its case, accents, widths and blanks; "" for none."""
    plain = " ".join(_plain(name[:MAX_CHARACTERS]).split())
    return hashlib.blake2b(plain.encode(), digest_size=8).hexdigest() if plain else ""


def _name_lexemes(prefix: str, names: Iterable[str]) -> list[str]:
    """The lexemes by which names are found: each as a whole, also without its suffix, and each of its words."""
    keys: dict[str, None] = {}
    words: dict[str, None] = {}
    for name in names:
        keys |= dict.fromkeys(filter(None, map(name_key, (name, filenames.stem(name)))))
        words |= dict.fromkeys(tokens(filenames.searchable_text(name)))
    return [*(f"'{prefix}={key}':1A" for key in keys), *(f"'{prefix}~{word}':1A" for word in words)]


def words_of(metadata: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """The values of the text and tag fields, to be indexed."""
    kept = []
    for key, value in metadata.items():
        if schema.get(key, {"type": "text"})["type"] in {"text", "tags"}:
            items = value if isinstance(value, list) else [value]
            kept += [item for item in items if isinstance(item, str)]
    return "\n".join(kept)


def index_texts(entries: Iterable[Entry]) -> None:
    """Make these the only entries of their assets, which the caller holds locked or has just made."""
    prefix = _prefix()
    rows = {
        entry.asset_id: LexicalEntry(
            asset_id=entry.asset_id,
            dataset_id=entry.dataset_id,
            modality=entry.modality,
            names_indexed=True,
            words=" ".join(
                [
                    f"{_place(prefix, entry.dataset_id)}:1A",
                    *_name_lexemes(prefix, entry.names),
                    _vector(prefix, entry.content, "A"),
                    _vector(prefix, entry.fields, "B"),
                ]
            ),
        )
        for entry in entries
    }
    LexicalEntry.objects.bulk_create(
        rows.values(),
        update_conflicts=True,
        unique_fields=["tenant", "asset"],
        update_fields=["dataset_id", "modality", "words", "names_indexed"],
    )


def index_older_names(at_most: int = 5_000) -> int:
    """Add the names of assets whose entries are of a release that did not index them; returns of how many.

    In the tenant's scope, from time to time until there are none.
    """
    older = LexicalEntry.objects.filter(names_indexed=False).order_by("asset_id")
    ids = list(older.values_list("asset_id", flat=True)[:at_most])
    if not ids:
        return 0
    prefix = _prefix()
    named = Asset.objects.filter(is_any("id", ids)).values_list("pk", "filename", "external_id")
    rows = [
        (str(asset_id), " ".join(_name_lexemes(prefix, filter(None, names)))) for asset_id, *names in named
    ]
    statement = """
        UPDATE lexical_entry AS entry SET words = entry.words || given.words, names_indexed = true
        FROM unnest(%s::uuid[], %s::tsvector[]) AS given (asset_id, words)
        WHERE entry.tenant_id = %s AND entry.asset_id = given.asset_id AND NOT entry.names_indexed
    """
    with connection.cursor() as cursor:
        # An entry that is being written has its names.
        cursor.execute(statement, [*map(list, zip(*rows, strict=True)), str(current_tenant_id())])
        return cursor.rowcount


def index_fields(rows: Sequence[tuple[uuid.UUID, str]]) -> list[uuid.UUID]:
    """Replace the words of metadata and keep the rest; returns the assets that had an entry."""
    if not rows:
        return []
    prefix = _prefix()
    statement = """
        UPDATE lexical_entry AS entry SET words = ts_filter(entry.words, '{a,c}') || given.words
        FROM unnest(%s::uuid[], %s::tsvector[]) AS given (asset_id, words)
        WHERE entry.tenant_id = %s AND entry.asset_id = given.asset_id RETURNING entry.asset_id
    """
    ids, vectors = [str(asset_id) for asset_id, _ in rows], [_vector(prefix, text, "B") for _, text in rows]
    with connection.cursor() as cursor:
        cursor.execute(statement, [ids, vectors, str(current_tenant_id())])
        return [asset_id for (asset_id,) in cursor.fetchall()]


def remove_texts(asset_ids: Sequence[uuid.UUID]) -> None:
    """Forget these assets; before their rows go, as entries refer to them."""
    LexicalEntry.objects.filter(asset_id__in=asset_ids).delete()


def matching(query: str, limit: int, only: Restriction | None = None) -> list[tuple[uuid.UUID, float]]:
    """At most `limit` assets that hold a word of the query, the best first, each with its rank above 0.

    The rank is BM25's with the documents that were compared as its collection. Of a word that more than
    CANDIDATES / words documents hold, only some of those are compared.
    """
    words = list(dict.fromkeys(tokens(query)))[:MAX_QUERY_WORDS]
    if not words:
        return []
    only = only or Restriction()
    if only.datasets == []:
        return []
    if only.assets is not None and len(only.assets) > MAX_ALLOWED:
        allowed = set(only.assets)
        found = _matching(words, 2 * CANDIDATES, replace(only, assets=None))
        return [(asset_id, rank) for asset_id, rank in found if asset_id in allowed][:limit]
    return _matching(words, limit, only)


def _matching(words: list[str], limit: int, only: Restriction) -> list[tuple[uuid.UUID, float]]:
    prefix = _prefix()
    queries = [f"'{prefix}{word}'" for word in words]
    if len(words) > 1:
        queries.append(" & ".join(queries))
    places = None if only.datasets is None else " | ".join(_place(prefix, one) for one in only.datasets)
    statement = """
        SELECT asset_id, rank FROM lexical_matches(
            %s::tsquery[], %s, %s::tsquery, %s, %s, %s::uuid[], %s::text[], %s::uuid[])
    """
    chosen = [_ids(only.hidden_datasets), only.modalities, _ids(only.assets)]
    with connection.cursor() as cursor:
        cursor.execute(statement, [queries, len(words), places, CANDIDATES // len(words), limit, *chosen])
        return cursor.fetchall()


def find_named(typed: str, most: int) -> list[uuid.UUID]:
    """At most `most` assets that have these words in their title, the last one maybe only begun, the best first.

    Looked for among the NAMED_AMONG best that hold the words anywhere. What is blocked or held back is not found by its
    words. In the tenant's scope.
    """
    *whole, begun = list(dict.fromkeys(_words(typed)))[:MAX_QUERY_WORDS] or [""]
    whole = [word for word in whole if word not in STOP_WORDS]
    is_begun = len(begun) >= LEAST_BEGUN or is_han(begun)
    if not begun or (begun in STOP_WORDS and not is_begun):
        return []
    prefix, to = _prefix(), narrowing()
    wanted = " & ".join(
        [*(f"'{prefix}{word}'" for word in whole), f"'{prefix}{begun}'{':*' if is_begun else ''}"]
    )
    # The function is bound by no narrowing: it is told.
    seen = None if to is None or to.datasets is None else to.datasets
    if seen == ():
        return []
    places = None if seen is None else " | ".join(_place(prefix, one) for one in seen)
    statement = (
        "SELECT asset_id FROM lexical_matches(%s::tsquery[], 1, %s::tsquery, %s, %s, NULL, NULL, NULL)"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [[wanted], places, CANDIDATES, NAMED_AMONG])
        ids = [asset_id for (asset_id,) in cursor.fetchall()]
    rows = Asset.objects.filter(pk__in=ids, dataset__deleted_at=None).exclude(moderation__in=Asset.HIDDEN)
    titles = {row.pk: row.title for row in rows.only("caption", "filename", "excerpt")}

    def is_named(title: str) -> bool:
        have = set(_words(title[:MAX_TITLE]))
        fits = any(one.startswith(begun) for one in have) if is_begun else begun in have
        return fits and have.issuperset(whole)

    return [one for one in ids if one in titles and is_named(titles[one])][:most]


def holding_all(query: str, asset_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Those of these assets that hold every word of the query; none where it has more than MAX_QUERY_WORDS."""
    words = sought_words(query)
    if not asset_ids or not words:
        return set()
    prefix = _prefix()
    wanted = " & ".join(f"'{prefix}{word}'" for word in words)
    # By the key first: of few entries there is no index to ask.
    statement = "SELECT asset_id FROM lexical_entry WHERE tenant_id = %s AND asset_id = ANY(%s::uuid[]) AND words @@ %s"
    with connection.cursor() as cursor:
        cursor.execute(f"{statement}::tsquery", [str(current_tenant_id()), _ids(asset_ids), wanted])
        return {asset_id for (asset_id,) in cursor.fetchall()}


def held_words(asset_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, frozenset[str]]:
    """The words that `holding_all` looks for, of each of these assets. In the tenant's scope."""
    prefix = _prefix()
    statement = (
        "SELECT asset_id, tsvector_to_array(words) FROM lexical_entry "
        "WHERE tenant_id = %s AND asset_id = ANY(%s::uuid[])"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [str(current_tenant_id()), _ids(asset_ids)])
        return {
            asset_id: frozenset(word.removeprefix(prefix) for word in words)
            for asset_id, words in cursor.fetchall()
        }


def sought_words(query: str) -> list[str]:
    """The words of a query that `holding_all` looks for; none where it has more than MAX_QUERY_WORDS."""
    words = list(dict.fromkeys(tokens(query)))
    return words if len(words) <= MAX_QUERY_WORDS else []


def _ids(given: Iterable[uuid.UUID] | None) -> list[str] | None:
    return None if given is None else [str(one) for one in given]


def fuse(*rankings: Sequence[uuid.UUID], k: int = 60) -> list[tuple[uuid.UUID, float]]:
    """Reciprocal rank fusion (Cormack, Clarke, Büttcher: SIGIR 2009): best first, each with the sum of 1 / (k + rank).

    Ranks count from 1. Equal sums keep the order in which the rankings, one after the other, name the items.
    """
    sums: dict[uuid.UUID, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            sums[item] = sums.get(item, 0.0) + 1 / (k + rank)
    return sorted(sums.items(), key=lambda pair: -pair[1])


def _prefix() -> str:
    return prefix_of(current_tenant_id())


def prefix_of(tenant_id: uuid.UUID) -> str:
    """What every lexeme of a tenant begins with."""
    digest = hashlib.blake2b(tenant_id.bytes, digest_size=5).digest()
    return base64.b32encode(digest).decode().lower()


def places_of(tenant_id: uuid.UUID, datasets: Iterable[uuid.UUID] | None) -> str | None:
    """A tsquery that narrows to these datasets; None for all of them."""
    return None if datasets is None else " | ".join(_place(prefix_of(tenant_id), one) for one in datasets)


def _place(prefix: str, dataset_id: uuid.UUID) -> str:
    """The lexeme that says in which dataset an asset is, so that the index itself narrows to it."""
    return f"'{prefix}:{dataset_id.hex}'"


def _vector(prefix: str, text: str, weight: str) -> str:
    """The text as a tsvector literal. Words hold letters, digits and their signs only, so nothing needs escaping."""
    places: dict[str, list[str]] = {}
    for at, word in enumerate(tokens(text), start=1):
        places.setdefault(word, []).append(f"{at}{weight}")
        if len(word) > 1 and is_han(word):
            for character in word:
                places.setdefault(character, []).append(f"{at}C" if weight == "A" else f"{at}{weight}")
    return " ".join(f"'{prefix}{word}':{','.join(at)}" for word, at in places.items())


# --- Highlights -----------------------------------------------------------------------------------------

# A highlight is plain text and places in it, never markup: whoever shows it escapes it as any other text, and nothing
# that a tenant stored can become a tag. Places count Unicode characters (code points).

# Characters around the words that were found, and how many of them before the first word.
WIDTH = 240
LEAD = 60
# A cut moves to a space that is no further away than this.
NEAR = 20
MOST_MARKS = 50
MAX_HIGHLIGHTS = 10
# How many values of metadata are looked at, and how much of each.
MAX_VALUES = 50
MAX_VALUE = 2_000

Place = tuple[int, int]


@dataclass(frozen=True)
class Highlight:
    """A piece of a field with query words in it: text[start:end] for each of `marks`, in order and apart."""

    field: str
    text: str
    marks: list[Place]


def query_words(text: str) -> frozenset[str]:
    """The words that a search by words would look for."""
    return frozenset(list(dict.fromkeys(tokens(text)))[:MAX_QUERY_WORDS])


def highlight(wanted: Collection[str], fields: Iterable[tuple[str, str]]) -> list[Highlight]:
    """The best piece of each of these (field, text) that holds a query word, at most MAX_HIGHLIGHTS."""
    found: list[Highlight] = []
    for field, text in fields:
        if len(found) == MAX_HIGHLIGHTS:
            break
        if (one := _in_field(wanted, field, text)) is not None:
            found.append(one)
    return found


def fields_of_metadata(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The texts of metadata as ("metadata.key", text): those that search by words knows."""
    seen = 0
    for key, value in metadata.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                yield f"metadata.{key}", item[:MAX_VALUE]
                seen += 1
                if seen == MAX_VALUES:
                    return


def _in_field(wanted: Collection[str], field: str, text: str) -> Highlight | None:
    if not _possible(wanted, text):
        return None
    places = [(word, start, end) for word, start, end in located(text) if word in wanted]
    if not places:
        return None
    begin = _best_window(places)
    begin, end = _cut(text, begin)
    inside = [(start, stop) for _, start, stop in places if begin <= start and stop <= end]
    return _piece(field, text, begin, end, _merged(inside)[:MOST_MARKS])


def _possible(wanted: Collection[str], text: str) -> bool:
    """Whether looking closer is worth it; a plural differs from its singular in the last letter or behind it."""
    plain = folded(text)
    return any(word in plain or (len(word) > 1 and word[:-1] in plain) for word in wanted)


def _best_window(places: Sequence[tuple[str, int, int]]) -> int:
    """Where to begin so that as many different words as possible follow within the width; the first such place."""
    best, most = 0, 0
    starts = [start for _, start, _ in places]
    for at, (_, start, _) in enumerate(places):
        last = bisect_right(starts, start + WIDTH - LEAD)
        different = len({word for word, _, _ in places[at:last]})
        if different > most:
            best, most = start, different
        if at == MOST_MARKS:
            break
    return best


def _cut(text: str, word: int) -> Place:
    """A range of about WIDTH characters with `word` near its start, cut at spaces where there are some."""
    end = min(len(text), max(0, word - LEAD) + WIDTH)
    begin = max(0, min(word - LEAD, end - WIDTH))
    if begin:
        space = text.find(" ", begin, min(begin + NEAR, word))
        begin = begin if space < 0 else space + 1
    if end < len(text):
        space = text.rfind(" ", end - NEAR, end)
        end = end if space < 0 else space
    return begin, end


def _merged(places: Iterable[Place]) -> list[Place]:
    """In order, with those joined that overlap or touch."""
    joined: list[Place] = []
    for start, end in sorted(places):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _piece(field: str, text: str, begin: int, end: int, marks: Iterable[Place]) -> Highlight:
    before, after = "…" if begin else "", "…" if end < len(text) else ""
    shift = len(before) - begin
    return Highlight(
        field,
        f"{before}{text[begin:end]}{after}",
        [(start + shift, stop + shift) for start, stop in marks],
    )
