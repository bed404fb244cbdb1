"""How many assets a dataset has, without counting them: the sum of what triggers noted (`AssetTally`).

Counting 100,000 assets on every page that names a dataset takes longer than all the rest of it. One counter in the
dataset's row would be locked by every upload and every worker until their commit; rows that are only added are not.
Upkeep adds them up, so that a sum reads few.
"""

from __future__ import annotations

from django.db import connection
from django.db.models import BigIntegerField, F, OuterRef, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce

from tenants.datasets.models import AssetTally, Dataset
from tenants.scope import current_tenant_id

COUNTS = {"asset_count": "assets", "ready_count": "ready", "failed_count": "failed"}
# One statement, so that whoever reads sees either the parts or their sum; of two at once the second finds nothing.
COMPACT = """
    WITH gone AS (
        DELETE FROM asset_tally WHERE tenant_id = %(tenant)s AND dataset_id IN (
            SELECT dataset_id FROM asset_tally WHERE tenant_id = %(tenant)s GROUP BY dataset_id HAVING count(*) > 1
        ) RETURNING dataset_id, assets, ready, failed
    )
    INSERT INTO asset_tally (id, tenant_id, dataset_id, assets, ready, failed)
    SELECT gen_random_uuid(), %(tenant)s, dataset_id, sum(assets), sum(ready), sum(failed)
    FROM gone GROUP BY dataset_id HAVING sum(assets) <> 0 OR sum(ready) <> 0 OR sum(failed) <> 0
"""


def count_of_assets(datasets: QuerySet[Dataset]) -> QuerySet[Dataset]:
    """These with how many assets they have, and how many of them are ready and failed."""
    return datasets.annotate(**{name: _sum(column) for name, column in COUNTS.items()})


def _sum(column: str) -> Coalesce:
    rows = AssetTally.objects.filter(dataset_id=OuterRef("pk")).order_by().values("dataset_id")
    total = rows.annotate(total=Sum(F(column))).values("total")
    return Coalesce(Subquery(total, output_field=BigIntegerField()), Value(0), output_field=BigIntegerField())


def compact() -> None:
    """Add up the rows of each dataset of the active tenant; what a deleted one leaves sums up to nothing."""
    with connection.cursor() as cursor:
        cursor.execute(COMPACT, {"tenant": current_tenant_id()})
