"""In a real browser: the editor of policies under the strict policy, the slider of the evidence viewer, a job's log."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.console.browsing import MARKS, delete_dataset, new_dataset, write_policy

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

pytestmark = MARKS
ROOT = Path(__file__).resolve().parents[2]
SHOTS = os.environ.get("SHOTS", "")


def shoot(page: Page, name: str) -> None:
    """Pictures for whoever looks at the pages; only where SHOTS names a folder."""
    if not SHOTS:
        return
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=f"{SHOTS}/{name}-{scheme}.png", full_page=True)
    page.emulate_media(color_scheme="light")
    before = page.viewport_size
    page.set_viewport_size({"width": 390, "height": 844})
    page.screenshot(path=f"{SHOTS}/{name}-phone.png", full_page=True)
    page.set_viewport_size(before or {"width": 1280, "height": 720})


def in_stack(stack: Any, code: str) -> str:
    """Run Python beside the stack, as `manage.py shell` does."""
    env = {**os.environ, **stack.env, "DATA_DIR": str(stack.data_dir)}
    command = [sys.executable, "manage.py", "shell", "-v0", "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


@pytest.fixture
def editing(signed_in: Page) -> Page:
    """The editor of a new, empty policy."""
    page = signed_in
    page.goto("/policies")
    page.get_by_role("button", name="New policy").click()
    page.get_by_label("Name").fill(f"Edited {secrets.token_hex(3)}")
    page.get_by_role("button", name="Create", exact=True).click()
    page.get_by_role("link", name="Write as JSON and CEL").click()
    expect(page.get_by_role("textbox", name="Document (JSON)")).to_be_visible()
    return page


def rules(when: str) -> str:
    return json.dumps({"rules": [{"id": "a", "when": when, "then": "review", "reason": "r"}]}, indent=2)


def test_the_editor_marks_an_error_at_its_line_and_saves(editing: Page) -> None:
    page = editing
    expect(page.locator(".cm-editor")).to_be_visible()
    # Its styles have come in, past a policy that refuses inline ones.
    expect(page.locator(".cm-gutters")).to_have_css("position", "sticky")
    write_policy(page, rules("categories.abuse.scre > 0.5"))
    summary = page.locator("[data-editor-problems]")
    expect(summary).to_contain_text("1 error")
    expect(summary).to_contain_text("Line 5")
    wrong = page.locator(".cm-lintRange-error")
    expect(wrong).to_contain_text("scre")
    assert "scre" in wrong.first.inner_text()
    shoot(page, "editor-error")
    write_policy(page, rules("categories.abuse.score > 0.5"))
    expect(page.locator(".cm-lintRange-error")).to_have_count(0)
    expect(summary).not_to_contain_text("error")
    page.get_by_role("button", name="Save as a new version").click()
    expect(page.get_by_text("Saved as version 2.")).to_be_visible()
    expect(page.locator("code", has_text="categories.abuse.score > 0.5").first).to_be_visible()


def accept(page: Page) -> None:
    """Not at once: for a moment after a list has opened, Enter is still a new line (CodeMirror, interactionDelay)."""
    page.wait_for_timeout(300)
    page.keyboard.press("Enter")


def test_variables_are_offered_and_described_by_the_keyboard_alone(editing: Page) -> None:
    page = editing
    editor = page.get_by_role("textbox", name="Document (JSON)")
    write_policy(page, '{"rules": [{"id": "a", "then": "block", "reason": "r", "when": "categories.abu"}]}')
    page.keyboard.press("Control+End")
    for _ in range(len('"}]}')):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Control+Space")
    offered = page.get_by_role("listbox", name="Completions")
    expect(offered.get_by_role("option", name=re.compile("^abuse"))).to_be_visible()
    shoot(page, "editor-completion")
    accept(page)
    page.keyboard.type(".fla")
    expect(page.locator(".cm-completionInfo")).to_contain_text("reached the policy's threshold")
    accept(page)
    expect(editor).to_contain_text("categories.abuse.flagged")
    assert "categories.abuse.flagged" in page.locator("textarea[name=document]").input_value()


def test_a_rule_is_tried_on_a_past_audit(editing: Page) -> None:
    page = editing
    address = page.url
    page.goto("/audits")
    if page.locator("#ask").get_attribute("open") is None:
        page.get_by_role("heading", name="Audit something").click()
    page.get_by_label("Text").fill(f"A kettle, {secrets.token_hex(4)}")
    page.get_by_role("button", name="Audit it").click()
    expect(page.get_by_role("heading", name="Decision")).to_be_visible(timeout=90_000)
    page.goto(address)
    write_policy(page, rules("item.modality == 'text'"))
    page.get_by_role("button", name="Try it").click()
    tried = page.locator("#tried")
    expect(tried.get_by_text("matches", exact=True)).to_be_visible()
    expect(tried).to_contain_text("item.modality = text")
    expect(page).to_have_url(address)
    shoot(page, "editor-tried")


def forged() -> dict[str, Any]:
    """A picture with a region of itself copied."""
    pytest.importorskip("cv2")
    from tests.ml.test_copy_move import copied, photo

    file = io.BytesIO()
    Image.fromarray(copied(photo(secrets.randbelow(10_000)))).save(file, "PNG")
    return {"name": "forged.png", "mimeType": "image/png", "buffer": file.getvalue()}


def test_what_was_marked_is_blended_over_the_picture_by_the_keyboard(signed_in: Page) -> None:
    page = signed_in
    name = f"Marked {secrets.token_hex(3)}"
    new_dataset(page, name)
    address = page.url
    page.locator("[type=file]").first.set_input_files([forged()])
    page.locator(".tile a").first.click(timeout=90_000)
    page.get_by_role("button", name="Audit", exact=True).click()
    expect(page.get_by_role("heading", name="Where it was found")).to_be_visible(timeout=120_000)
    slider = page.get_by_role("slider", name=re.compile("copy-move marked"))
    mask = page.locator("[data-mask]").first
    expect(mask).to_have_css("opacity", "0.6")
    slider.focus()
    page.keyboard.press("Home")
    expect(mask).to_have_css("opacity", "0")
    page.keyboard.press("ArrowRight")
    expect(mask).to_have_css("opacity", "0.05")
    page.keyboard.press("End")
    expect(mask).to_have_css("opacity", "1")
    # What is under the mask is not veiled while the slider has the focus.
    expect(page.locator("[data-overlay]")).to_have_css("filter", "none")
    shoot(page, "evidence-picture")
    page.goto(address)
    delete_dataset(page, name)


JOB = """
from tenants.accounts.models import Tenant
from tenants.jobs.models import Job
from tenants.jobs import job_log
from tenants.scope import tenant_scope
import datetime as dt
from django.utils import timezone
tenant = Tenant.objects.get(slug="grocery")
with tenant_scope(tenant.id):
    {do}
