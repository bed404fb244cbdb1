"""Pictures that people search by, kept for a while."""

import uuid
from typing import Any

import django.db.models.deletion
from django.db import migrations, models

from tenants.scope import EnableTenancy


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0012_operator_approval'),
        ('retrieval', '0014_saved_searches'),
    ]

    operations: list[Any] = [
        migrations.CreateModel(
            name='QueryPicture',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('sha256', models.CharField(max_length=64)),
                ('bytes', models.BigIntegerField()),
                ('used_at', models.DateTimeField()),
                ('created_by', models.CharField(blank=True, default='', max_length=100)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
            ],
            options={
                'db_table': 'query_picture',
                'abstract': False,
                'base_manager_name': 'objects',
                'constraints': [models.UniqueConstraint(fields=('tenant', 'sha256'), name='query_picture_once')],
            },
        ),
        EnableTenancy("QueryPicture"),
    ]
