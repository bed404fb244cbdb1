"""Whether what a tenant generates carries an icon and a spoken notice, where it differs from the installation."""

from typing import Any

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0017_checklist")]

    operations: list[Any] = [
        migrations.AddField("tenant", "generated_icon", models.BooleanField(blank=True, null=True)),
        migrations.AddField("tenant", "generated_notice", models.BooleanField(blank=True, null=True)),
    ]
