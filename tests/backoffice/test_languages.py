"""Operators who read Chinese find no English in what the pages themselves say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from standalone import catalogue
from tenants.accounts import flags
from tenants.accounts.models import FeatureFlag, OperatorAct
from tenants.jobs.kinds import KINDS
from tenants.pipeline.upkeep import health
from tests.backoffice.test_work import dead

ZH = "zh-CN,zh;q=0.9"


@pytest.fixture(autouse=True, scope="module")
def _catalogues_are_compiled() -> None:
    catalogue.compile_all()


def read(client: Client, path: str, status: int = 200) -> str:
    """The words of a page, without its tags and without what stands there as a code."""
    response = client.get(f"/operator/{path}", HTTP_ACCEPT_LANGUAGE=ZH)
    assert response.status_code == status
    main = response.content.decode().split('<main id="main"')[1].split("</main>")[0]
    main = re.sub(r'<(\w+) class="[^"]*\b(?:mono|json)\b[^"]*"[^>]*>.*?</\1>', "", main, flags=re.DOTALL)
    return re.sub(r"<[^>]+>", " ", main)


@pytest.fixture
def some_have_it(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A flag of its own: what is set of a real one holds for every test that follows."""
    monkeypatch.setitem(flags.FLAGS, "trial", flags.Flag("trial", "", default=False))
    FeatureFlag.objects.create(name="trial", state="some", share=5)
    yield
    FeatureFlag.objects.filter(name="trial").delete()
    flags.forget()


@pytest.mark.usefixtures("some_have_it")
def test_jobs_states_roles_and_acts_are_in_words(party: Any, operator: Client) -> None:
    job = dead(party)
    OperatorAct.objects.create(actor="x@y.z", verb="tenant.suspended", target=party.tenant.slug)
    kind = str(KINDS[job.kind].label)
    pages = {
        "jobs": f"jobs?tenant={party.tenant.slug}",
        "job": f"jobs/{party.tenant.slug}/{job.id}",
        "tenant": f"tenants/{party.tenant.slug}",
        "tenants": f"tenants?q={party.tenant.slug}",
        "log": "log",
        "flags": "flags",
    }
    words = {name: read(operator, path) for name, path in pages.items()}
    for name in ("jobs", "tenant"):
        assert job.kind not in words[name] and kind not in words[name]
    assert "Failed" not in words["jobs"] + words["job"]
    for name in ("tenant", "tenants"):
        assert not re.search(r"\b(?:Active|Suspended)\b", words[name])
    assert "所有者" in words["tenant"]
    assert "tenant.suspended" not in words["tenant"] + words["log"]
    assert "some" not in words["flags"]


def test_a_check_that_breaks_and_a_full_quota_are_told_in_words(
    party: Any, operator: Client, monkeypatch: Any
) -> None:
    def broken() -> Any:
        raise OSError

    full = {"tenant": party.tenant, "name": "vectors", "used": 95, "limit": 100}
    monkeypatch.setattr(health.tenant_figures, "near_quota", lambda: [full])
    checks = dict.fromkeys(health.CHECKS, broken) | {"quotas": health._quotas}
    monkeypatch.setattr(health, "CHECKS", checks)
    wrong = read(operator, "")
    assert "“dead letters”" not in wrong and "vectors" not in wrong
    assert not re.search(r"“[a-z ]+”|「[a-z ]+」", wrong)
