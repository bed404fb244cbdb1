import django.db.models.deletion
import tenants.scope
import uuid_utils.compat
from django.db import migrations, models

from tenants.scope import EnableTenancy, append_only

# References within one tenant, as EnableTenancy makes them for a new table.
REFERENCES = {
    "before_id": "policy_activation",
    "displaced_id": "policy_activation",
    "enforced_id": "policy_version",
    "rest_id": "policy_version",
    "shadow_id": "policy_version",
}
ADD = [
    f"ALTER TABLE policy_activation ADD CONSTRAINT policy_activation_{column}_tenant_fk "
    f"FOREIGN KEY (tenant_id, {column}) REFERENCES {table} (tenant_id, id) DEFERRABLE INITIALLY DEFERRED"
    for column, table in REFERENCES.items()
]
DROP = [f"ALTER TABLE policy_activation DROP CONSTRAINT policy_activation_{column}_tenant_fk" for column in REFERENCES]


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_people'),
        ('moderation', '0002_review_details'),
    ]

    operations = [
        migrations.CreateModel(
            name='Backtest',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('job_id', models.UUIDField()),
                ('state', models.JSONField(default=dict)),
                ('created_by', models.CharField(blank=True, default='', max_length=100)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'db_table': 'policy_backtest',
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='ShadowDecision',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('decision', models.CharField(max_length=6)),
                ('rules', models.JSONField(default=list)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'db_table': 'shadow_decision',
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.RemoveIndex(
            model_name='policyactivation',
            name='policy_activation_newest',
        ),
        migrations.AddField(
            model_name='policyactivation',
            name='before',
            field=tenants.scope.TenantForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='moderation.policyactivation'),
        ),
        migrations.AddField(
            model_name='policyactivation',
            name='displaced',
            field=tenants.scope.TenantForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='moderation.policyactivation'),
        ),
        migrations.AddField(
            model_name='policyactivation',
            name='enforced',
            field=tenants.scope.TenantForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='moderation.policyversion'),
        ),
        migrations.AddField(
            model_name='policyactivation',
            name='number',
            field=models.PositiveIntegerField(default=0),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='policyactivation',
            name='rest',
            field=tenants.scope.TenantForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='moderation.policyversion'),
        ),
        migrations.AddField(
            model_name='policyactivation',
            name='shadow',
            field=tenants.scope.TenantForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='moderation.policyversion'),
        ),
        migrations.AddIndex(
            model_name='policyactivation',
            index=models.Index(fields=['tenant', 'policy', '-number'], name='policy_activation_newest'),
        ),
        migrations.AddConstraint(
            model_name='policyactivation',
            constraint=models.UniqueConstraint(fields=('tenant', 'number'), name='policy_activation_once'),
        ),
        migrations.AddConstraint(
            model_name='policyversion',
            constraint=models.UniqueConstraint(fields=('tenant', 'policy', 'digest'), name='policy_version_same_once'),
        ),
        migrations.AddField(
            model_name='backtest',
            name='tenant',
            field=models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant'),
        ),
        migrations.AddField(
            model_name='backtest',
            name='version',
            field=tenants.scope.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='backtests', to='moderation.policyversion'),
        ),
        migrations.AddField(
            model_name='shadowdecision',
            name='audit',
            field=tenants.scope.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='shadows', to='moderation.audit'),
        ),
        migrations.AddField(
            model_name='shadowdecision',
            name='tenant',
            field=models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant'),
        ),
        migrations.AddField(
            model_name='shadowdecision',
            name='version',
            field=tenants.scope.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='moderation.policyversion'),
        ),
        migrations.AddIndex(
            model_name='backtest',
            index=models.Index(fields=['tenant', 'version', '-id'], name='policy_backtest_newest'),
        ),
        migrations.AddConstraint(
            model_name='backtest',
            constraint=models.UniqueConstraint(fields=('tenant', 'job_id'), name='policy_backtest_once'),
        ),
        migrations.AddIndex(
            model_name='shadowdecision',
            index=models.Index(fields=['tenant', 'version', '-id'], name='shadow_by_version'),
        ),
        migrations.AddConstraint(
            model_name='shadowdecision',
            constraint=models.UniqueConstraint(fields=('tenant', 'audit', 'version'), name='shadow_once'),
        ),
        migrations.RunSQL(ADD, DROP),
        EnableTenancy('backtest'),
        EnableTenancy('shadowdecision'),
        append_only("shadow_decision"),
    ]
