"""Which request, tenant and job the running code serves: read by the log filter, set at each entry point.

And the trace that it belongs to, if there is a collector of traces (config.tracing); without one spans cost next to
nothing and are told nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.trace import Span, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

request_id: ContextVar[str] = ContextVar("request_id", default="")
tenant_id: ContextVar[str] = ContextVar("tenant_id", default="")
job_id: ContextVar[str] = ContextVar("job_id", default="")
# The name under which an operator acts in a tenant; empty for everybody else.
acting: ContextVar[str] = ContextVar("acting", default="")
# Who asks for what is done now, in the words of the audit log (a person's id, `key:PREFIX`, `operator:ADDRESS`); empty
# where nobody does, as in upkeep. A job keeps it, and works in its name.
requester: ContextVar[str] = ContextVar("requester", default="")

tracer = trace.get_tracer("crosslight")
_propagator = TraceContextTextMapPropagator()
# Of a W3C traceparent: version, trace id, span id, flags.
TRACEPARENT_LENGTH = 55


@contextmanager
def bound(variable: ContextVar[str], value: str) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def traceparent() -> str:
    """The running span as a W3C traceparent (trace-context), to be kept with work that is done later; else empty."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent", "")


def context_of(traceparent: str) -> SpanContext:
    """What a traceparent names; an invalid context for anything that is none."""
    context = _propagator.extract({"traceparent": traceparent[:TRACEPARENT_LENGTH]})
    return trace.get_current_span(context).get_span_context()


@contextmanager
def continuing(traceparent: str, name: str, **attributes: str | float) -> Iterator[Span]:
    """A span of work that another process began, or of a trace of its own where none is named."""
    context = _propagator.extract({"traceparent": traceparent[:TRACEPARENT_LENGTH]}) if traceparent else None
    with tracer.start_as_current_span(
        name, context=context, kind=trace.SpanKind.CONSUMER, attributes=attributes
    ) as span:
        yield span
