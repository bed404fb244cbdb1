"""What tests in a real browser share."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.flows.pictures import jpeg

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
SPOKEN = Path(__file__).resolve().parents[2] / "platform/standalone/demo_data/spoken/yellow-bananas.wav"
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
    *("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
    f"--use-file-for-fake-audio-capture={SPOKEN}",
]
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)

MARKS = [
    pytest.mark.browser,
    pytest.mark.stack,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium"),
]


def picture(seed: int) -> dict[str, Any]:
    return {"name": f"picture-{seed}.jpg", "mimeType": "image/jpeg", "buffer": jpeg(seed)}


def new_dataset(page: Page, name: str) -> None:
    page.goto("/datasets")
    page.get_by_role("button", name=re.compile("New dataset|Create the first one")).first.click()
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()


def delete_dataset(page: Page, name: str) -> None:
    page.get_by_role("button", name="Delete").first.click()
    confirm = page.locator("#delete-dataset [type=submit]")
    expect(confirm).to_be_disabled()
    page.get_by_label(re.compile("to confirm")).fill(name)
    confirm.click()
    expect(page.get_by_text("being erased in the background")).to_be_visible()
