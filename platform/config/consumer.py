"""What a worker does with its connection to the broker (`CELERY_WORKER_CONSUMER`)."""

from __future__ import annotations

from celery.worker import consumer


class Consumer(consumer.Consumer):
    """Celery's, which makes no exchanges and queues for delays.

    On quorum queues it would make 28 of each, for tasks with a countdown; none is sent with one there
    (`tenants.broker.LATER`).
    """

    class Blueprint(consumer.Consumer.Blueprint):
        default_steps = tuple(
            step for step in consumer.Consumer.Blueprint.default_steps if "delayed_delivery" not in step
        )
