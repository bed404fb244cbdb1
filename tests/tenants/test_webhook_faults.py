"""A worker that is killed in the middle of sending: nothing is lost, and the receiver can tell what it has seen."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from tenants.events import deliveries, endpoints, replays, webhooks
from tenants.scope import tenant_scope
from tests.conftest import ROOT, Party
from tests.tenants.receiver import plain, receiving
from tests.waiting import until

LEASE_S = 3.0
LOCAL = {
    "WEBHOOK_ALLOW_HTTP": "1",
    "WEBHOOK_PORTS": "1024-65535",
    "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1/32",
    "WEBHOOK_LEASE_S": str(LEASE_S),
}
WORKER = """
import sys, uuid
sys.path[:0] = ["platform", "."]
import django
django.setup()
from tenants.events import deliveries
deliveries.deliver(uuid.UUID(sys.argv[1]), uuid.UUID(sys.argv[2]))
"""


@pytest.mark.guard
def test_a_worker_that_is_killed_while_it_sends(
    party: Party, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEBHOOK_ALLOW_HTTP, settings.WEBHOOK_PORTS = True, ("1024-65535",)
    settings.WEBHOOK_ALLOWED_NETWORKS = ("127.0.0.1/32",)
    monkeypatch.setattr(webhooks, "send", lambda *args: None)
    came, gone = threading.Event(), threading.Event()

    def hang(handler: Any, number: int) -> None:
        came.set()
        gone.wait(60)

    with receiving() as receiver:
        receiver.answer = hang
        with tenant_scope(party.id):
            row, secret = endpoints.create_webhook(url=receiver.url, actor="key:x")
            webhooks.emit("asset.ready", {"asset": "1"})
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(row.id), str(party.id)],
            cwd=ROOT,
            env={**os.environ, **LOCAL, "DJANGO_SETTINGS_MODULE": "config.settings"},
        )
        try:
            assert came.wait(90)
        finally:
            worker.kill()
            worker.wait()
        gone.set()
        receiver.answer = plain(200)
        until(lambda: deliveries.deliver(row.id, party.id), message="the lane was not freed")
        assert len(receiver.ids) == 2
        assert len(set(receiver.ids)) == 1
        assert [payload["data"] for payload in receiver.verified(secret)] == [{"asset": "1"}] * 2
    with tenant_scope(party.id):
        [delivery] = replays.list_deliveries(row.id)
    # Of the attempt that was cut off nothing is known.
    assert (delivery.state, len(delivery.attempts)) == ("succeeded", 1)
