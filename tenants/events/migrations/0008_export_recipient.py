"""Exports that are encrypted for a public key."""

from typing import Any

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("events", "0007_stream_position")]

    operations: list[Any] = [
        migrations.AddField(
            model_name="export",
            name="recipient",
            field=models.CharField(blank=True, db_default="", default="", max_length=100),
        ),
    ]
