import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models

import tenants.scope


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_operators'),
    ]

    operations = [
        migrations.CreateModel(
            name='AllowedOrigin',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('origin', models.CharField(max_length=200)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
            ],
            options={
                'db_table': 'allowed_origin',
                'abstract': False,
                'base_manager_name': 'objects',
                'constraints': [models.UniqueConstraint(fields=('tenant', 'origin'), name='allowed_origin_once')],
            },
        ),
        tenants.scope.EnableTenancy("AllowedOrigin"),
    ]
