
import django.db.models.deletion
import tenants.scope
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('accounts', '0008_leases'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='ProvisionedGroup',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('display_name', models.CharField(max_length=255)),
                ('display_name_key', models.CharField(max_length=255)),
                ('external_id', models.CharField(blank=True, default='', max_length=255)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('changed_at', models.DateTimeField(auto_now=True)),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
            ],
            options={
                'db_table': 'provisioned_group',
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='ProvisionedUser',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('user_name', models.CharField(max_length=254)),
                ('user_name_key', models.CharField(max_length=254)),
                ('external_id', models.CharField(blank=True, default='', max_length=255)),
                ('display_name', models.CharField(blank=True, default='', max_length=255)),
                ('formatted_name', models.CharField(blank=True, default='', max_length=255)),
                ('given_name', models.CharField(blank=True, default='', max_length=255)),
                ('family_name', models.CharField(blank=True, default='', max_length=255)),
                ('address', models.EmailField(max_length=254)),
                ('emails', models.JSONField(default=list)),
                ('former_role', models.CharField(blank=True, default='', max_length=60)),
                ('by_group', models.BooleanField(default=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('changed_at', models.DateTimeField(auto_now=True)),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'provisioned_user',
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='ProvisionedMember',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('group', tenants.scope.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='members', to='people.provisionedgroup')),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
                ('person', tenants.scope.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='groups', to='people.provisioneduser')),
            ],
            options={
                'db_table': 'provisioned_member',
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='ProvisioningSettings',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('default_role', models.CharField(default='viewer', max_length=60)),
                ('group_roles', models.JSONField(default=list)),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
            ],
            options={
                'db_table': 'provisioning_settings',
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='ProvisioningToken',
            fields=[
                ('prefix', models.CharField(max_length=16, primary_key=True, serialize=False)),
                ('digest', models.BinaryField(max_length=32)),
                ('name', models.CharField(max_length=100)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
                ('last_used_at', models.DateTimeField(blank=True, null=True)),
                ('created_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
            ],
            options={
                'db_table': 'provisioning_token',
            },
        ),
        migrations.AddIndex(
            model_name='provisionedgroup',
            index=models.Index(fields=['tenant', 'external_id'], name='provisioned_group_by_external'),
        ),
        migrations.AddConstraint(
            model_name='provisionedgroup',
            constraint=models.UniqueConstraint(fields=('tenant', 'display_name_key'), name='provisioned_group_by_name'),
        ),
        migrations.AddIndex(
            model_name='provisioneduser',
            index=models.Index(fields=['tenant', 'external_id'], name='provisioned_user_by_external'),
        ),
        migrations.AddConstraint(
            model_name='provisioneduser',
            constraint=models.UniqueConstraint(fields=('tenant', 'user'), name='provisioned_user_once'),
        ),
        migrations.AddConstraint(
            model_name='provisioneduser',
            constraint=models.UniqueConstraint(fields=('tenant', 'user_name_key'), name='provisioned_user_by_name'),
        ),
        migrations.AddIndex(
            model_name='provisionedmember',
            index=models.Index(fields=['tenant', 'person'], name='provisioned_member_by_person'),
        ),
        migrations.AddConstraint(
            model_name='provisionedmember',
            constraint=models.UniqueConstraint(fields=('tenant', 'group', 'person'), name='provisioned_member_once'),
        ),
        migrations.AddConstraint(
            model_name='provisioningsettings',
            constraint=models.UniqueConstraint(fields=('tenant',), name='provisioning_settings_once'),
        ),
        tenants.scope.EnableTenancy("ProvisioningSettings"),
        tenants.scope.EnableTenancy("ProvisionedUser"),
        tenants.scope.EnableTenancy("ProvisionedGroup"),
        tenants.scope.EnableTenancy("ProvisionedMember"),
    ]
