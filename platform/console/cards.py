"""What a tile shows of an asset."""

from __future__ import annotations

from dataclasses import dataclass

from tenants.datasets import serving
from tenants.datasets.models import Asset

EXCERPT_BYTES = 900
MATCHED = {"text": "words", "image": "picture", "audio": "sound", "video": "video"}


@dataclass(frozen=True)
class Card:
    """An asset with the words that stand on its tile; `score` and `matched` where it was found by a search."""

    asset: Asset
    excerpt: str
    score: float | None = None
    matched: str = ""


def card_of(asset: Asset, *, score: float | None = None, matched: str = "") -> Card:
    by_caption = matched == "text" and asset.modality != Asset.Modality.TEXT
    label = "caption" if by_caption else MATCHED.get(matched, matched)
    return Card(asset, serving.read_text(asset, EXCERPT_BYTES).strip(), score, label)
