"""The page on which anybody has a file checked: without an account, without a script, in two languages."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from django.conf import settings as configured
from django.test import Client

from tenants.long_requests import CHECKING
from tests.api.conftest import picture
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.tenants.made_files import MARK, PROMPT, bomb, made, saved_again

IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-")


@pytest.fixture
def anybody(fresh_address: str) -> Client:
    return Client(REMOTE_ADDR=fresh_address)


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    before = set(configured.SPOOL_DIR.iterdir())
    yield
    assert set(configured.SPOOL_DIR.iterdir()) <= before


def check(http: Client, content: bytes | None, **headers: str) -> Any:
    files = {} if content is None else {"file": named(content)}
    return http.post("/check", files, headers=headers)


def named(content: bytes, name: str = "very-private-name.png") -> io.BytesIO:
    file = io.BytesIO(content)
    file.name = name
    return file


class Words(HTMLParser):
    """What a page shows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.shown: list[str] = []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.shown.append(data)


def words(answer: Any) -> str:
    return " ".join(" ".join(Words(answer.content.decode()).shown).split())


def test_anybody_opens_it_and_the_policy_holds(anybody: Client) -> None:
    answer = anybody.get("/check")
    html = answer.content.decode()
    assert answer.status_code == 200
    assert faults_of(html) == []
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
    # It works without a script: there is none.
    assert "<script" not in html
    assert 'enctype="multipart/form-data"' in html
    assert '<label class="form-label" for="check-file">File</label>' in html
    assert 'id="check-file" name="file" required' in html
    assert "At most 64 MiB" in html


def test_the_sign_in_page_leads_to_it_where_there_is_one(anybody: Client, settings: Any) -> None:
    assert 'href="/check"' in anybody.get("/login").content.decode()
    settings.PUBLIC_CHECK = False
    assert 'href="/check"' not in anybody.get("/login").content.decode()
    assert anybody.get("/check").status_code == 404
    assert check(anybody, picture()).status_code == 404


def test_what_was_made_here(anybody: Client, party: Party) -> None:
    content = made(party.tenant, "image")
    answer = check(anybody, content)
    shown, html = words(answer), answer.content.decode()
    assert answer.status_code == 200
    assert faults_of(html) == []
    for text in (
        "Yes, it was made here",
        "It holds signed content credentials of this installation and is unchanged since.",
        "Its picture carries the invisible mark of this installation.",
        "Kind Picture Model Test drawing Month",
        "How Drawn by a trained model",
        "c2pa.actions.v2 c2pa.created, trainedAlgorithmicMedia",
    ):
        assert text in shown, text
    for secret in (PROMPT, str(party.id), party.tenant.slug, f"{MARK:08x}", "very-private-name"):
        assert secret not in html, secret
    assert not IDS.search(html)
    # Of the mark alone nothing is known but that it is ours.
    left = words(check(anybody, saved_again(content)))
    assert "Yes, it was made here" in left
    assert "Test drawing" not in left


def test_no_sign_is_called_no_proof(anybody: Client) -> None:
    shown = words(check(anybody, picture(size=(300, 200))))
    assert "No sign found" in shown
    assert "That does not prove that it was made elsewhere, or by people" in shown


def test_in_chinese(anybody: Client, party: Party) -> None:
    shown = words(check(anybody, made(party.tenant, "image"), **{"Accept-Language": "zh-CN"}))
    assert "核验文件" in shown
    assert "是，由本系统生成" in shown
    refused = words(check(anybody, None, **{"Accept-Language": "zh-CN"}))
    assert "请先选择文件。" in refused


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (None, 422, "Choose a file first."),
        (b"", 422, "The file is empty. Choose another one."),
        (b"only words", 415, "This is no picture, clip or sound that can be checked. Send JPEG"),
        (
            picture()[:60],
            422,
            "This file is damaged or incomplete, and cannot be opened. Send the file as you got it.",
        ),
        (bomb(), 413, "What is in this file is too large to be opened here. Send a smaller copy of it."),
        (bytes(2**20 + 1), 413, "A file may have 1 MiB here. Send a smaller or shorter one."),
        (bytes(6 * 2**20), 413, "A file may have 1 MiB here. Send a smaller or shorter one."),
    ],
    ids=["none", "empty", "text", "damaged", "bomb", "large", "announced"],
)
def test_what_cannot_be_checked(
    content: bytes | None, status: int, says: str, anybody: Client, settings: Any
) -> None:
    settings.PUBLIC_CHECK_BYTES = 2**20
    answer = check(anybody, content)
    html = answer.content.decode()
    assert (answer.status_code, faults_of(html)) == (status, [])
    assert says in words(answer)
    # The form is there to try again, and knows what was wrong.
    assert 'aria-describedby="check-hint problem"' in html


def test_several_files_another_field_and_a_broken_form(anybody: Client) -> None:
    two = anybody.post("/check", {"file": [named(picture()), named(picture())]})
    assert (two.status_code, "Choose one file" in words(two)) == (422, True)
    other = anybody.post("/check", {"picture": named(picture())})
    assert (other.status_code, "Choose one file" in words(other)) == (422, True)
    broken = anybody.generic("POST", "/check", b"no form", "multipart/form-data")
    assert broken.status_code == 422
    assert "Reload the page and send one file." in words(broken)


def test_a_form_without_its_token_is_refused_before_the_file_is_looked_at(fresh_address: str) -> None:
    strict = Client(enforce_csrf_checks=True, REMOTE_ADDR=fresh_address)
    answer = check(strict, picture())
    assert answer.status_code == 403
    assert "This form has expired" in answer.content.decode()
    form = strict.get("/check").content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    assert token is not None
    sent = {"csrfmiddlewaretoken": token.group(1), "file": named(picture(size=(300, 200)))}
    assert strict.post("/check", sent).status_code == 200


def test_too_often(anybody: Client, settings: Any) -> None:
    settings.PUBLIC_CHECK_RATE = 2
    assert [check(anybody, None).status_code for _ in range(2)] == [422, 422]
    answer = check(anybody, picture())
    assert answer.status_code == 429
    wait = int(answer.headers["Retry-After"])
    assert 1 <= wait <= 60
    assert f"Your network has checked as many files as it may in a minute. Wait {wait} second" in words(
        answer
    )
    # Program and page have one count; the page itself may be opened.
    assert anybody.post("/api/v1/check", {"file": named(picture())}).status_code == 429
    assert anybody.get("/check").status_code == 200


def test_while_others_are_checked(anybody: Client) -> None:
    taken = [True for _ in range(10) if CHECKING.take()]
    try:
        answer = check(anybody, picture())
    finally:
        for _ in taken:
            CHECKING.give_back()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "Other files are being checked; try again in some seconds." in words(answer)


def test_who_is_signed_in_sees_the_same(owner: Client, anybody: Client) -> None:
    def plain(html: str) -> str:
        return re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", html)

    assert plain(owner.get("/check").content.decode()) == plain(anybody.get("/check").content.decode())
