"""Searches that members keep and made lately; for whom datasets are chosen, those about these alone."""

from typing import Any

import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models

from tenants.scope import EnableTenancy, NarrowByDataset

# Whether all that a search names is seen by who asks: only asked for somebody who is narrowed.
SEEN = """
    CREATE FUNCTION public.search_is_seen(asked jsonb) RETURNS boolean
    LANGUAGE plpgsql STABLE PARALLEL SAFE COST 1 AS $$
    BEGIN
        RETURN NOT EXISTS (
            SELECT 1 FROM jsonb_array_elements_text(COALESCE(asked -> 'datasets', '[]')) AS named (id)
            WHERE NOT named.id::uuid = ANY (NULLIF(current_setting('app.datasets', true), '')::uuid[])
        ) AND NOT EXISTS (
            SELECT 1 FROM (
                SELECT asked #>> ARRAY[part, 'asset'] AS id FROM unnest(ARRAY['image', 'audio', 'video']) AS part
                UNION ALL SELECT jsonb_array_elements_text(COALESCE(asked #> '{like,assets}', '[]'))
                UNION ALL SELECT jsonb_array_elements_text(COALESCE(asked #> '{unlike,assets}', '[]'))
            ) AS named WHERE named.id IS NOT NULL AND NOT public.asset_is_seen(named.id::uuid)
        );
    END $$
"""
# By the database, as whoever ends a membership need not know of these rows.
FOLLOW = """
    ALTER TABLE saved_search ADD CONSTRAINT saved_search_owner_fk FOREIGN KEY (owner_id)
        REFERENCES membership (id) ON DELETE SET NULL NOT VALID;
    ALTER TABLE saved_search ADD CONSTRAINT saved_search_private_to_fk FOREIGN KEY (private_to_id)
        REFERENCES membership (id) ON DELETE CASCADE NOT VALID;
    ALTER TABLE recent_search ADD CONSTRAINT recent_search_member_fk FOREIGN KEY (member_id)
        REFERENCES membership (id) ON DELETE CASCADE NOT VALID;
"""
UNFOLLOW = """
    ALTER TABLE saved_search DROP CONSTRAINT saved_search_owner_fk, DROP CONSTRAINT saved_search_private_to_fk;
    ALTER TABLE recent_search DROP CONSTRAINT recent_search_member_fk;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0012_operator_approval'),
        ('datasets', '0014_legal_hold'),
        ('retrieval', '0013_narrowing'),
    ]

    operations: list[Any] = [
        migrations.CreateModel(
            name='SavedSearch',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=100)),
                ('query', models.JSONField()),
                ('created_by', models.CharField(blank=True, default='', max_length=100)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('changed_at', models.DateTimeField(auto_now=True)),
                ('owner', models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='accounts.membership')),
                ('private_to', models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='accounts.membership')),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
            ],
            options={
                'db_table': 'saved_search',
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='RecentSearch',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('query', models.JSONField()),
                ('digest', models.CharField(max_length=64)),
                ('searched_at', models.DateTimeField()),
                ('member', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='accounts.membership')),
                ('tenant', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant')),
            ],
            options={
                'db_table': 'recent_search',
                'abstract': False,
                'base_manager_name': 'objects',
                'constraints': [models.UniqueConstraint(fields=('tenant', 'member', 'digest'), name='recent_search_once')],
            },
        ),
        EnableTenancy("SavedSearch"),
        EnableTenancy("RecentSearch"),
        migrations.RunSQL(FOLLOW, UNFOLLOW),
        migrations.RunSQL(SEEN, "DROP FUNCTION IF EXISTS public.search_is_seen(jsonb)"),
        NarrowByDataset("SavedSearch", search="query"),
        NarrowByDataset("RecentSearch", search="query"),
    ]
