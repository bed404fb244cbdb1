"""The search of a form as a call of the API: run as it is shown, by a shell and by Python."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.http import QueryDict
from django.test import Client
from django.utils.datastructures import MultiValueDict

from api.parsers import Form
from api.search.forms import SearchBody
from api.search.views import build_query
from console.search import snippets
from console.search.forms import read_filter, read_query
from console.search.refinements import read_refinements
from tenants.retrieval.query.searcher import Query

#: The same in each process that collects these tests.
ONE, TWO = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
URL = "http://localhost/api/v1/search"
ODD = """it's "tea" $HOME `id` \\ 茶 @x ${CROSSLIGHT_KEY} {7}"""


def made(query: Query, *filters: Any, words: str = "") -> snippets.Snippets:
    merged = snippets.merge(filters)
    assert merged is not None
    body = snippets.body_of(query, words or query.text, merged)
    return snippets.snippets_of(url=URL, body=body, with_file=query.image is not None)


def run_curl(code: str, folder: Path) -> list[str]:
    """The arguments that the shell gives to curl."""
    fake = folder / "curl"
    fake.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    fake.chmod(0o755)
    env = {"PATH": f"{folder}:/usr/bin:/bin", "CROSSLIGHT_KEY": "cl1.secret"}
    return json.loads(subprocess.run(["sh", "-c", code], env=env, capture_output=True, check=True).stdout)


def run_python(code: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the program hands to `requests`."""
    import requests

    seen: dict[str, Any] = {}

    class Answered:
        def raise_for_status(self) -> None:
            pass

        def json(self) -> dict[str, Any]:
            return {"results": []}

    def post(url: str, **given: Any) -> Answered:
        seen.update(given, url=url)
        return Answered()

    monkeypatch.setattr(requests, "post", post)
    monkeypatch.setenv("CROSSLIGHT_KEY", "cl1.secret")
    exec(compile(code, "snippet", "exec"), {})
    return seen


def test_curl_and_python_send_the_same_body_whatever_the_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = Query(text=ODD, unlike=[uuid.UUID(ONE)], unlike_text=ODD, hybrid=True, top_k=24)
    code = made(query, {"price": {"lt": 3.5}}, {"fresh": {"eq": True}})
    arguments = run_curl(code.curl, tmp_path)
    body = json.loads(arguments[arguments.index("--data-raw") + 1])
    assert body == {
        "text": ODD,
        "unlike": {"assets": [ONE], "text": ODD},
        "filter": {"price": {"lt": 3.5}, "fresh": {"eq": True}},
        "hybrid": True,
        "top_k": 24,
    }
    assert arguments[:3] == ["-sS", URL, "-H"]
    assert "Authorization: Bearer cl1.secret" in arguments
    sent = run_python(code.python, monkeypatch)
    assert (sent["json"], sent["url"]) == (body, URL)
    assert sent["headers"] == {"Authorization": "Bearer cl1.secret"}


def test_an_uploaded_picture_goes_in_a_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query = Query(text="@tea", image=Path("/tmp/x"), weights={"text": 0.7, "image": 0.3}, top_k=24)
    code = made(query)
    assert code.with_file
    arguments = run_curl(code.curl, tmp_path)
    fields = [arguments[at + 1] for at, one in enumerate(arguments) if one == "--form-string"]
    assert fields == ["text=@tea", 'weights={"text": 0.7, "image": 0.3}', "top_k=24"]
    assert arguments[-2:] == ["--form", "image=@picture.jpg"]
    (tmp_path / "picture.jpg").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    sent = run_python(code.python, monkeypatch)
    assert sent["data"] == {"text": "@tea", "weights": '{"text": 0.7, "image": 0.3}', "top_k": "24"}
    assert list(sent["files"]) == ["image"]


FORMS = [
    "text=tea&weigh=on&weight_text=70&weight_image=30&image_asset=" + ONE,
    f"like={ONE}&unlike={TWO}&unlike_text=coffee&group=duplicates&task=ecommerce",
    f"text=tea&dataset={ONE}&modality=image&modality=text&hybrid=on",
    "text=tea&weak=on",
    'text=tea&key=price&operator=lt&value=3&key=colour&operator=in&value=red,blue&only={"size": {"eq": 2}}',
]


@pytest.mark.parametrize("form", FORMS)
def test_the_api_reads_the_query_that_the_console_asked(form: str) -> None:
    given, schema = QueryDict(form), {"price": "number"}
    refined = read_refinements(given)
    query = read_query(given, MultiValueDict(), schema, refined)
    merged = snippets.merge([read_filter(given, schema), *refined.filters()])
    assert merged is not None
    body = snippets.body_of(query, query.text, merged)
    read = build_query(SearchBody.read(json.loads(json.dumps(body))), Form({}, {}))
    # What only the console shows.
    query.explain = query.highlight = False
    query.facets = []
    # Told as a number once the answer says which.
    query.worth_showing = False
    assert read == query


def test_two_filters_that_one_call_cannot_ask_for() -> None:
    lower = {"price": {"gte": 1}}
    assert snippets.merge([lower, {"price": {"lt": 3}}, {}]) == {"price": {"gte": 1, "lt": 3}}
    assert snippets.merge([lower, lower]) == lower
    assert snippets.merge([lower, {"price": {"gte": 2}}]) is None


def test_the_page_shows_the_code_of_what_was_asked(owner: Client) -> None:
    page = owner.get("/search", {"q": "tea"}).content.decode()
    [shown] = re.findall(r'id="code-python">(.*?)</pre>', page, re.DOTALL)
    assert "'text': 'tea'" in html.unescape(shown)
    assert "http://testserver/api/v1/search" in shown
    [link] = re.findall(r'id="search-link">(.*?)</code>', page)
    assert link == "http://testserver/search?q=tea"
