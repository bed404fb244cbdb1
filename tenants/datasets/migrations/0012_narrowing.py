"""Members who are narrowed see the rows of their datasets (docs/adr/0064-narrowed-members.md)."""

from typing import Any

from django.db import migrations

from tenants.scope import NarrowByDataset, looks_up


class Migration(migrations.Migration):
    dependencies = [("datasets", "0011_resumable_upload")]

    operations: list[Any] = [
        looks_up("asset_is_seen", "asset"),
        NarrowByDataset("Dataset", dataset="id"),
        NarrowByDataset("Asset", dataset="dataset_id"),
        NarrowByDataset("AssetTally", dataset="dataset_id"),
        NarrowByDataset("Facet", asset="asset_id"),
        NarrowByDataset("TranscriptSegment", asset="asset_id"),
        NarrowByDataset("Import", dataset="dataset_id"),
        NarrowByDataset("ImportRow", asset="asset_id"),
    ]
