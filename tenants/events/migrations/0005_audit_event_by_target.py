"""What was done to one thing is found without reading the whole log."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("events", "0004_webhooks")]

    operations = [
        migrations.AddIndex(
            model_name="auditevent",
            index=models.Index(fields=["tenant", "target", "-id"], name="audit_event_by_target"),
        ),
    ]
