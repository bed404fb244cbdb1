"""Plans that end, and people who open a workspace by themselves."""

from typing import Any

from django.db import migrations, models
from uuid_utils.compat import uuid7


class Migration(migrations.Migration):
    dependencies = [("accounts", "0018_generated_marks")]

    operations: list[Any] = [
        migrations.AddField("plan", "trial_days", models.PositiveIntegerField(blank=True, null=True)),
        migrations.AddField("tenant", "trial_ends_at", models.DateTimeField(blank=True, null=True)),
        migrations.CreateModel(
            name="SignUp",
            fields=[
                ("id", models.UUIDField(default=uuid7, editable=False, primary_key=True, serialize=False)),
                ("email", models.EmailField(blank=True, default="", max_length=254)),
                ("address_digest", models.BinaryField(max_length=32)),
                ("domain", models.CharField(max_length=253)),
                ("language", models.CharField(default="en", max_length=10)),
                ("digest", models.BinaryField(max_length=32, null=True, unique=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("expires_at", models.DateTimeField()),
                ("mailed_at", models.DateTimeField(blank=True, null=True)),
                ("used_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "db_table": "sign_up",
                "indexes": [
                    models.Index(fields=["address_digest"], name="sign_up_by_address"),
                    models.Index(fields=["used_at"], name="sign_up_by_use"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("used_at", None)),
                        fields=("address_digest",),
                        name="sign_up_open_once",
                    )
                ],
            },
        ),
    ]
