from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_people'),
        ('datasets', '0004_moderation'),
        ('moderation', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='outcome',
            name='copies',
            field=models.UUIDField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='outcome',
            name='item',
            field=models.UUIDField(default='00000000-0000-0000-0000-000000000000'),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='outcome',
            name='kind',
            field=models.CharField(choices=[('flag', 'Flag'), ('second', 'Second'), ('appeal', 'Appeal')], default='flag', max_length=6),
        ),
        migrations.AddField(
            model_name='outcome',
            name='labels',
            field=models.JSONField(blank=True, default=list),
        ),
        migrations.AddField(
            model_name='outcome',
            name='of_review',
            field=models.UUIDField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='record',
            name='digest',
            field=models.CharField(default='', max_length=64),
            preserve_default=False,
        ),
        migrations.AlterField(
            model_name='seal',
            name='created_at',
            field=models.DateTimeField(),
        ),
        migrations.AddIndex(
            model_name='outcome',
            index=models.Index(fields=['tenant', 'item', 'id'], name='review_outcome_by_item'),
        ),
        migrations.AddIndex(
            model_name='review',
            index=models.Index(fields=['tenant', 'state', 'due_at', 'id'], name='review_due'),
        ),
        migrations.AddConstraint(
            model_name='outcome',
            constraint=models.UniqueConstraint(fields=('tenant', 'undoes'), name='review_outcome_undone_once'),
        ),
        migrations.AddConstraint(
            model_name='review',
            constraint=models.UniqueConstraint(condition=models.Q(('kind', 'flag'), ('of_review', None)), fields=('tenant', 'audit', 'rule'), name='review_flag_once'),
        ),
        migrations.AddConstraint(
            model_name='review',
            constraint=models.UniqueConstraint(condition=models.Q(models.Q(('of_review', None), _negated=True), models.Q(('state', 'dropped'), _negated=True)), fields=('tenant', 'of_review', 'kind'), name='review_check_once'),
        ),
        migrations.AddConstraint(
            model_name='review',
            constraint=models.UniqueConstraint(condition=models.Q(('kind', 'appeal'), models.Q(('state', 'open'), ('state', 'claimed'), _connector='OR')), fields=('tenant', 'audit'), name='review_appeal_once'),
        ),
    ]
