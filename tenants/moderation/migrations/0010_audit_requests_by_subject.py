from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('moderation', '0009_anchors'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='auditrequest',
            index=models.Index(condition=~models.Q(subject=''), fields=['tenant', 'subject', '-id'], name='audit_request_by_subject'),
        ),
    ]
