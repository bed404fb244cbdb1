from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("retrieval", "0011_lexical_names"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="lexicalentry",
            index=models.Index(
                condition=models.Q(names_indexed=False),
                fields=["tenant", "asset"],
                name="lexical_entry_without_names",
            ),
        ),
    ]
