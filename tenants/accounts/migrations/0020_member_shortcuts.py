"""The single keys that a member chose for the console."""

from typing import Any

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0019_trials_and_sign_up")]

    operations: list[Any] = [
        migrations.AddField("membership", "shortcuts", models.JSONField(blank=True, null=True)),
    ]
