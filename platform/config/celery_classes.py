"""What of Celery's own classes is replaced, by settings: the worker's consumer and the scheduler."""

from __future__ import annotations

import logging
from typing import Any

from celery.beat import PersistentScheduler, ScheduleEntry
from celery.worker import consumer

log = logging.getLogger(__name__)

# Of a period. Less than all of it: a scheduler that is a moment early next time must still find its key gone.
KEPT = 0.9
# How often a scheduler looks at its clock at least, in seconds.
MOST_S = 5.0


class Consumer(consumer.Consumer):
    """Celery's, which makes no exchanges and queues for delays.

    On quorum queues it would make 28 of each, for tasks with a countdown; none is sent with one there
    (`tenants.broker.LATER`).
    """

    class Blueprint(consumer.Consumer.Blueprint):
        default_steps = tuple(
            step for step in consumer.Consumer.Blueprint.default_steps if "delayed_delivery" not in step
        )


class OncePerPeriod(PersistentScheduler):
    """Celery's scheduler, of which any number of hosts may run one: each entry is sent once a period, by the first.

    No host leads: each entry has a key in Valkey that lasts nearly a period, and who can set it sends. Where a
    scheduler dies, another one's next look finds the key gone, so an entry is late by less than one period more.
    Without Valkey all of them send: every task bears being done twice.

    A clock that is set back stops nothing: Celery's would wait until it has caught up, and look every five minutes.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.max_interval: float = MOST_S

    def tick(self, *args: Any, **options: Any) -> float:
        for entry in self.schedule.values():
            now = entry.default_now()
            if entry.schedule.maybe_make_aware(entry.last_run_at) > now:
                entry.last_run_at = now
                # What is due when is worked out anew.
                self._heap = None
        return float(super().tick(*args, **options))

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        if may_send(entry.name, entry.schedule.run_every.total_seconds()):
            super().apply_entry(entry, producer=producer)


def may_send(name: str, period_s: float) -> bool:
    """Whether this scheduler is the first of all that wants to send an entry in this period."""
    # After Django is set up, which the command of the scheduler does late.
    from tenants.valkey import Unavailable, client

    try:
        return bool(client().set(f"beat:{name}", 1, px=max(1, int(1000 * KEPT * period_s)), nx=True))
    except Unavailable:
        log.warning("Valkey is away: entries of the schedule may be sent by several hosts")
        return True
