"""Which datasets and review queues a member sees; none named: all."""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models


def datasets() -> ArrayField:
    return ArrayField(models.UUIDField(), blank=True, null=True)


def queues() -> ArrayField:
    return ArrayField(models.CharField(max_length=100), blank=True, null=True)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0012_operator_approval")]

    operations: list[Any] = [
        migrations.AddField("membership", "datasets", datasets()),
        migrations.AddField("membership", "queues", queues()),
        migrations.AddField("invitation", "datasets", datasets()),
        migrations.AddField("invitation", "queues", queues()),
    ]
