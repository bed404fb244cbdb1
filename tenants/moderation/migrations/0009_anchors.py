import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models

from tenants.scope import EnableTenancy, append_only


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0008_leases'),
        ('moderation', '0008_narrowing'),
    ]

    operations = [
        migrations.CreateModel(
            name='Checkpoint',
            fields=[
                ('number', models.PositiveBigIntegerField(primary_key=True, serialize=False)),
                ('digest', models.CharField(max_length=64)),
                ('previous', models.CharField(blank=True, default='', max_length=64)),
                ('places', models.JSONField(default=list)),
                ('signature', models.CharField(max_length=88)),
                ('key_id', models.CharField(max_length=16)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'record_checkpoint',
            },
        ),
        migrations.AddField(
            model_name='seal',
            name='key_id',
            field=models.CharField(blank=True, db_default='', default='', max_length=16),
        ),
        migrations.AddField(
            model_name='seal',
            name='signature',
            field=models.CharField(blank=True, db_default='', default='', max_length=88),
        ),
        migrations.CreateModel(
            name='Anchor',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('place', models.CharField(choices=[('bucket', 'Bucket'), ('tsa', 'Time Stamp')], max_length=6)),
                ('tries', models.PositiveIntegerField(default=0)),
                ('due_at', models.DateTimeField(blank=True, null=True)),
                ('done_at', models.DateTimeField(blank=True, null=True)),
                ('error', models.CharField(blank=True, default='', max_length=300)),
                ('token', models.BinaryField(blank=True, null=True)),
                ('checkpoint', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='anchors', to='moderation.checkpoint')),
            ],
            options={
                'db_table': 'record_anchor',
                'indexes': [models.Index(fields=['due_at'], name='record_anchor_due')],
                'constraints': [models.UniqueConstraint(fields=('checkpoint', 'place'), name='record_anchor_once')],
            },
        ),
        migrations.CreateModel(
            name='CheckpointHead',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('of_tenant', models.UUIDField()),
                ('chain', models.CharField(max_length=6)),
                ('last', models.PositiveBigIntegerField()),
                ('digest', models.CharField(max_length=64)),
                ('checkpoint', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='heads', to='moderation.checkpoint')),
            ],
            options={
                'db_table': 'record_checkpoint_head',
                'indexes': [models.Index(fields=['of_tenant', 'chain', '-checkpoint'], name='record_checkpoint_of_tenant')],
            },
        ),
        migrations.CreateModel(
            name='LogSeal',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('first', models.PositiveBigIntegerField()),
                ('last', models.PositiveBigIntegerField()),
                ('digest', models.CharField(max_length=64)),
                ('previous', models.CharField(blank=True, default='', max_length=64)),
                ('created_at', models.DateTimeField()),
                ('signature', models.CharField(blank=True, db_default='', default='', max_length=88)),
                ('key_id', models.CharField(blank=True, db_default='', default='', max_length=16)),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
            ],
            options={
                'db_table': 'audit_log_seal',
                'abstract': False,
                'base_manager_name': 'objects',
                'constraints': [models.UniqueConstraint(fields=('tenant', 'first'), name='audit_log_seal_once')],
            },
        ),
        EnableTenancy("LogSeal"),
        append_only("audit_log_seal", "record_checkpoint", "record_checkpoint_head"),
    ]
