"""Exports of a version of a dataset."""

from typing import Any

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("events", "0008_export_recipient")]

    operations: list[Any] = [
        migrations.AddField(
            model_name="export",
            name="version",
            field=models.JSONField(blank=True, null=True),
        ),
    ]
