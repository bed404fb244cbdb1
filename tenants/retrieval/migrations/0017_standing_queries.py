"""Searches that are asked of every asset that arrives, and what they found; for whom datasets are chosen, of these."""

from typing import Any

import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models

import tenants.scope
from tenants.scope import EnableTenancy, NarrowByDataset

# By the database, as whoever ends a membership need not know of these rows.
FOLLOW = """
    ALTER TABLE standing_query ADD CONSTRAINT standing_query_owner_fk FOREIGN KEY (owner_id)
        REFERENCES membership (id) ON DELETE SET NULL NOT VALID
"""
UNFOLLOW = "ALTER TABLE standing_query DROP CONSTRAINT standing_query_owner_fk"


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0021_requests_letters_closing'),
        ('datasets', '0015_dataset_version'),
        ('retrieval', '0016_relevance_correction'),
    ]

    operations: list[Any] = [
        migrations.CreateModel(
            name='StandingQuery',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=100)),
                ('query', models.JSONField()),
                ('state', models.CharField(choices=[('active', 'Active'), ('paused', 'Paused')], default='active', max_length=6)),
                ('muted', models.BooleanField(default=False)),
                ('min_score', models.FloatField(blank=True, null=True)),
                ('filter_only', models.BooleanField(default=False)),
                ('names_assets', models.BooleanField(default=False)),
                ('since', models.DateTimeField()),
                ('problem', models.TextField(blank=True, default='')),
                ('created_by', models.CharField(blank=True, default='', max_length=100)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('changed_at', models.DateTimeField(auto_now=True)),
                ('owner', models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='accounts.membership')),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
            ],
            options={
                'db_table': 'standing_query',
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='StandingAlert',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('score', models.FloatField(blank=True, null=True)),
                ('relevance', models.FloatField(blank=True, null=True)),
                ('modality', models.CharField(blank=True, default='', max_length=5)),
                ('segment', models.JSONField(blank=True, null=True)),
                ('read_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('asset', tenants.scope.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='datasets.asset')),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
                ('standing_query', tenants.scope.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='alerts', to='retrieval.standingquery')),
            ],
            options={
                'db_table': 'standing_alert',
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='StandingVector',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('model', models.CharField(max_length=100)),
                ('seq', models.BigIntegerField()),
                ('data', models.BinaryField(default=b'')),
                ('asked', models.CharField(blank=True, default='', max_length=5)),
                ('words', models.JSONField(default=list)),
                ('least', models.FloatField(default=1.0)),
                ('familiar', models.FloatField(default=1.0)),
                ('problem', models.TextField(blank=True, default='')),
                ('standing_query', tenants.scope.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='vectors', to='retrieval.standingquery')),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
            ],
            options={
                'db_table': 'standing_vector',
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='StandingArrival',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('made_at', models.DateTimeField()),
                ('asset', tenants.scope.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='datasets.asset')),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
            ],
            options={
                'db_table': 'standing_arrival',
                'abstract': False,
                'base_manager_name': 'objects',
                'indexes': [models.Index(fields=['tenant', 'asset'], name='standing_arrival_by_asset')],
            },
        ),
        migrations.CreateModel(
            name='StandingClock',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('last', models.BigIntegerField(default=0)),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
            ],
            options={
                'db_table': 'standing_clock',
                'abstract': False,
                'base_manager_name': 'objects',
                'constraints': [models.UniqueConstraint(fields=('tenant',), name='standing_clock_once')],
            },
        ),
        migrations.AddIndex(
            model_name='standingquery',
            index=models.Index(fields=['tenant', 'filter_only'], name='standing_query_by_filter'),
        ),
        migrations.AddIndex(
            model_name='standingquery',
            index=models.Index(condition=models.Q(('names_assets', True)), fields=['tenant'], name='standing_query_by_asset'),
        ),
        migrations.AddIndex(
            model_name='standingalert',
            index=models.Index(fields=['tenant', '-id'], name='standing_alert_newest'),
        ),
        migrations.AddIndex(
            model_name='standingalert',
            index=models.Index(fields=['tenant', 'standing_query', '-id'], name='standing_alert_by_query'),
        ),
        migrations.AddIndex(
            model_name='standingalert',
            index=models.Index(fields=['tenant', 'asset'], name='standing_alert_by_asset'),
        ),
        migrations.AddIndex(
            model_name='standingalert',
            index=models.Index(condition=models.Q(('read_at', None)), fields=['tenant', '-id'], name='standing_alert_unread'),
        ),
        migrations.AddConstraint(
            model_name='standingalert',
            constraint=models.UniqueConstraint(fields=('tenant', 'standing_query', 'asset'), name='standing_alert_once'),
        ),
        migrations.AddIndex(
            model_name='standingvector',
            index=models.Index(fields=['tenant', 'model', 'seq'], name='standing_vector_newer'),
        ),
        migrations.AddConstraint(
            model_name='standingvector',
            constraint=models.UniqueConstraint(fields=('tenant', 'standing_query', 'model'), name='standing_vector_once'),
        ),
        EnableTenancy("StandingQuery"),
        EnableTenancy("StandingVector"),
        EnableTenancy("StandingClock"),
        EnableTenancy("StandingArrival"),
        EnableTenancy("StandingAlert"),
        migrations.RunSQL(FOLLOW, UNFOLLOW),
        NarrowByDataset("StandingQuery", search="query"),
        NarrowByDataset("StandingArrival", asset="asset_id"),
        NarrowByDataset("StandingAlert", asset="asset_id"),
    ]
