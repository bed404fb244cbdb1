"""What stands for an asset, a job or a person in lists, links and tiles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from console.paging import parse_id
from tenants.accounts.models import ApiKey, User
from tenants.datasets.models import Asset
from tenants.retrieval.query import Highlight

METADATA = "metadata."

# Characters before the first mark that a tile has room for.
ROOM, FIELD_ROOM = 40, 12

SHOWN_FIELDS = 2
# Characters of a passage in which no word of the query stands.
QUOTED = 240

# What of a query named an asset (`tenants.retrieval.types.Hit`).
NAMED_BY = {"name": _("name"), "phrase": _("phrase"), "words": _("words")}
MATCHED = {"text": _("words"), "image": _("picture"), "audio": _("sound"), "video": _("video")}


@dataclass(frozen=True)
class AssetCard:
    """An asset with the words that stand on its tile; `score` and `matched` where it was found by a search.

    `at` is the moment of sound or film that fits, in seconds. `title` holds the query's words where the caption, or the
    name of a file without one, begins with them, `quote` is the piece of its words that does otherwise, `fields` the
    same of metadata. `folded` are its first near-duplicates of `folded_count`.
    """

    asset: Asset
    score: float | None = None
    relevance: float | None = None
    matched: Any = ""
    at: float | None = None
    title: Highlight | None = None
    quote: Highlight | None = None
    fields: list[tuple[str, Highlight]] = field(default_factory=list)
    folded: list[Asset] = field(default_factory=list)
    folded_count: int = 0
    # Of a document the page and the passage that were found: where it starts and ends in the text.
    page: int | None = None
    passage: tuple[int, int] | None = None

    @property
    def place(self) -> str:
        """What of its page's address leads to what was found; empty where all of it was."""
        if self.at is not None:
            return f"?t={self.at:.2f}"
        if self.page is None:
            return ""
        passage = f"&passage={self.passage[0]}-{self.passage[1]}" if self.passage else ""
        return f"?page={self.page}{passage}#document"

    @property
    def hidden_count(self) -> int:
        """Near-duplicates that are only counted."""
        return self.folded_count - len(self.folded)


# What stands in the place of words that are not to be read in passing. Who may see the asset opens them.
VEILED = {
    "block": {
        "text": _("Blocked text"),
        "image": _("Blocked picture"),
        "audio": _("Blocked recording"),
        "video": _("Blocked film"),
    },
    "quarantined": {
        "text": _("Text, held back"),
        "image": _("Picture, held back"),
        "audio": _("Recording, held back"),
        "video": _("Film, held back"),
    },
    "review": {
        "text": _("Text, in review"),
        "image": _("Picture, in review"),
        "audio": _("Recording, in review"),
        "video": _("Film, in review"),
    },
    "": {"text": _("Text"), "image": _("Picture"), "audio": _("Recording"), "video": _("Film")},
}


def is_veiled(asset: Asset | None) -> bool:
    """Whether it is blocked, held back or waits for review: no list, link or title says its words or shows it."""
    return asset is not None and asset.moderation in (*Asset.HIDDEN, "review")


def asset_name(asset: Asset, chars: int = 90, otherwise: object = "", *, veiled: bool = False) -> str:
    """What lists, links and labels call an asset: its words; of one that is `veiled` (`is_veiled`) only what it is.

    `otherwise` where it has neither words nor an id of the tenant's own.
    """
    if veiled or is_veiled(asset):
        kind = VEILED[asset.moderation if is_veiled(asset) else ""][asset.modality]
        words = " · ".join(filter(None, (str(kind), asset.external_id)))
    else:
        words = asset.title or asset.external_id or str(otherwise)
    return Truncator(words).chars(chars)


def asset_card(
    asset: Asset,
    *,
    score: float | None = None,
    relevance: float | None = None,
    matched: str = "",
    segment: dict[str, Any] | None = None,
    highlights: Sequence[Highlight] = (),
    folded: Sequence[Asset] = (),
    folded_count: int = 0,
    by: str = "",
    passage: str = "",
) -> AssetCard:
    """Without any of its words where it is veiled: what was found in it is read where it is opened.

    `passage`: the words that were found in a document.
    """
    if is_veiled(asset):
        highlights, passage = (), ""
    at, found_on = (segment or {}).get("start_s"), (segment or {}).get("page")
    # Words with a moment were spoken, words without one beside anything but a text are its caption.
    by_caption = matched == "text" and asset.modality != Asset.Modality.TEXT and at is None
    label = NAMED_BY[by] if by else (_("caption") if by_caption else MATCHED.get(matched, matched))
    words = [one for one in highlights if not one.field.startswith(METADATA)]
    named = "caption" if asset.caption else "filename"
    title = next((one for one in words if one.field == named and one.marks[0][1] <= ROOM), None)
    quote = next((one for one in words if one is not title), None)
    fields = [
        (one.field.removeprefix(METADATA), shorten_highlight(one, FIELD_ROOM))
        for one in highlights
        if one.field.startswith(METADATA)
    ]
    if quote and asset.modality != Asset.Modality.TEXT:
        quote = shorten_highlight(quote, ROOM)
    if passage and (quote is None or quote.field != "passage"):
        quote = Highlight("passage", Truncator(passage).chars(QUOTED), [])
    return AssetCard(
        asset,
        score,
        relevance,
        label,
        at,
        title,
        quote,
        fields[:SHOWN_FIELDS],
        list(folded),
        folded_count,
        found_on,
        (segment["start_char"], segment["end_char"])
        if segment and "start_char" in segment and found_on
        else None,
    )


def shorten_highlight(highlight: Highlight, room: int) -> Highlight:
    """The highlight with at most `room` characters before its first mark, so that the mark is seen in one line."""
    start = highlight.marks[0][0]
    if start <= room:
        return highlight
    space = highlight.text.find(" ", start - room, start)
    begin = start - room if space < 0 else space + 1
    marks = [(first - begin + 1, last - begin + 1) for first, last in highlight.marks]
    return Highlight(highlight.field, f"…{highlight.text[begin:]}", marks)


KEY = "key:"


def actor_names(actors: Iterable[str]) -> dict[str, str]:
    """Names by actor. Who was erased keeps the pseudonym, so is absent."""
    wanted = set(actors)
    ids = {found: actor for actor in wanted if (found := parse_id(actor))}
    people = {ids[user.pk]: user.name or user.email for user in User.objects.filter(pk__in=ids)}
    prefixes = [actor.removeprefix(KEY) for actor in wanted if actor.startswith(KEY)]
    keys = ApiKey.objects.filter(prefix__in=prefixes)
    return {
        **people,
        **{f"{KEY}{key.prefix}": gettext("Key “%(name)s”") % {"name": key.name} for key in keys},
    }
