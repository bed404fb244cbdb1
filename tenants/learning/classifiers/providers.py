"""What classifiers are given by packages above this one, each of which puts its function here when it is imported."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tenants.retrieval.index import NewVector


class ReadDecided(Protocol):
    """Assets that people decided about, and whether that is a yes; the newest decision first. In the tenant's scope."""

    def __call__(self, *, rule: str, label: str) -> dict[uuid.UUID, bool]: ...


class EmbedAsset(Protocol):
    """Vectors of an asset in the space of a model, of which nothing is stored, and the cpu seconds that they took.

    None of what is gone or cannot be decoded. In no scope. Raises ModelUnavailable.
    """

    def __call__(
        self, asset_id: uuid.UUID, *, model: str, tenant_id: uuid.UUID
    ) -> tuple[Sequence[NewVector], float]: ...


def _nothing_decided(*, rule: str, label: str) -> dict[uuid.UUID, bool]:
    return {}


def _no_vectors(
    asset_id: uuid.UUID, *, model: str, tenant_id: uuid.UUID
) -> tuple[Sequence[NewVector], float]:
    return (), 0.0


@dataclass
class Providers:
    """`read_decided` stands in `tenants.moderation.reviews.decided`, `embed_asset` in
    `tenants.pipeline.assets.embedding_aside`."""

    read_decided: ReadDecided = _nothing_decided
    embed_asset: EmbedAsset = _no_vectors


PROVIDERS = Providers()
