"""Assets that a query names: by the name of a file or an external id, by a quoted phrase, or by a caption that holds
all of its words. They are looked up beside every search by words that are typed, and stand before what is only alike.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from tenants.prepared import Prepared
from tenants.retrieval.query import lexical
from tenants.retrieval.types import Hit, Query, Ranking

# What more assets than this hold tells none of them apart: which of them came first would be chance.
MOST = 200
# Files whose names hold all of the words, and how many of those are shown first.
MOST_PARTLY = 20
SHOWN_PARTLY = 3
MAX_PHRASES = 4
# From so many letters on a word may be the beginning of one in a name.
LEAST_BEGINNING = 3

_QUOTED = re.compile(r"\"([^\"]{1,200})\"|“([^”]{1,200})”|「([^」]{1,200})」|«([^»]{1,200})»")

# $1: tenant, as every statement has it; queries, how many of each, the number of the one that is only asked of captions
# and transcripts, places, modalities.
_NAMED = Prepared(
    "lexical_named",
    ("text[]", "integer[]", "integer", "text", "text[]"),
    "SELECT n, asset_id FROM lexical_named($1::tsquery[], $2, $3, $4::tsquery, $5)",
)


@dataclass(frozen=True)
class Named:
    """Ids by how they were named; of each kind at most MOST, in no order. `worded`: captions that hold every word."""

    exactly: frozenset[uuid.UUID] = frozenset()
    quoted: frozenset[uuid.UUID] = frozenset()
    partly: frozenset[uuid.UUID] = frozenset()
    worded: frozenset[uuid.UUID] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.ids)

    @property
    def ids(self) -> frozenset[uuid.UUID]:
        return self.exactly | self.quoted | self.partly | self.worded

    def among(self, ids: Collection[uuid.UUID]) -> Named:
        return Named(
            *(frozenset(ids) & mine for mine in (self.exactly, self.quoted, self.partly, self.worded))
        )


NOTHING = Named()


def looked_up(tenant_id: uuid.UUID, query: Query) -> Named:
    """What the words of a query name, under its datasets and kinds; filters are not looked at. Needs no scope: it is
    one trip.

    Nothing where `hybrid` is false, or where pictures, sound or examples are asked for with the words.
    """
    if query.hybrid is False or not query.text or query.has_other_parts or query.datasets == []:
        return NOTHING
    asked = _asked(lexical.prefix_of(tenant_id), query.text, fused=bool(query.hybrid))
    if not asked:
        return NOTHING
    kinds, queries, most = zip(*asked, strict=True)
    # One more than are used: that there are more is then known.
    captions = kinds.index("worded") + 1 if "worded" in kinds else 0
    places = lexical.places_of(tenant_id, query.datasets)
    rows = _NAMED.rows_of(
        tenant_id, list(queries), [one + 1 for one in most], captions, places, query.modalities
    )
    found: dict[str, set[uuid.UUID]] = {}
    for number, asset_id in rows:
        found.setdefault(kinds[number - 1], set()).add(asset_id)
    return Named(
        **{
            kind: frozenset(found[kind])
            for kind, limit in zip(kinds, most, strict=True)
            if kind in found and len(found[kind]) <= limit
        }
    )


def _asked(prefix: str, text: str, *, fused: bool) -> list[tuple[str, str, int]]:
    """Each kind of `Named` that the text may name something by: with its tsquery, and how many would still tell."""
    asked = []
    if key := lexical.name_key(text.strip().strip('"“”「」«»')):
        asked.append(("exactly", f"'{prefix}={key}'", MOST))
    phrases = [lexical.tokens("".join(groups)) for groups in _QUOTED.findall(text)][:MAX_PHRASES]
    if any(phrases):
        quoted = [" <-> ".join(f"'{prefix}{word}':A" for word in words) for words in phrases if words]
        asked.append(("quoted", " & ".join(f"({one})" for one in quoted), MOST))
    words = list(dict.fromkeys(lexical.tokens(text)))
    if 0 < len(words) <= lexical.MAX_QUERY_WORDS:
        *others, last = words
        beginning = ":*" if len(last) >= LEAST_BEGINNING else ""
        parts = [*(f"'{prefix}~{word}'" for word in others), f"'{prefix}~{last}'{beginning}"]
        asked.append(("partly", " & ".join(parts), MOST_PARTLY))
        # Where the whole ranking is fused with one by words, that has them already.
        if not fused:
            asked.append(("worded", " & ".join(f"'{prefix}{word}'" for word in words), MOST))
    return asked


def with_named(ranking: Ranking, named: Named, scored: Mapping[uuid.UUID, Hit], count: int) -> Ranking:
    """A ranking with what was named before it, each part the best first; at most `count`. `scored`: hits of the named.

    Captions that hold all of the words are a ranking of their own, fused with the one that there is by reciprocal rank:
    what both know comes first. Scores stay what they are, so that they do not always fall. Measured in `open-2` on 604
    photos, each with one caption: of 2,416 other captions as many find their photo first (53.6 %) and among ten
    (89.7 %) as without; of 618 single words 37.4 % of the first ten are right by the photo's other captions (28.8
    without), of 1,333 pairs of words 38.5 % (36.1). Fused with whatever holds some of the words, 44.9 % of the captions
    would find their photo first.
    """
    known = {**scored, **{hit.asset_id: hit for hit in ranking.hits}}

    def best(ids: Collection[uuid.UUID]) -> list[uuid.UUID]:
        return sorted((one for one in ids if one in known), key=lambda one: (-known[one].score, one))

    by: dict[uuid.UUID, str] = dict.fromkeys(best(named.worded), "words")
    rest = [asset_id for asset_id, _ in lexical.fuse([hit.asset_id for hit in ranking.hits], [*by])]
    partly, quoted, exactly = best(named.partly)[:SHOWN_PARTLY], best(named.quoted), best(named.exactly)
    by |= dict.fromkeys(partly, "name") | dict.fromkeys(quoted, "phrase") | dict.fromkeys(exactly, "name")
    order = dict.fromkeys([*exactly, *quoted, *partly, *rest])
    hits = [replace(known[asset_id], by=by.get(asset_id, "")) for asset_id in order]
    return replace(ranking, hits=hits[:count], total=max(ranking.total, len(hits)))
