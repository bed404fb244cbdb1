from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('moderation', '0010_audit_requests_by_subject'),
    ]

    operations = [
        migrations.AddField(
            model_name='appeal',
            name='seen_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        AddIndexConcurrently(
            model_name='appeal',
            index=models.Index(fields=['tenant', 'state', '-id'], name='appeal_by_state'),
        ),
        AddIndexConcurrently(
            model_name='appeal',
            index=models.Index(fields=['tenant', 'created_by', '-id'], name='appeal_by_author'),
        ),
    ]
