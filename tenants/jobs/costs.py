"""What jobs of the active tenant have cost, by kind."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

from django.db import connection

from tenants.ids import first_id_of
from tenants.scope import current_tenant_id

_SUMS = """
SELECT kind, count(*), sum(cost_cpu_s), sum(cost_gpu_s)
FROM job WHERE tenant_id = %s AND id >= %s AND id < %s
GROUP BY kind ORDER BY sum(cost_cpu_s) + sum(cost_gpu_s) DESC, kind
"""


@dataclass(frozen=True)
class Cost:
    """Of jobs of one kind that were made in a period, with what those under way have cost so far."""

    kind: str
    jobs: int
    cpu_s: float
    gpu_s: float


def by_kind(*, first: dt.date, last: dt.date) -> list[Cost]:
    """The dearest kind first; of the days from `first` to `last`, UTC."""
    with connection.cursor() as cursor:
        cursor.execute(_SUMS, [current_tenant_id(), _least(first), _least(last + dt.timedelta(days=1))])
        return [Cost(kind, jobs, cpu or 0, gpu or 0) for kind, jobs, cpu, gpu in cursor.fetchall()]


def _least(day: dt.date) -> uuid.UUID:
    return first_id_of(dt.datetime.combine(day, dt.time(), dt.UTC))
