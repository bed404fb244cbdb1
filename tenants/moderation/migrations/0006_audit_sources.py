from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('moderation', '0005_waiting_in_order'),
    ]

    operations = [
        migrations.AlterField(
            model_name='auditrequest',
            name='source',
            field=models.CharField(choices=[('request', 'Request'), ('upload', 'Upload'), ('again', 'Again'), ('prompt', 'Prompt'), ('output', 'Output')], max_length=7),
        ),
    ]