"""
MAKE = """late = timezone.now() + dt.timedelta(hours=1)
    running = dict(state="running", started_at=timezone.now(), lease_until=late)
    job = Job.objects.create(kind="build_index", progress_total=10, **running)
    job_log.add(job.id, "The first line")
    print(job.id)"""


def test_the_log_of_a_job_grows_while_one_looks(signed_in: Page, stack: Any) -> None:
    page = signed_in
    job = in_stack(stack, JOB.format(do=MAKE))
    page.goto(f"/jobs/{job}")
    log = page.locator("#job-log")
    expect(log.get_by_text("The first line")).to_be_visible()
    expect(page.locator("[data-live-state]")).to_have_text("Live")
    in_stack(stack, JOB.format(do=f'job_log.add("{job}", "The second line", "warning")'))
    expect(log.get_by_text("The second line")).to_be_visible()
    expect(log.locator("li")).to_have_count(2)
    shoot(page, "job")
    # The connection breaks and comes back: what was written meanwhile is there, once.
    page.context.set_offline(True)
    in_stack(stack, JOB.format(do=f'job_log.add("{job}", "Written in between")'))
    page.context.set_offline(False)
    expect(log.get_by_text("Written in between")).to_be_visible()
    expect(log.locator("li")).to_have_count(3)
    page.complaints.clear()
    in_stack(
        stack,
        JOB.format(
            do=f'Job.objects.filter(pk="{job}").update(state="cancelled", finished_at=timezone.now())'
        ),
    )
    expect(page.locator(".status-cancelled").first).to_be_visible()


MAKE_SOME = """late = timezone.now() + dt.timedelta(hours=1)
    running = dict(state="running", started_at=timezone.now(), lease_until=late)
    runs = Job.objects.create(kind="build_index", progress_total=10, **running)
    broken = dict(state="failed", finished_at=timezone.now(), error={"type": "t", "detail": "It broke."})
    made = [Job.objects.create(kind="forget_scores", arguments={"versions": []}, **broken) for _ in range(2)]
    print(runs.id, *(job.id for job in made))"""


def test_ticked_jobs_stay_ticked_while_the_list_moves_and_are_tried_again(
    signed_in: Page, stack: Any
) -> None:
    page = signed_in
    runs, first, second = in_stack(stack, JOB.format(do=MAKE_SOME)).split()
    page.goto("/jobs")
    again = page.get_by_role("button", name="Try again")
    expect(again).to_be_disabled()
    page.locator(f"#tick-{first}").check()
    page.locator(f"#tick-{second}").check()
    expect(page.locator("[data-ticked]")).to_have_text("2 chosen")
    in_stack(stack, JOB.format(do=f'Job.objects.filter(pk="{runs}").update(progress_done=7)'))
    expect(page.get_by_text("7 of 10")).to_be_visible()
    for job in (first, second):
        expect(page.locator(f"#tick-{job}")).to_be_checked()
    # What was tried again elsewhere meanwhile is not ticked any more once it has nothing to be done to.
    end = f'Job.objects.filter(pk="{second}").update(state="succeeded", error=None)'
    in_stack(stack, JOB.format(do=end))
    expect(page.locator(f"#tick-{second}")).to_have_count(0)
    expect(page.locator("[data-ticked]")).to_have_text("1 chosen")
    again.click()
    expect(page.get_by_role("heading", name="Try 1 job again?")).to_be_visible()
    page.get_by_role("button", name="Try 1 job again").click()
    expect(page.get_by_text("1 job is queued again.")).to_be_visible()
    end = f'Job.objects.filter(pk="{runs}").update(state="cancelled", finished_at=timezone.now())'
    in_stack(stack, JOB.format(do=end))


@pytest.mark.parametrize("address", ["/usage", "/jobs", "/jobs/bulk", "/origins"])
def test_no_page_of_work_is_wider_than_a_phone(signed_in: Page, address: str) -> None:
    signed_in.goto(address)
    signed_in.wait_for_load_state("networkidle")
    shoot(signed_in, address.strip("/").replace("/", "-"))
    signed_in.set_viewport_size({"width": 360, "height": 740})
    signed_in.goto(address)
    signed_in.wait_for_load_state("networkidle")
    assert signed_in.evaluate("document.documentElement.scrollWidth") <= 360
