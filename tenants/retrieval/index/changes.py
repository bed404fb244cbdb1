"""Changes of metadata, told to the indexes that hold facets of the assets: what is numbered after an index is newer.

Whoever changes the facets of an asset that may have vectors records it in the same transaction. New assets need none:
nothing holds facets of them before they have vectors, or are found to have none; those that are removed leave a
tombstone.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection

from tenants.retrieval.index.vectors import take_numbers
from tenants.retrieval.models import FacetChange


def record_changes(asset_ids: Collection[uuid.UUID]) -> None:
    """Number a change of facets of each of these assets. In the caller's transaction, which takes the clock's lock.

    So it comes after every lock on jobs, datasets, assets and blobs, and before the quota's.
    """
    if not asset_ids:
        return
    first = take_numbers(len(asset_ids))
    FacetChange.objects.bulk_create(
        FacetChange(asset_id=asset_id, seq=first + n) for n, asset_id in enumerate(asset_ids)
    )
