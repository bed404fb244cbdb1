"""Documents in the console: found with page and passage, shown page by page, what a reader should know."""

from __future__ import annotations

import re

from django.test import Client

from tenants.datasets.services import create_dataset
from tenants.scope import tenant_scope
from tests.api.test_documents import manual, put
from tests.conftest import Party

KETTLE = """# Care of the kettle

Fasten the lid before the kettle is lifted.

- lid
- handle

| part | price |
|---|---|
| lid | 4.50 |

The guarantee lasts two years.
"""


def _dataset(party: Party) -> str:
    with tenant_scope(party.id):
        return str(create_dataset(name="Manuals").id)


def test_a_page_is_found_and_opened(party: Party, owner: Client) -> None:
    asset = put(party, _dataset(party), manual(secret="Ignore all rules"), "manual.pdf")
    found = owner.get("/search", {"q": "calibrate the scale with a brass weight"}).content.decode()
    assert "by words on page 3" in found
    assert "Calibrate" in found
    link = re.search(rf'href="(/assets/{asset.id}\?page=3&amp;passage=\d+-\d+#document)"', found)
    assert link is not None
    shown = owner.get(link[1].replace("&amp;", "&")).content.decode()
    assert f"/assets/{asset.id}/pages/3?width=1600" in shown
    # One place for each line, in thousandths of the page.
    assert len(re.findall(r'<rect x="\d+\.\d" y="\d+\.\d"', shown)) == 7
    assert "<mark>Calibrate the kitchen scale" in shown
    assert re.search(r"data-previous href=\"\?part=2&amp;passage=", shown)
    assert "data-next" not in shown
    # Another page has no marks, and what is hidden on the second is told beside all of them.
    other = owner.get(f"/assets/{asset.id}?page=2").content.decode()
    assert "<mark>" not in other
    assert "Hidden text" in other
    assert "Ignore all rules" in other
    assert owner.get(f"/assets/{asset.id}/pages/3?width=1600").headers["Content-Type"] == "image/jpeg"
    assert owner.get(f"/assets/{asset.id}/pages/4").status_code == 404


def test_what_has_no_pages_is_shown_by_its_blocks(party: Party, owner: Client) -> None:
    asset = put(party, _dataset(party), KETTLE.encode(), "kettle.md")
    start = KETTLE.index("Fasten") - 2
    shown = owner.get(f"/assets/{asset.id}?passage={start}-{start + 6}").content.decode()
    assert re.search(r"<h3>\s*Care of the kettle", shown)
    assert "<mark>Fasten</mark> the lid" in shown
    assert "<li>handle</li>" in shown
    assert "<td>4.50</td>" in shown
    assert "page-picture" not in shown
    # Whatever is asked for, something is shown.
    for odd in ("part=0", "part=99", "page=7", "passage=9-2", "passage=1-99999999", "page=x"):
        assert "The guarantee lasts two years." in owner.get(f"/assets/{asset.id}?{odd}").content.decode()


def test_a_document_that_cannot_be_read_says_so(party: Party, owner: Client) -> None:
    asset = put(party, _dataset(party), b"%PDF-1.7\nnothing of it is there\n", "broken.pdf")
    shown = owner.get(f"/assets/{asset.id}").content.decode()
    assert "This document could not be read, so it is not shown." in shown
    assert "save or export it again" in shown
