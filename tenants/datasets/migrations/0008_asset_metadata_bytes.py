from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("datasets", "0007_asset_generation")]

    operations = [
        migrations.AddField("asset", "metadata_bytes", models.PositiveIntegerField(default=0, db_default=0)),
    ]
