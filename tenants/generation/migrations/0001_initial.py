import django.db.models.deletion
import tenants.scope
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('accounts', '0005_longer_resource'),
        ('datasets', '0007_asset_generation'),
    ]

    operations = [
        migrations.CreateModel(
            name='Generation',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('prompt', models.TextField()),
                ('negative', models.TextField(blank=True, default='')),
                ('outputs', models.JSONField(default=list)),
                ('seed', models.BigIntegerField()),
                ('steps', models.PositiveIntegerField()),
                ('guidance', models.FloatField()),
                ('width', models.PositiveIntegerField()),
                ('height', models.PositiveIntegerField()),
                ('seconds', models.FloatField()),
                ('candidates', models.PositiveIntegerField()),
                ('state', models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('succeeded', 'Succeeded'), ('failed', 'Failed'), ('cancelled', 'Cancelled'), ('blocked', 'Blocked')], default='queued', max_length=9)),
                ('score', models.FloatField(blank=True, null=True)),
                ('made_by', models.JSONField(default=dict)),
                ('error', models.JSONField(blank=True, null=True)),
                ('job_id', models.UUIDField(blank=True, null=True)),
                ('prompt_audit_id', models.UUIDField(blank=True, null=True)),
                ('remix_of_id', models.UUIDField(blank=True, null=True)),
                ('mark', models.BigIntegerField()),
                ('created_by', models.CharField(blank=True, default='', max_length=100)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('dataset', tenants.scope.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='datasets.dataset')),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
                ('variation_of', tenants.scope.TenantForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='generation.generation')),
            ],
            options={
                'db_table': 'generation',
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='GenerationOutput',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(max_length=5)),
                ('score', models.FloatField(blank=True, null=True)),
                ('scores', models.JSONField(default=list)),
                ('how', models.CharField(max_length=10)),
                ('model', models.CharField(max_length=200)),
                ('audit_id', models.UUIDField(blank=True, null=True)),
                ('decision', models.CharField(blank=True, default='', max_length=6)),
                ('provenance', models.JSONField(default=dict)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('asset', tenants.scope.TenantForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='datasets.asset')),
                ('generation', tenants.scope.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='made', to='generation.generation')),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
            ],
            options={
                'db_table': 'generation_output',
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.AddIndex(
            model_name='generation',
            index=models.Index(fields=['tenant', 'state', '-id'], name='generation_by_state'),
        ),
        migrations.AddIndex(
            model_name='generation',
            index=models.Index(fields=['tenant', 'dataset'], name='generation_by_dataset'),
        ),
        migrations.AddIndex(
            model_name='generation',
            index=models.Index(fields=['tenant', 'job_id'], name='generation_by_job'),
        ),
        migrations.AddIndex(
            model_name='generation',
            index=models.Index(fields=['tenant', 'mark'], name='generation_by_mark'),
        ),
        migrations.AddIndex(
            model_name='generation',
            index=models.Index(condition=models.Q(('variation_of__isnull', False)), fields=['tenant', 'variation_of', '-id'], name='generation_by_variation'),
        ),
        migrations.AddIndex(
            model_name='generation',
            index=models.Index(condition=models.Q(('remix_of_id__isnull', False)), fields=['tenant', 'remix_of_id'], name='generation_by_remix'),
        ),
        migrations.AddIndex(
            model_name='generationoutput',
            index=models.Index(fields=['tenant', 'asset'], name='generation_output_by_asset'),
        ),
        migrations.AddConstraint(
            model_name='generationoutput',
            constraint=models.UniqueConstraint(fields=('tenant', 'generation', 'kind'), name='generation_output_once'),
        ),
        tenants.scope.EnableTenancy("Generation"),
        tenants.scope.EnableTenancy("GenerationOutput"),
    ]
