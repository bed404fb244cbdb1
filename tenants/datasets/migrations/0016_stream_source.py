"""Sources of streams and their dead letters."""

from typing import Any

import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models

import tenants.scope
from tenants.scope import EnableTenancy, NarrowByDataset


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0022_language_of_user'),
        ('datasets', '0015_dataset_version'),
    ]

    operations: list[Any] = [
        migrations.CreateModel(
            name='StreamSource',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=200)),
                ('kind', models.CharField(choices=[('redis', 'Redis'), ('rabbitmq', 'Rabbitmq'), ('kafka', 'Kafka')], max_length=8)),
                ('url', models.CharField(max_length=2000)),
                ('secret', models.BinaryField(blank=True, null=True)),
                ('topic', models.CharField(max_length=255)),
                ('group', models.CharField(default='crosslight', max_length=100)),
                ('mapping', models.JSONField(default=dict)),
                ('on_change', models.CharField(choices=[('refuse', 'Refuse'), ('replace', 'Replace')], default='refuse', max_length=7)),
                ('from_start', models.BooleanField(default=True)),
                ('state', models.CharField(choices=[('active', 'Active'), ('paused', 'Paused')], default='active', max_length=6)),
                ('problem', models.CharField(blank=True, default='', max_length=500)),
                ('position', models.JSONField(default=dict)),
                ('stored', models.PositiveBigIntegerField(default=0)),
                ('duplicate', models.PositiveBigIntegerField(default=0)),
                ('refused', models.PositiveBigIntegerField(default=0)),
                ('lag', models.PositiveBigIntegerField(blank=True, null=True)),
                ('last_item_at', models.DateTimeField(blank=True, null=True)),
                ('failures', models.PositiveIntegerField(default=0)),
                ('job_id', models.UUIDField(blank=True, null=True)),
                ('created_by', models.CharField(blank=True, default='', max_length=100)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('dataset', tenants.scope.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='stream_sources', to='datasets.dataset')),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
            ],
            options={
                'db_table': 'stream_source',
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='StreamDeadLetter',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('dataset_id', models.UUIDField()),
                ('position', models.CharField(max_length=120)),
                ('external_id', models.CharField(blank=True, default='', max_length=200)),
                ('slug', models.CharField(max_length=50)),
                ('reason', models.CharField(max_length=500)),
                ('body', models.TextField()),
                ('whole', models.BooleanField(default=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
                ('source', tenants.scope.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='dead_letters', to='datasets.streamsource')),
            ],
            options={
                'db_table': 'stream_dead_letter',
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.AddConstraint(
            model_name='streamsource',
            constraint=models.UniqueConstraint(fields=('tenant', 'name'), name='stream_source_name_once'),
        ),
        migrations.AddConstraint(
            model_name='streamdeadletter',
            constraint=models.UniqueConstraint(fields=('tenant', 'source', 'position'), name='stream_dead_letter_once'),
        ),
        EnableTenancy("StreamSource"),
        EnableTenancy("StreamDeadLetter"),
        NarrowByDataset("StreamSource", dataset="dataset_id"),
        NarrowByDataset("StreamDeadLetter", dataset="dataset_id"),
    ]
