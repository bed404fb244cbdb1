"""Webhooks' events about assets: ids and states, never content."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tenants.datasets.models import Asset
from tenants.events import webhooks


def created(assets: Iterable[Asset]) -> None:
    """In the transaction that adds them; those that came prepared are ready at once."""
    assets = list(assets)
    webhooks.emit_all("asset.created", map(_state_of, assets))
    if ready := [asset for asset in assets if asset.status == Asset.State.READY]:
        webhooks.emit_all("asset.ready", map(_state_of, ready))


def ready(asset: Asset) -> None:
    webhooks.emit("asset.ready", {**_state_of(asset), "status": Asset.State.READY.value})


def failed(asset: Asset, error: dict[str, Any] | None) -> None:
    told = {**_state_of(asset), "status": Asset.State.FAILED.value, "error": (error or {}).get("type")}
    webhooks.emit("asset.failed", told)


def deleted(assets: Iterable[Asset]) -> None:
    webhooks.emit_all("asset.deleted", ({"asset": a.id, "dataset": a.dataset_id} for a in assets))


def _state_of(asset: Asset) -> dict[str, object]:
    return {
        "asset": asset.id,
        "dataset": asset.dataset_id,
        "modality": asset.modality,
        "status": str(asset.status),
    }
