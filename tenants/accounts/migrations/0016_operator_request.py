"""Operators who act after the tenant's approval."""

from typing import Any

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from uuid_utils.compat import uuid7


class Migration(migrations.Migration):
    dependencies = [("accounts", "0015_narrowing")]

    operations: list[Any] = [
        migrations.AddField(
            "tenantsecurity", "operator_approval", models.BooleanField(db_default=False, default=False)
        ),
        migrations.CreateModel(
            name="OperatorRequest",
            fields=[
                ("id", models.UUIDField(default=uuid7, editable=False, primary_key=True, serialize=False)),
                (
                    "access",
                    models.CharField(
                        choices=[("read", "View only"), ("full", "View and change")], max_length=4
                    ),
                ),
                ("reason", models.CharField(max_length=300)),
                ("minutes", models.PositiveIntegerField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("until", models.DateTimeField()),
                (
                    "answer",
                    models.CharField(
                        blank=True,
                        choices=[("approved", "Approved"), ("denied", "Denied"), ("revoked", "Revoked")],
                        default="",
                        max_length=8,
                    ),
                ),
                ("answered_by", models.CharField(blank=True, default="", max_length=100)),
                ("answered_at", models.DateTimeField(blank=True, null=True)),
                (
                    "operator",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.tenant"
                    ),
                ),
            ],
            options={
                "db_table": "operator_request",
                "indexes": [models.Index(fields=["tenant", "-id"], name="operator_request_of_tenant")],
            },
        ),
    ]
