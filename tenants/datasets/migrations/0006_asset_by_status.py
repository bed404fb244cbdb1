"""A dataset's assets of one status, newest first: a few failed ones among 100,000 are found without reading the others."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("datasets", "0005_asset_tally")]

    operations = [
        migrations.AddIndex(
            model_name="asset",
            index=models.Index(fields=["tenant", "dataset", "status", "-id"], name="asset_by_status"),
        ),
    ]
