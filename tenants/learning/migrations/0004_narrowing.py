"""Members who are narrowed see the rows of their datasets (docs/adr/0064-narrowed-members.md)."""

from typing import Any

from django.db import migrations

from tenants.scope import NarrowByDataset


class Migration(migrations.Migration):
    dependencies = [("learning", "0003_classifier_decisions"), ("datasets", "0012_narrowing")]

    operations: list[Any] = [
        NarrowByDataset("GoldenQuery", asset="asset_id"),
        NarrowByDataset("GoldenAnswer", asset="asset_id"),
        NarrowByDataset("ClassifierExample", asset="asset_id"),
    ]
