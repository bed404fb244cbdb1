"""Which datasets and review queues a member sees; none named: all."""

from typing import Any

import django.contrib.postgres.fields
from django.db import migrations, models

DATASETS = django.contrib.postgres.fields.ArrayField(models.UUIDField(), null=True)
QUEUES = django.contrib.postgres.fields.ArrayField(models.CharField(max_length=100), null=True)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0014_networks")]

    operations: list[Any] = [
        migrations.AddField("membership", "datasets", DATASETS),
        migrations.AddField("membership", "queues", QUEUES),
        migrations.AddField("invitation", "datasets", DATASETS.clone()),
        migrations.AddField("invitation", "queues", QUEUES.clone()),
    ]
