"""Traces for OpenTelemetry: from a request through the job that it queued to the worker that ran it.

Off, and free, unless OTEL_EXPORTER_OTLP_ENDPOINT names a collector. The variables are OpenTelemetry's own
(OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, …); what is told is in docs/operating.md. Spans name routes, kinds and
ids, never content: no query, no file name, no metadata. Why the job's row carries the trace:
docs/adr/0023-a-jobs-row-carries-its-trace.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from tenants import observe

_started = threading.Lock()


def start(service: str) -> None:
    """Export this process's spans, if a collector is named. Once in each process; later calls do nothing."""
    if not settings.TRACES or not _started.acquire(blocking=False):
        return
    # Only here: a process without a collector loads none of it.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def stop() -> None:
    """Send what waits; for servers that end their processes without the interpreter's own end."""
    shutdown = getattr(trace.get_tracer_provider(), "shutdown", None)
    if shutdown is not None:
        shutdown()


class TraceMiddleware:
    """A span for each request, named by its route.

    A caller's own trace is linked, not continued: it decides neither what is sampled here nor under which id.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        caller = observe.context_of(request.headers.get("traceparent", ""))
        links = [Link(caller)] if caller.is_valid else []
        with observe.tracer.start_as_current_span("request", kind=SpanKind.SERVER, links=links) as span:
            response = self.get_response(request)
            if span.is_recording():
                match = request.resolver_match
                span.update_name(f"{request.method} {match.route if match else 'none'}")
                span.set_attribute("http.request.method", request.method or "")
                span.set_attribute("http.response.status_code", response.status_code)
                span.set_attribute("crosslight.request_id", observe.request_id.get())
                span.set_attribute("crosslight.tenant_id", observe.tenant_id.get())
                if response.status_code >= 500:
                    span.set_status(Status(StatusCode.ERROR))
            return response
