from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("datasets", "0009_names_captions_duplicates")]

    operations = [
        migrations.AddField("importrow", "record", models.JSONField(blank=True, null=True)),
    ]
