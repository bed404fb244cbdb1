"""The commands that build a tenant's index, and say where it lies."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command

from tenants.jobs.models import Job
from tenants.retrieval.index import lifecycle
from tenants.retrieval.models import IndexPointer
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


def test_where_an_index_lies_is_written_down(party) -> None:
    with pytest.raises(CommandError, match="no engine milvus"):
        call_command("move_index", party.tenant.slug, "--to", "milvus")
    out = io.StringIO()
    for to, placed in (("files", "files"), ("auto", "")):
        call_command("move_index", party.tenant.slug, "--to", to, stdout=out)
        with tenant_scope(party.id):
            assert IndexPointer.objects.get().placed == placed
            assert not Job.objects.exists()
    assert out.getvalue() == 2 * "it is there already, and stays\n"
