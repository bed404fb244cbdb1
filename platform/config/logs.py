"""Adds the ids of the running request, tenant and job to every log line."""

from __future__ import annotations

import logging

from tenants import observe


class ContextFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = observe.request_id.get()
        record.tenant_id = observe.tenant_id.get()
        record.job_id = observe.job_id.get()
        return True
