"""In a real browser: alerts come without a reload, to the navigation of any page and to the inbox."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from tests.console.browsing import MARKS

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from tests.console.test_browser_work import in_stack

pytestmark = MARKS

ARRIVES = """
from tenants.accounts.models import Tenant
from tenants.datasets.models import Asset
from tenants.retrieval import saved, standing, standing_matching
from tenants.scope import tenant_scope
with tenant_scope(Tenant.objects.get(slug="{slug}").pk):
    query = standing.StandingQuery.objects.filter(name="{name}").first()
    if query is None:
        prepared = standing.Prepared({{"modalities": ["image"]}})
        query = standing.create_standing(who=saved.Who("key:x"), name="{name}", prepared=prepared, muted=True)
    seen = standing.StandingAlert.objects.filter(standing_query=query).values("asset")
    asset = Asset.objects.filter(status="ready", modality="image").exclude(pk__in=seen).first()
    standing.StandingAlert.objects.create(standing_query=query, asset=asset)
    standing.tell_listeners()
"""


def test_an_alert_appears_on_an_open_page(signed_in: Page, stack: Any) -> None:
    page, name = signed_in, f"Pictures {secrets.token_hex(3)}"
    code = ARRIVES.format(slug=stack.demo["tenants"][0]["slug"], name=name)
    badge = page.locator(".nav-main [data-alert-count] .count-badge")
    page.goto("/usage")
    in_stack(stack, code)
    expect(badge).to_contain_text("unread")
    page.goto("/alerts?unread=1")
    shown = page.locator(".arrival", has_text=name)
    expect(shown).to_have_count(1)
    in_stack(stack, code)
    expect(shown).to_have_count(2)
    shown.first.get_by_role("button", name="Mark as read").click()
    expect(shown).to_have_count(1)
    page.set_viewport_size({"width": 360, "height": 740})
    for address in ("/alerts", "/alerts/queries"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto("/alerts/queries")
    row = page.locator("tr", has_text=name)
    row.get_by_text("Change").click()
    # A key made it, and an owner of the workspace deletes it.
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("The standing query and its alerts were deleted.")).to_be_visible()
