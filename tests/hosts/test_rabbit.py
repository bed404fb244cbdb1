"""RabbitMQ as the broker, by `BROKER_URL`: bounded, replicated queues, and work that outlives the broker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from amqp.exceptions import PreconditionFailed
from celery import current_app
from kombu import Connection

from tenants import broker
from tenants.events import webhooks
from tenants.jobs import notify_workers
from tests.hosts.rabbit import Rabbit
from tests.waiting import pause, until

pytestmark = pytest.mark.timeout(600)


@contextmanager
def use_broker(url: str, settings: Any) -> Iterator[None]:
    """Have Celery in this process use a broker, as the product's settings would."""
    app = current_app._get_current_object()
    wanted = broker.celery_settings(url)
    before = settings.BROKER_URL, {name: app.conf[name] for name in wanted}

    def use(broker_url: str, conf: dict[str, Any]) -> None:
        settings.BROKER_URL = broker_url
        app.conf.update(conf)
        app._pool = None
        app.__dict__.pop("amqp", None)

    use(url, wanted)
    try:
        yield
    finally:
        use(*before)


@pytest.fixture
def on_rabbit(rabbit: Rabbit, settings: Any) -> Iterator[Rabbit]:
    """This process's Celery with RabbitMQ as its broker, all queues empty."""
    with use_broker(rabbit.url, settings):
        with Connection(rabbit.url) as connection:
            for queue in (*broker.QUEUES, broker.LATER):
                connection.default_channel.queue_delete(queue)
        yield rabbit


def test_of_many_wake_up_messages_a_handful_stays(on_rabbit: Rabbit) -> None:
    for _ in range(50):
        notify_workers.notify("embed")
    until(lambda: broker.unread("embed") >= notify_workers.MESSAGES)
    # Also of those who look at the same time, and all send.
    for _ in range(300):
        current_app.signature(notify_workers.TASK, args=["embed"]).apply_async(queue="embed", retry=False)
    until(lambda: broker.unread("embed") == broker.MOST_WAKING)


def test_the_queues_are_quorum_queues(on_rabbit: Rabbit) -> None:
    notify_workers.notify("embed")
    classic = {"x-max-length": broker.MOST_WAKING, "x-overflow": "drop-head", "x-queue-type": "classic"}
    with Connection(on_rabbit.url) as connection:
        channel = connection.default_channel
        with pytest.raises(PreconditionFailed, match="inequivalent arg 'x-queue-type'"):
            channel.queue_declare("embed", durable=True, auto_delete=False, arguments=classic)


def test_messages_about_a_tenant_are_dropped_and_others_stay(on_rabbit: Rabbit) -> None:
    mine, other = uuid.uuid4(), uuid.uuid4()
    for tenant in (mine, other, mine):
        current_app.signature(webhooks.TASK, args=[str(uuid.uuid4()), str(tenant)]).apply_async(queue="hooks")
    notify_workers.notify("embed")
    until(lambda: broker.unread("hooks") == 3)
    assert broker.drop_messages(str(mine)) == 2
    until(lambda: (broker.unread("hooks"), broker.unread("embed")) == (1, 1))
    with Connection(on_rabbit.url) as connection:
        message = connection.default_channel.basic_get("hooks", no_ack=True)
    assert str(other) in str(message.body)
    assert message.headers["task"] == webhooks.TASK


def test_a_broker_that_comes_back_is_told_again(on_rabbit: Rabbit) -> None:
    """By the same process, over its old connections."""
    notify_workers.notify("embed")
    until(lambda: broker.unread("embed") == 1)
    pause(3, "a single node writes down what queues it has some time after it made them")
    on_rabbit.kill()
    notify_workers.notify("embed")
    on_rabbit.start()
    # It answers a little before its queues have chosen their leaders.
    until(lambda: broker.unread("embed") == 1)
    # The connection over which it was sent is another one of the pool, which finds out now.
    notify_workers.notify("embed")
    notify_workers.notify("embed")
    assert broker.unread("embed") >= 2


def test_what_the_broker_is_and_holds_is_told(on_rabbit: Rabbit) -> None:
    notify_workers.notify("embed")
    until(lambda: broker.unread("embed") == 1)
    assert broker.check() == f"RabbitMQ {_version(on_rabbit)}, 1 messages"


def _version(rabbit: Rabbit) -> str:
    with Connection(rabbit.url) as connection:
        connection.connect()
        return str(connection.connection.server_properties["version"])
