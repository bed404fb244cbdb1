from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0004_allowed_origin'),
    ]

    operations = [
        migrations.AlterField(
            model_name='quotacounter',
            name='resource',
            field=models.CharField(max_length=20),
        ),
    ]
