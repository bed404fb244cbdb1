"""Members who are narrowed see the rows of their datasets (docs/adr/0064-narrowed-members.md)."""

from typing import Any

from django.db import migrations

from tenants.scope import NarrowByDataset, looks_up


class Migration(migrations.Migration):
    dependencies = [("moderation", "0008_anchors"), ("datasets", "0012_narrowing")]

    operations: list[Any] = [
        looks_up("audit_is_seen", "audit"),
        NarrowByDataset("AuditRequest", asset="asset_id"),
        NarrowByDataset("Audit", asset="item"),
        NarrowByDataset("Evidence", asset="asset_id"),
        NarrowByDataset("AuditPicture", asset="asset_id"),
        NarrowByDataset("ShadowDecision", audit="audit_id"),
        NarrowByDataset("Review", asset="asset_id", queue="rule"),
        NarrowByDataset("Outcome", asset="item", queue="rule"),
        NarrowByDataset("Appeal", asset="asset_id"),
        NarrowByDataset("Strike", audit="audit_id"),
    ]
