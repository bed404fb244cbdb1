import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models

from tenants.scope import EnableTenancy, append_only


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0008_leases'),
        ('events', '0005_audit_event_by_target'),
    ]

    operations = [
        migrations.CreateModel(
            name='AuditLogLine',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('sequence', models.PositiveBigIntegerField()),
                ('event', models.UUIDField()),
                ('digest', models.CharField(max_length=64)),
                ('why', models.CharField(blank=True, default='', max_length=8)),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
            ],
            options={
                'db_table': 'audit_log_line',
                'abstract': False,
                'base_manager_name': 'objects',
                'indexes': [models.Index(fields=['tenant', '-event'], name='audit_log_line_by_event')],
                'constraints': [models.UniqueConstraint(fields=('tenant', 'sequence'), name='audit_log_line_once')],
            },
        ),
        EnableTenancy("AuditLogLine"),
        append_only("audit_log_line"),
    ]
