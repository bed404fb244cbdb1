"""Who may open the operator's pages: one table over all of them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, reverse

from backoffice.urls import urlpatterns
from tenants.accounts.models import OperatorAct, Plan, SecondFactor, Tenant, User

pytestmark = pytest.mark.guard

ADDRESSES = [pattern for pattern in urlpatterns if isinstance(pattern, URLPattern)]
CASES = [(pattern.name, method) for pattern in ADDRESSES for method in pattern.callback.methods]


def address(name: str, party: Any) -> str:
    pattern = next(p for p in ADDRESSES if p.name == name)
    known = {
        "slug": party.tenant.plan_id if name.startswith("plan") else party.tenant.slug,
        "name": "acting-as",
        "job_id": uuid.uuid4(),
        "export_id": uuid.uuid4(),
        "erasure_id": uuid.uuid4(),
        "request_id": uuid.uuid4(),
    }
    return reverse(f"operator:{name}", kwargs={key: known[key] for key in pattern.pattern.converters})


def standing(party: Any) -> tuple[Any, ...]:
    """What must not have changed after a refusal."""
    tenant = Tenant.objects.get(pk=party.id)
    acts = OperatorAct.objects.filter(target__in=[tenant.slug, "acting-as"]).count()
    return tenant.state, tenant.plan_id, tenant.exceptions, acts


@pytest.mark.parametrize(("name", "method"), CASES)
def test_who_is_not_signed_in_is_sent_to_the_consoles_sign_in(name: str, method: str, party: Any) -> None:
    before = standing(party)
    response = Client().generic(method, address(name, party))
    assert (response.status_code, response["Location"][:12]) == (302, "/login?next=")
    assert standing(party) == before


@pytest.mark.parametrize(("name", "method"), CASES)
def test_a_tenants_owner_is_refused(name: str, method: str, party: Any, owner: Client) -> None:
    before = standing(party)
    response = owner.generic(method, address(name, party))
    assert response.status_code == 403
    assert standing(party) == before


@pytest.mark.parametrize(("name", "method"), CASES)
def test_an_operator_comes_in(name: str, method: str, party: Any, operator: Client) -> None:
    response = operator.generic(method, address(name, party))
    assert response.status_code not in (401, 403, 405, 500), response.content[:300]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_without_the_second_factor_that_is_asked_nothing_opens(
    name: str, method: str, party: Any, operator: Client, settings: Any
) -> None:
    settings.OPERATOR_SECOND_FACTOR = True
    before = standing(party)
    response = operator.generic(method, address(name, party))
    assert (response.status_code, response["Location"]) == (302, "/account/second-factor")
    assert standing(party) == before


def test_with_the_second_factor_they_open(operator: Client, settings: Any) -> None:
    settings.OPERATOR_SECOND_FACTOR = True
    from django.utils import timezone

    SecondFactor.objects.create(user=operator.user, sealed_secret=b"x", confirmed_at=timezone.now())
    assert operator.get("/operator/").status_code == 200


def test_who_is_staff_no_more_is_out_at_once(operator: Client) -> None:
    assert operator.get("/operator/").status_code == 200
    User.objects.filter(pk=operator.user.pk).update(is_staff=False)
    assert operator.get("/operator/").status_code == 403


@pytest.mark.parametrize(("name", "method"), [case for case in CASES if case[1] == "POST"])
def test_a_form_without_its_token_is_refused(name: str, method: str, party: Any, operator: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(operator.user)
    before = standing(party)
    assert strict.post(address(name, party), {"reason": "x"}).status_code == 403
    assert standing(party) == before


@pytest.mark.parametrize(("name", "method"), CASES)
def test_only_the_named_methods_are_served(name: str, method: str, party: Any, operator: Client) -> None:
    assert operator.generic("DELETE", address(name, party)).status_code == 405


def test_there_is_no_second_sign_in_and_no_page_of_djangos_own(operator: Client) -> None:
    for path in ("login/", "logout/", "password_change/", "jsi18n/", "accounts/user/", "search/"):
        assert operator.get(f"/operator/{path}").status_code == 404


def test_these_pages_run_and_style_nothing_but_the_consoles_own_files(
    operator: Client, owner: Client
) -> None:
    for response in (
        operator.get("/operator/"),
        owner.get("/"),
        Client().get("/login"),
        operator.get("/account"),
    ):
        policy = response["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert {"script-src 'self'", "style-src 'self'"} <= {part.strip() for part in policy.split(";")}


def test_pages_are_not_kept_and_do_not_frame(operator: Client) -> None:
    response = operator.get("/operator/")
    assert response["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in response["Content-Security-Policy"]


def test_an_operator_without_a_tenant_gets_from_the_console_to_these_pages(operator: Client) -> None:
    assert operator.get("/", follow=True).redirect_chain[-1][0] == "/operator/"


def test_what_is_not_there_is_absent(operator: Client) -> None:
    assert operator.get("/operator/tenants/nobody-here").status_code == 404
    assert operator.get("/operator/plans/nobody-here").status_code == 404
    assert operator.post("/operator/flags/nobody-here").status_code == 404
    assert not Plan.objects.filter(slug="nobody-here").exists()
