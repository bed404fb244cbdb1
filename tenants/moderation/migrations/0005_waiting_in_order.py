from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("moderation", "0004_hash_content_storage")]

    operations = [
        migrations.AddIndex(
            model_name="review",
            index=models.Index(
                fields=["tenant", "-severity", "id"],
                condition=models.Q(("state", "open"), ("state", "claimed"), _connector="OR"),
                name="review_waiting",
            ),
        ),
    ]
