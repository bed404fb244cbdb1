from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0016_data_key'),
    ]

    operations = [
        migrations.AddField(
            model_name='membership',
            name='checklist_dismissed',
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
