import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0005_longer_resource'),
    ]

    operations = [
        migrations.AddField(
            model_name='invitation',
            name='acting',
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name='+',
                to='accounts.acting',
            ),
        ),
    ]
