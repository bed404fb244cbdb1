"""Vectors of an asset for whoever learns from it, of which nothing is stored: what reviewers blocked has none in the
index, as no search may find it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from ml.media import TRANSIENT, MediaError
from tenants.datasets.models import Asset
from tenants.learning.classifiers.providers import PROVIDERS
from tenants.pipeline.assets.embedding import source_of, text_of
from tenants.pipeline.assets.prepared import Prepared
from tenants.pipeline.assets.preparing import reembed_prepared
from tenants.retrieval import model_routing
from tenants.retrieval.index import NewVector
from tenants.scope import tenant_scope


def embed_asset(
    asset_id: uuid.UUID, *, model: str, tenant_id: uuid.UUID
) -> tuple[Sequence[NewVector], float]:
    """Of a text or a picture, with the cpu seconds that they took; none of what is gone or cannot be decoded.

    In no scope. Raises ModelUnavailable, and MediaError where the decoder is at fault.
    """
    prepared = Prepared({model: model_routing.space(model, tenant_id)})
    try:
        with tenant_scope(tenant_id):
            asset = Asset.objects.select_related("blob").filter(pk=asset_id).first()
            text = text_of(asset) if asset else ""
        if asset is None:
            return (), 0.0
        with source_of(asset, text) as source:
            reembed_prepared(source, prepared, ())
    except FileNotFoundError:
        # Erased meanwhile.
        return (), prepared.cpu_s
    except MediaError as error:
        if error.code in TRANSIENT:
            raise
        return (), prepared.cpu_s
    return prepared.vectors, prepared.cpu_s


PROVIDERS.embed_asset = embed_asset
