import django.db.models.deletion
import tenants.scope
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_people'),
        ('retrieval', '0006_tasks_and_gates'),
    ]

    operations = [
        migrations.CreateModel(
            name='EmbeddingMap',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=100)),
                ('method', models.CharField(choices=[('pca', 'Pca'), ('umap', 'Umap')], max_length=4)),
                ('state', models.CharField(choices=[('pending', 'Pending'), ('ready', 'Ready'), ('failed', 'Failed')], default='pending', max_length=7)),
                ('model', models.CharField(max_length=100)),
                ('dataset_ids', models.JSONField(default=list)),
                ('modality', models.CharField(blank=True, default='', max_length=5)),
                ('params', models.JSONField(default=dict)),
                ('total', models.PositiveIntegerField(default=0)),
                ('points', models.PositiveIntegerField(default=0)),
                ('details', models.JSONField(default=dict)),
                ('job_id', models.UUIDField(blank=True, null=True)),
                ('error', models.JSONField(blank=True, null=True)),
                ('created_by', models.CharField(blank=True, default='', max_length=100)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
            ],
            options={
                'db_table': 'embedding_map',
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        tenants.scope.EnableTenancy("EmbeddingMap"),
    ]
