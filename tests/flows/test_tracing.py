"""From a request through the job that it queued to the worker: one trace, told to a real collector over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from django.conf import settings
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from standalone.ports import free_port
from tenants.datasets.services import create_dataset
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.waiting import PATIENCE_S, answers, until

pytestmark = pytest.mark.slow
SECRET = "nobody outside may read this"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


TENANT = "crosslight.tenant_id"


def told_of(span: Any) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


@dataclass
class Collector:
    """An OTLP/HTTP receiver that keeps spans as they come."""

    address: str
    spans: list[Any] = field(default_factory=list)
    services: set[str] = field(default_factory=set)

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {a.key: a.value.string_value for a in resource.resource.attributes}
            self.services.add(named["service.name"])
            self.spans.extend(span for scope in resource.scope_spans for span in scope.spans)

    def await_span(self, name: str, tenant_id: str) -> Any:
        """The tenant's span of that name: the worker serves what other tests left as well."""
        found = until(
            lambda: [s for s in self.spans if s.name == name and told_of(s).get(TENANT) == tenant_id],
            200,
            lambda: f"no {name!r} among {[span.name for span in self.spans]}",
        )
        return found[0]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told = Collector(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield told
    server.shutdown()


@contextmanager
def running(*arguments: str, collector: Collector) -> Iterator[None]:
    env = {
        **os.environ,
        "LOG_LEVEL": "WARNING",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    process = subprocess.Popen([sys.executable, "-m", *arguments], env=env, cwd=settings.ROOT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def address(collector: Collector) -> Iterator[str]:
    """A web process and a worker that tell the collector."""
    port = free_port()
    web = ("granian", "--interface", "asgi", "--port", str(port), "--ws", "config.asgi:application")
    worker = ("celery", "--quiet", "-A", "config.celery", "worker", "-P", "solo", "-Q", "embed", "-n", "t@t")
    with running(*web, collector=collector), running(*worker, collector=collector):
        await_web(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}/api/v1"


def await_web(base: str) -> None:
    def ask() -> None:
        requests.get(f"{base}/healthz", timeout=PATIENCE_S).raise_for_status()

    until(answers(ask, requests.RequestException), 120, "the server does not come up")


def test_a_job_stands_in_the_trace_of_its_request(address: str, collector: Collector, party: Party) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="traced")
    answer = requests.post(
        f"{address}/datasets/{dataset.id}/assets",
        headers={"Authorization": f"Bearer {party.token}", "traceparent": CALLER},
        files={"text": (None, SECRET)},
        timeout=30,
    )
    assert answer.status_code == 202
    request = collector.await_span("POST api/v1/datasets/<id:dataset_id>/assets", str(party.id))
    job = collector.await_span("embed_asset", str(party.id))
    assert job.trace_id == request.trace_id
    assert job.parent_span_id == request.span_id
    # The caller decides neither the trace nor what is sampled.
    assert request.trace_id.hex() not in CALLER
    assert [link.trace_id.hex() for link in request.links] == [CALLER.split("-")[1]]
    told = told_of(request) | told_of(job)
    assert told["crosslight.job_id"] == answer.json()["job"]["id"]
    assert told["http.response.status_code"] == 202
    assert collector.services == {"crosslight-web", "crosslight-t"}
    assert not any(SECRET in str(span) for span in collector.spans)
