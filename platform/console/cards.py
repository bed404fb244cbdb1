"""What a tile shows of an asset, and a line of a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils.text import Truncator

from console.paging import parse_id
from tenants.datasets.models import Asset
from tenants.datasets.selectors import get_assets
from tenants.jobs.models import Job
from tenants.retrieval.highlighting import Highlight

METADATA = "metadata."
SHOWN_FIELDS = 2
MATCHED = {"text": "words", "image": "picture", "audio": "sound", "video": "video"}


@dataclass(frozen=True)
class Card:
    """An asset with the words that stand on its tile; `score` and `matched` where it was found by a search.

    `at` is the moment of sound or film that fits, in seconds. `quote` is the piece of its words that holds the query's,
    `fields` the same of metadata. `folded` are its first near-duplicates of `folded_count`.
    """

    asset: Asset
    score: float | None = None
    matched: str = ""
    at: float | None = None
    quote: Highlight | None = None
    fields: list[tuple[str, Highlight]] = field(default_factory=list)
    folded: list[Asset] = field(default_factory=list)
    folded_count: int = 0


def job_lines(jobs: list[Job]) -> list[tuple[Job, str]]:
    """Each job with the caption of its asset, in one query. What was deleted meanwhile has no words."""
    ids = [parse_id(str(job.arguments.get("asset", ""))) for job in jobs]
    assets = get_assets([found for found in ids if found])
    return [
        (job, _subject(assets.get(found) if found else None)) for job, found in zip(jobs, ids, strict=True)
    ]


def _subject(asset: Asset | None) -> str:
    if asset is None:
        return ""
    return Truncator(asset.caption or asset.external_id or asset.get_modality_display().lower()).chars(60)


def card_of(
    asset: Asset,
    *,
    score: float | None = None,
    matched: str = "",
    segment: dict[str, Any] | None = None,
    highlights: Sequence[Highlight] = (),
    folded: Sequence[Asset] = (),
    folded_count: int = 0,
) -> Card:
    at = (segment or {}).get("start_s")
    # Words with a moment were spoken, words without one beside anything but a text are its caption.
    by_caption = matched == "text" and asset.modality != Asset.Modality.TEXT and at is None
    label = "caption" if by_caption else MATCHED.get(matched, matched)
    quote = next((one for one in highlights if not one.field.startswith(METADATA)), None)
    fields = [(one.field.removeprefix(METADATA), one) for one in highlights if one.field.startswith(METADATA)]
    return Card(asset, score, label, at, quote, fields[:SHOWN_FIELDS], list(folded), folded_count)
