"""What classifiers are given by packages above this one, each of which puts its function here when it is imported."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
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


class Providers:
    """`read_decided` is put here by `tenants.moderation.reviews.decided`, `embed_asset` by
    `tenants.pipeline.assets.embedding_aside`; every process imports both when it starts (`workers.apps`)."""

    read_decided: ReadDecided
    embed_asset: EmbedAsset


PROVIDERS = Providers()
