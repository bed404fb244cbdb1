"""Members who are narrowed see the rows of their datasets (docs/adr/0064-narrowed-members.md)."""

from typing import Any

from django.db import migrations

from tenants.scope import NarrowByDataset


class Migration(migrations.Migration):
    dependencies = [("generation", "0001_initial"), ("datasets", "0012_narrowing")]

    operations: list[Any] = [
        NarrowByDataset("Generation", dataset="dataset_id"),
        NarrowByDataset("GenerationOutput", asset="asset_id"),
    ]
