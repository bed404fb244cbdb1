"""Secrets that all hosts share: signing keys, sealed."""

from typing import Any

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0006_invitation_acting")]

    operations: list[Any] = [
        migrations.CreateModel(
            name="InstallationSecret",
            fields=[
                ("name", models.CharField(max_length=200, primary_key=True, serialize=False)),
                ("content", models.BinaryField()),
                ("key_id", models.CharField(blank=True, default="", max_length=16)),
                ("changed_at", models.DateTimeField(auto_now=True)),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.tenant",
                    ),
                ),
            ],
            options={"db_table": "installation_secret"},
        ),
    ]
