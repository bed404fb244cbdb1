from django.db import migrations, models

from tenants.scope import append_only


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_people'),
        ('events', '0002_erasures_and_exports'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='auditevent',
            index=models.Index(fields=['tenant', 'verb', '-id'], name='audit_event_by_verb'),
        ),
        migrations.AddIndex(
            model_name='auditevent',
            index=models.Index(fields=['tenant', 'actor', '-id'], name='audit_event_by_actor'),
        ),
        append_only("audit_event"),
    ]
