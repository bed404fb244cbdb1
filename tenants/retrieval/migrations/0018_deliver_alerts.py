"""Who is told of alerts and how often: the inbox, and webhooks at once or by the hour."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('retrieval', '0017_standing_queries'),
    ]

    operations = [
        migrations.AddField(
            model_name='standingquery',
            name='inbox',
            field=models.BooleanField(db_default=True, default=True),
        ),
        migrations.AddField(
            model_name='standingquery',
            name='frequency',
            field=models.CharField(choices=[('at_once', 'At Once'), ('hourly', 'Hourly')], db_default='at_once', default='at_once', max_length=7),
        ),
        migrations.AddField(
            model_name='standingquery',
            name='digested',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='standingalert',
            name='digest',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddIndex(
            model_name='standingalert',
            index=models.Index(condition=models.Q(('digest', True)), fields=['tenant', 'standing_query'], name='standing_alert_digest'),
        ),
    ]
