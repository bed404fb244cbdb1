"""What tests in a real browser share."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psycopg2
import pytest
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.db import connection
from django.test.testcases import LiveServerThread

from tests.flows.pictures import jpeg

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from tests.waiting import FACTOR

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
SPOKEN = Path(__file__).resolve().parents[2] / "platform/standalone/demo_data/spoken/yellow-bananas.wav"
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
    *("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
    f"--use-file-for-fake-audio-capture={SPOKEN}",
]
PATIENCE_MS = 30_000 * FACTOR
Result = TypeVar("Result")
expect.set_options(timeout=PATIENCE_MS)

MARKS = [
    pytest.mark.browser,
    pytest.mark.stack,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium"),
]


@contextmanager
def serving_here(settings: Any) -> Iterator[str]:
    """The address of a server in this process, for what needs no worker and a host that is a name."""
    server = LiveServerThread("localhost", StaticFilesHandler)
    server.daemon = True
    server.start()
    server.is_ready.wait()
    assert server.error is None
    settings.BASE_URL = f"http://localhost:{server.port}"
    try:
        yield settings.BASE_URL
    finally:
        server.terminate()


def aside(work: Callable[[], Result]) -> Result:
    """In a thread of its own: while Playwright runs, its event loop is this thread's."""

    def closing() -> Result:
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(closing).result()


def picture(seed: int) -> dict[str, Any]:
    return {"name": f"picture-{seed}.jpg", "mimeType": "image/jpeg", "buffer": jpeg(seed)}


def new_dataset(page: Page, name: str) -> None:
    page.goto("/datasets")
    page.get_by_role("button", name=re.compile("New dataset|Create the first one")).first.click()
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()


def delete_dataset(page: Page, name: str) -> None:
    # While something is processed the page asks for its counts, which are not found once the dataset is gone.
    expect(page.locator("#asset-tabs[hx-trigger*='every']")).to_have_count(0)
    page.get_by_role("button", name="Delete").first.click()
    confirm = page.locator("#delete-dataset [type=submit]")
    expect(confirm).to_be_disabled()
    page.get_by_label(re.compile("to confirm")).fill(name)
    confirm.click()
    expect(page.get_by_text("being erased in the background")).to_be_visible()


def write_policy(page: Page, text: str) -> None:
    """Put a document into the editor by keys, as a person does: filling in over coloured text is another way."""
    expect(page.locator(".cm-editor")).to_be_visible()
    page.get_by_role("textbox", name="Document (JSON)").click()
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.keyboard.insert_text(text)


def becomes(page: Page, expression: str, given: object = None) -> None:
    """Wait until a JavaScript expression is true.

    Not `wait_for_function`: what it asks later than at once is an `eval`, which the console's security policy blocks.
    """
    end = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(expression, given):
        assert time.monotonic() < end, f"not within {PATIENCE_MS} ms: {expression}"
        page.wait_for_timeout(50)


def held(stack: Any, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Rows of a running stack's database, of whatever tenant: read as the superuser of the embedded server."""
    password = json.loads((stack.data_dir / "secrets.json").read_text())["superuser_password"]
    where = urlsplit(stack.env["MIGRATION_DATABASE_URL"])
    server = {"host": where.hostname, "port": where.port, "dbname": where.path[1:]}
    with psycopg2.connect(user="crosslight_admin", password=password, **server) as connection:
        cursor = connection.cursor()
        cursor.execute(sql, values)
        rows = cursor.fetchall()
    connection.close()
    return rows
