"""Jobs whose progress a benchmark turns by hand, beside a running stack (`_stack.beside`)."""

from __future__ import annotations

import time
import uuid
from typing import Any

from standalone.stack import Stack
from tenants.accounts import keys
from tenants.accounts.models import KeyDigest
from tenants.jobs import services
from tenants.jobs.models import Job
from tenants.scope import tenant_scope


def give_keys(asked: dict[str, Any]) -> dict[str, Any]:
    made = []
    for tenant_id in asked["tenants"]:
        with tenant_scope(tenant_id):
            made.append(keys.create_key(name="listener", scopes=["read"], created_by=None)[1])
    return {"keys": made}


def begin(asked: dict[str, Any]) -> dict[str, Any]:
    """A job in the tenant of each key, which no worker is told of."""
    jobs = []
    for key in asked["keys"]:
        with tenant_scope(_tenant(key)):
            jobs.append(str(Job.objects.create(kind="reindex_metadata", progress_total=100).id))
    return {"jobs": jobs}


def step(asked: dict[str, Any]) -> dict[str, Any]:
    """Run them to their end in steps; says when each was taken."""
    tenants = [_tenant(key) for key in asked["keys"]]
    claims = [
        services.claim(job_id=uuid.UUID(job), tenant_id=tenant)
        for job, tenant in zip(asked["jobs"], tenants, strict=True)
    ]
    at: dict[str, float] = {}
    for done in range(1, asked["steps"] + 1):
        time.sleep(asked["every_s"])
        at[str(done)] = time.time()
        for claim in claims:
            assert claim is not None
            services.progress(claim, done=done, total=asked["steps"])
    for claim, tenant in zip(claims, tenants, strict=True):
        assert claim is not None
        with tenant_scope(tenant):
            services.succeed(claim, result={}, cpu_s=0, gpu_s=0, used={})
    return {"at": at}


def _tenant(key: str) -> uuid.UUID:
    return KeyDigest.objects.get(prefix=key.split(".")[0]).tenant_id


def main(stack: Stack, given: dict[str, Any]) -> dict[str, Any]:
    return {"keys": give_keys, "begin": begin, "step": step}[given["do"]](given)
