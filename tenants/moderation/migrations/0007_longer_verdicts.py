from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("moderation", "0006_audit_sources")]

    operations = [
        migrations.AlterField("audit", "verdict", models.CharField(max_length=20)),
    ]
