"""Standing queries of audits, and which audit an alert is of."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('retrieval', '0018_deliver_alerts'),
    ]

    operations = [
        migrations.AddField(
            model_name='standingquery',
            name='of_audits',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name='standingalert',
            name='audit',
            field=models.UUIDField(blank=True, null=True),
        ),
        migrations.AddIndex(
            model_name='standingquery',
            index=models.Index(condition=models.Q(('of_audits', True)), fields=['tenant'], name='standing_query_of_audits'),
        ),
    ]
