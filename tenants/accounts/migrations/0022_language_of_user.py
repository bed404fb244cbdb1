"""The language in which a person used the console last, for letters."""

from typing import Any

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0021_requests_letters_closing")]

    operations: list[Any] = [
        migrations.AddField(
            "user", "language", models.CharField(blank=True, db_default="", default="", max_length=10)
        ),
    ]
