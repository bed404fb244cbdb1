from django.db import migrations, models


class Migration(migrations.Migration):
    """A default of the database's own: no row is rewritten, and a process of the release before may go on writing."""

    dependencies = [
        ("retrieval", "0009_computed_field"),
    ]

    operations = [
        migrations.AddField(
            model_name="indexpointer",
            name="placed",
            field=models.CharField(blank=True, db_default="", default="", max_length=10),
        ),
    ]
