"""Members who are narrowed see the rows of their datasets (docs/adr/0064-narrowed-members.md)."""

from typing import Any

from django.db import migrations

from tenants.scope import NarrowByDataset


class Migration(migrations.Migration):
    dependencies = [("retrieval", "0010_index_placed"), ("datasets", "0012_narrowing")]

    operations: list[Any] = [
        NarrowByDataset("Vector", dataset="dataset_id"),
        NarrowByDataset("LexicalEntry", dataset="dataset_id"),
        NarrowByDataset("VectorGap", asset="asset_id"),
        NarrowByDataset("Feedback", asset="asset_id"),
    ]
