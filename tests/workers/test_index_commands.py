"""The command that builds a tenant's index."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command

from tenants.jobs.models import Job
from tenants.retrieval.index import lifecycle
from tenants.scope import tenant_scope
from workers.base import run_job


def test_an_unknown_tenant_is_named() -> None:
    with pytest.raises(CommandError, match="no tenant 'nobody'"):
        call_command("build_index", "nobody")


def test_a_second_build_is_the_one_under_way(party) -> None:
    call_command("build_index", party.tenant.slug, stdout=io.StringIO())
    with tenant_scope(party.id):
        job = Job.objects.get(kind=lifecycle.JOB)
    run_job(str(job.id), str(party.id))
    out = io.StringIO()
    # That one has ended, as there is nothing to index: another begins, and is then the one under way.
    call_command("build_index", party.tenant.slug, stdout=out)
    with tenant_scope(party.id):
        assert Job.objects.filter(kind=lifecycle.JOB).count() == 2
    again = io.StringIO()
    call_command("build_index", party.tenant.slug, stdout=again)
    assert again.getvalue() == out.getvalue()
