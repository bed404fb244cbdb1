"""What a tile shows of an asset, and a line of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.text import Truncator

from console.paging import parse_id
from tenants.datasets.models import Asset
from tenants.datasets.selectors import get_assets
from tenants.jobs.models import Job

MATCHED = {"text": "words", "image": "picture", "audio": "sound", "video": "video"}


@dataclass(frozen=True)
class Card:
    """An asset with the words that stand on its tile; `score` and `matched` where it was found by a search.

    `at` is the moment of sound or film that fits, in seconds.
    """

    asset: Asset
    score: float | None = None
    matched: str = ""
    at: float | None = None


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
) -> Card:
    at = (segment or {}).get("start_s")
    # Words with a moment were spoken, words without one beside anything but a text are its caption.
    by_caption = matched == "text" and asset.modality != Asset.Modality.TEXT and at is None
    label = "caption" if by_caption else MATCHED.get(matched, matched)
    return Card(asset, score, label, at)
