"""Imports, large uploads and recordings in a real browser against the running stack."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, Route, expect

from tests.console.browsing import MARKS, SPOKEN, becomes, delete_dataset, new_dataset

pytestmark = MARKS

TABLE = "sku,title,price\n1,copper kettle,12\n2,iron kettle,9\n3,,1\n2,clay kettle,8\n"
MIB = 1 << 20


@pytest.fixture
def dataset(signed_in: Page, request: pytest.FixtureRequest) -> Any:
    """The page of a new dataset, which is deleted afterwards."""
    name = f"browser {request.node.name}"
    new_dataset(signed_in, name)
    address = signed_in.url
    yield signed_in
    signed_in.goto(address)
    delete_dataset(signed_in, name)


def csv(content: str, name: str = "kettles.csv") -> dict[str, Any]:
    return {"name": name, "mimeType": "text/csv", "buffer": content.encode()}


def test_a_table_is_looked_at_mapped_imported_and_receipted(dataset: Page) -> None:
    page = dataset
    page.set_input_files("#upload-form [type=file] >> nth=0", [csv(TABLE)])
    start = page.get_by_role("button", name="Start the import")
    expect(start).to_be_visible()
    expect(page.get_by_text("4 rows. Nothing has been imported yet.")).to_be_visible()
    expect(page.get_by_label("title becomes")).to_have_value("text")
    key = page.get_by_label("Key of price")
    key.fill("cost")
    expect(page.get_by_label("Key of title")).to_be_hidden()
    page.get_by_role("button", name="Preview again").click()
    expect(page.get_by_text("cost 12")).to_be_visible()
    start.click()
    expect(page.locator("section .status-succeeded")).to_be_visible()
    expect(page.get_by_text("4 of 4 rows done.")).to_be_visible()
    page.get_by_role("link", name="Failed 2").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.get_by_text("The row has neither a text nor a file.")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Receipt as CSV").click()
    rows = Path(download.value.path()).read_text().splitlines()
    # With the table's own columns: mended, it can be imported again.
    assert rows[0] == "\ufeffimport_line,import_reason,sku,title,price"
    assert [row.split(",")[0] for row in rows[1:]] == ["line 4", "line 5"]
    page.get_by_role("link", name="All 4").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Failed rows as CSV").click()
    assert Path(download.value.path()).read_text().splitlines() == rows
    page.get_by_role("link", name="Imports").first.click()
    expect(page.get_by_role("row").filter(has_text="kettles.csv")).to_contain_text("succeeded")


def large(folder: Path) -> Path:
    """A table of 24 MiB: three parts."""
    path = folder / "large.csv"
    path.write_text("title\n" + ("a kettle " * 8 + "\n") * (24 * MIB // 73))
    return path


def test_a_large_file_goes_on_after_a_reload(dataset: Page, tmp_path: Path) -> None:
    page, path = dataset, large(tmp_path)
    address, offsets = page.url, []

    def second_part_waits(route: Route) -> None:
        offset = int(route.request.headers["upload-offset"])
        offsets.append(offset)
        if offset == 0 or len(offsets) > 2:
            route.continue_()

    page.route(re.compile(r"/uploads/.+"), second_part_waits, times=2)
    # Paused once the first part is there: progress alone says only that it was sent.
    with page.expect_request(lambda r: r.headers.get("upload-offset") == str(8 * MIB)):
        page.set_input_files("#upload-form [type=file] >> nth=0", path)
    row = page.locator("#uploads li")
    expect(row).to_contain_text("Sending 33 %")
    page.get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("Paused")
    page.once("dialog", lambda dialog: dialog.accept())
    page.goto(address)
    expect(page.get_by_text("Not sent to its end: large.csv.")).to_be_visible()
    page.unroute_all()
    sent: list[int] = []
    page.on(
        "request",
        lambda r: sent.append(int(r.headers["upload-offset"])) if r.method == "PATCH" else None,
    )
    page.set_input_files("#upload-form [type=file] >> nth=0", path)
    expect(page.get_by_role("button", name="Start the import")).to_be_visible()
    assert sent == [8 * MIB, 16 * MIB]
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_text("The import was removed.")).to_be_visible()


def test_a_recording_plays_from_the_words_that_were_found(dataset: Page) -> None:
    page = dataset
    page.set_input_files("#upload-form [type=file] >> nth=0", [str(SPOKEN)])
    expect(page.locator("#uploads [data-state=done]")).to_have_count(1)
    page.locator("#tiles .tile a").click()
    media = page.locator("audio")
    expect(media).to_be_visible()
    expect(page.locator("[data-waveform] path")).to_have_attribute("d", re.compile("^M0 "))
    line = page.locator("[data-seek]").first
    expect(line).to_contain_text(re.compile("banana", re.IGNORECASE))
    line.click()
    expect(line).to_have_attribute("aria-current", "true")
    assert media.evaluate("element => element.readyState") > 0
    page.goto(f"{page.url}?t=1.5")
    becomes(page, "document.querySelector('audio').currentTime >= 1.4")


def test_a_folder_is_uploaded_without_what_systems_hide(dataset: Page, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    (folder / "inner").mkdir(parents=True)
    for name in ("one.txt", "inner/two.txt", ".DS_Store"):
        (folder / name).write_text(f"a note in {name}")
    dataset.set_input_files("#upload-form [webkitdirectory]", folder)
    expect(dataset.locator("#uploads [data-state=done]")).to_have_count(2)
    expect(dataset.locator("#uploads")).to_contain_text("notes/inner/two.txt")


@pytest.mark.parametrize("width", [360])
def test_import_pages_fit_a_phone(dataset: Page, width: int) -> None:
    page = dataset
    page.set_viewport_size({"width": width, "height": 740})
    page.set_input_files("#upload-form [type=file] >> nth=0", [csv(TABLE)])
    expect(page.get_by_role("button", name="Start the import")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Start the import").click()
    expect(page.locator("section .status-succeeded")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.set_viewport_size({"width": 1280, "height": 740})
