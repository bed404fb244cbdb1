"""Uploads in parts: their state, which several hosts share."""

from typing import Any

import django.db.models.deletion
from django.db import migrations, models
from uuid_utils.compat import uuid7

from tenants.scope import EnableTenancy


class Migration(migrations.Migration):
    dependencies = [("datasets", "0010_import_row_record"), ("accounts", "0001_initial")]

    operations: list[Any] = [
        migrations.CreateModel(
            name="ResumableUpload",
            fields=[
                ("id", models.UUIDField(default=uuid7, editable=False, primary_key=True, serialize=False)),
                ("bytes", models.PositiveBigIntegerField()),
                ("offset", models.PositiveBigIntegerField(default=0)),
                ("metadata", models.JSONField(default=dict)),
                ("expires_at", models.DateTimeField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("local", models.BooleanField(default=False)),
                ("holder", models.UUIDField(blank=True, null=True)),
                ("held_until", models.DateTimeField(blank=True, null=True)),
                ("multipart", models.TextField(blank=True, default="")),
                ("part_number", models.PositiveIntegerField(default=0)),
                ("parts", models.JSONField(default=list)),
                ("pieces", models.JSONField(default=list)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.tenant",
                    ),
                ),
            ],
            options={
                "db_table": "resumable_upload",
                "abstract": False,
                "base_manager_name": "objects",
                "indexes": [models.Index(fields=["tenant", "expires_at"], name="resumable_upload_expiry")],
            },
        ),
        EnableTenancy("ResumableUpload"),
    ]
