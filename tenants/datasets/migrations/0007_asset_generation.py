from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('datasets', '0006_asset_by_status'),
    ]

    operations = [
        migrations.AddField(
            model_name='asset',
            name='generation_id',
            field=models.UUIDField(blank=True, null=True),
        ),
        migrations.AddIndex(
            model_name='asset',
            index=models.Index(condition=models.Q(('generation_id__isnull', False)), fields=['tenant', 'generation_id'], name='asset_by_generation'),
        ),
    ]
