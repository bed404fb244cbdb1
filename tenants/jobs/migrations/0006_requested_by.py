from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0005_nodes'),
    ]

    operations = [
        migrations.AddField(
            model_name='job',
            name='requested_by',
            field=models.CharField(blank=True, default='', max_length=100, null=True),
        ),
    ]
