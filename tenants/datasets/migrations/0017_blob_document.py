"""What was read of documents (tenants.datasets.documents)."""

from typing import Any

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("datasets", "0016_stream_source")]

    operations: list[Any] = [
        migrations.AddField(
            model_name="blob",
            name="document",
            field=models.JSONField(blank=True, null=True),
        ),
    ]
