"""What cannot be read or used is refused with the place named, and never with a 5xx."""

from __future__ import annotations

import errno
import io
import json
import os
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.core.files import uploadedfile
from django.db import OperationalError

from tenants.datasets import selectors
from tenants.errors import TooLarge
from tests.api.conftest import Api, picture, refused, upload

VECTOR = [1.0] * 256
DEEP = b"[" * 100_000
ODD = ("\x00", "a\x00b", "\ud800", "\udfff x")

POSTS = ("/datasets", "/keys", "/search")


@pytest.mark.parametrize("path", [*POSTS, "assets"])
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b'{"name": NaN}',
        b'{"a": Infinity}',
        DEEP,
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
)
def test_malformed_json(api: Api, dataset: str, path: str, body: bytes) -> None:
    path = f"/datasets/{dataset}/assets" if path == "assets" else path
    refused(api.call("POST", path, body), 400, "malformed")


@pytest.mark.parametrize("path", [*POSTS, "assets"])
@pytest.mark.parametrize("body", [[], "text", 1, True, None, [{"name": "x"}]])
def test_a_body_is_an_object(api: Api, dataset: str, path: str, body: Any) -> None:
    path = f"/datasets/{dataset}/assets" if path == "assets" else path
    refused(api.call("POST", path, json.dumps(body).encode()), 422, "invalid")


@pytest.mark.parametrize("path", [*POSTS, "assets"])
def test_an_unknown_field_is_named(api: Api, dataset: str, path: str) -> None:
    path = f"/datasets/{dataset}/assets" if path == "assets" else path
    refused(api.post(path, {"colour": 1}), 422, "invalid", "/colour")
    refused(api.post(path, {"\ud800": 1}), 422, "invalid", "/\ud800")


@pytest.mark.parametrize("path", [*POSTS, "assets"])
def test_other_kinds_of_body(api: Api, dataset: str, path: str) -> None:
    path = f"/datasets/{dataset}/assets" if path == "assets" else path
    for kind in ("text/xml", "application/x-www-form-urlencoded", "text/plain"):
        answer = api.call("POST", path, b"name=x", {"Content-Type": kind})
        refused(answer, 415, "unsupported-media-type")


def test_a_json_body_over_the_limit(api: Api) -> None:
    body = b'{"name": "' + b"x" * settings.DATA_UPLOAD_MAX_MEMORY_SIZE + b'"}'
    refused(api.call("POST", "/datasets", body), 413, "too-large")


DATASET_CASES: list[tuple[Any, str]] = [
    ({}, "/name"),
    ({"name": ""}, "/name"),
    ({"name": "   "}, "/name"),
    ({"name": 5}, "/name"),
    ({"name": True}, "/name"),
    ({"name": None}, "/name"),
    ({"name": ["x"]}, "/name"),
    ({"name": "x" * 201}, "/name"),
    *[({"name": odd}, "/name") for odd in ODD],
    *[({"name": "x", "description": odd}, "/description") for odd in ODD],
    ({"name": "x", "description": "x" * 10_001}, "/description"),
    ({"name": "x", "description": 1}, "/description"),
    ({"name": "x", "metadata_schema": []}, "/metadata_schema"),
    ({"name": "x", "metadata_schema": {"a": {"type": "colour"}}}, "/metadata_schema/a"),
    ({"name": "x", "metadata_schema": {"a\x00": {"type": "text"}}}, "/metadata_schema"),
]


@pytest.mark.parametrize(("body", "pointer"), DATASET_CASES)
def test_datasets_refuse(api: Api, body: Any, pointer: str) -> None:
    refused(api.post("/datasets", body), 422, "invalid", pointer)
    assert api.get("/datasets").json()["results"] == []


@pytest.mark.parametrize(("body", "pointer"), [case for case in DATASET_CASES if case[0]])
def test_dataset_changes_refuse(api: Api, dataset: str, body: Any, pointer: str) -> None:
    before = api.get(f"/datasets/{dataset}").json()
    refused(api.call("PATCH", f"/datasets/{dataset}", body), 422, "invalid", pointer)
    assert api.get(f"/datasets/{dataset}").json() == before


def test_a_name_is_taken_once(api: Api, dataset: str) -> None:
    refused(api.post("/datasets", {"name": "things"}), 409, "conflict")


ASSET_CASES: list[tuple[Any, str]] = [
    ({}, "/file"),
    ({"text": ""}, "/file"),
    ({"text": " \n"}, "/file"),
    ({"text": 1}, "/text"),
    ({"text": "x" * 100_001}, "/text"),
    *[({"text": odd}, "/text") for odd in ODD],
    ({"text": "x", "external_id": 1}, "/external_id"),
    ({"text": "x", "external_id": "x" * 201}, "/external_id"),
    *[({"text": "x", "external_id": odd}, "/external_id") for odd in ODD],
    ({"text": "x", "metadata": []}, "/metadata"),
    ({"text": "x", "metadata": "{}"}, "/metadata"),
    ({"text": "x", "metadata": {"a": "\x00"}}, "/metadata/a"),
    ({"text": "x", "metadata": {"\ud800": 1}}, "/metadata"),
    ({"text": "x", "metadata": {"": 1}}, "/metadata"),
    ({"text": "x", "metadata": {"a": 10**400}}, "/metadata/a"),
    ({"text": "x", "metadata": {"a": -(10**309)}}, "/metadata/a"),
    ({"text": "x", "metadata": {str(n): n for n in range(101)}}, "/metadata"),
    ({"text": "x", "file": "x"}, "/file"),
]


@pytest.mark.parametrize(("body", "pointer"), ASSET_CASES)
def test_assets_refuse(api: Api, dataset: str, body: Any, pointer: str) -> None:
    refused(api.post(f"/datasets/{dataset}/assets", body), 422, "invalid", pointer)
    assert api.get(f"/datasets/{dataset}/assets").json()["results"] == []


def test_a_number_beyond_floats_in_json_text(api: Api, dataset: str) -> None:
    answer = api.call("POST", f"/datasets/{dataset}/assets", b'{"text": "x", "metadata": {"a": 1e999}}')
    refused(answer, 422, "invalid", "/metadata/a")


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"caption": 1}, "/caption"),
        ({"caption": "\x00"}, "/caption"),
        ({"caption": "text assets have none"}, "/caption"),
        ({"metadata": None}, "/metadata"),
        ({"metadata": {"a": 10**400}}, "/metadata/a"),
        ({"status": "ready"}, "/status"),
        ({}, ""),
    ],
)
def test_asset_changes_refuse(api: Api, add_text: Callable, changes: Any, pointer: str) -> None:
    asset = add_text("x")["asset"]
    refused(api.call("PATCH", f"/assets/{asset['id']}", changes), 422, "invalid", pointer)
    assert api.get(f"/assets/{asset['id']}").json() == asset


def test_uploads_refuse(api: Api, dataset: str) -> None:
    path = f"/datasets/{dataset}/assets"
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    refused(api.form(path, {"file": upload(svg, "a.png")}), 415, "unsupported-media-type")
    refused(api.form(path, {"file": upload(b"MZ\x90\x00" + bytes(100))}), 415, "unsupported-media-type")
    refused(api.form(path, {"file": upload(b"")}), 422, "invalid", "/file")
    two = {"file": [upload(picture()), upload(picture("blue"))]}
    refused(api.form(path, two), 422, "invalid", "/file")
    refused(api.form(path, {"image": upload(picture())}), 422, "invalid", "/image")
    refused(api.form(path, {"text": ["one", "two"]}), 422, "invalid", "/text")
    refused(api.form(path, {"file": upload(picture()), "metadata": "{"}), 422, "invalid", "/metadata")
    refused(
        api.form(path, {"file": upload(picture()), "metadata": "[" * 10_000}), 422, "invalid", "/metadata"
    )
    refused(api.form(path, {"file": upload(picture()), "metadata": "NaN"}), 422, "invalid", "/metadata")
    refused(api.form(path, {"file": upload(picture()), "text": "x" * 10_001}), 422, "invalid", "/text")
    assert api.get(path).json()["results"] == []
    assert list(settings.SPOOL_DIR.glob("*.upload*")) == []


def test_broken_forms(api: Api, dataset: str) -> None:
    path = f"/datasets/{dataset}/assets"
    for body, kind in (
        (b"--x\r\n", "multipart/form-data"),
        (b"nonsense", "multipart/form-data; boundary="),
        ((b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
         b"Content-Transfer-Encoding: base64\r\n\r\n!!!\r\n--x--\r\n"), "multipart/form-data; boundary=x"),
    ):  # fmt: skip
        refused(api.call("POST", path, body, {"Content-Type": kind}), 400, "malformed")
    fields = {f"f{n}": "x" for n in range(3_200)}
    assert api.form(path, fields).status_code in (400, 422)


def test_an_upload_over_the_limit(api: Api, dataset: str, settings: Any) -> None:
    settings.MAX_UPLOAD_BYTES = 1000
    path = f"/datasets/{dataset}/assets"
    refused(api.form(path, {"file": upload(b"x" * 1001)}), 413, TooLarge.slug)
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    refused(api.form(path, {"text": "x" * 101}), 413, "too-large")
    refused(api.form(path, {"file": upload(b"x" * 1200)}), 413, "too-large")


# What would hide or turn around what stands beside a name, and how it is called in the answer.
DECEIVING = {
    "gnp\u202e.exe": "RIGHT-TO-LEFT OVERRIDE (U+202E)",
    "a\u2066b": "LEFT-TO-RIGHT ISOLATE (U+2066)",
    "two\nlines": "line breaks (U+000A)",
    "two\u2028lines": "line breaks (U+2028)",
    "a\tb": "tabs (U+0009)",
    "a\x1b[31mb": "control characters (U+001B)",
}
NAMED: dict[str, dict[str, Any]] = {
    "/datasets": {},
    "/policies": {"starter": "marketplace"},
    "/hash-lists": {"stance": "bad"},
    "/maps": {"method": "pca"},
    "/keys": {"scopes": ["read"]},
}


@pytest.mark.parametrize("name", DECEIVING)
@pytest.mark.parametrize("path", NAMED)
def test_a_name_that_deceives_is_refused_and_says_why(api: Api, path: str, name: str) -> None:
    before = api.get(path).json()
    told = refused(api.post(path, {**NAMED[path], "name": name}), 422, "invalid", "/name")
    assert DECEIVING[name] in told["detail"]
    assert api.get(path).json() == before


@pytest.mark.parametrize("name", DECEIVING)
def test_versions_and_sources_of_a_dataset_bear_no_such_name(
    api: Api, dataset: str, add_text: Callable, name: str
) -> None:
    add_text("x")
    source = {"kind": "redis", "url": "rediss://broker.example/2", "topic": "orders", "dataset": dataset}
    for path, fields in ((f"/datasets/{dataset}/versions", {}), ("/stream-sources", source)):
        before = api.get(path).json()
        told = refused(api.post(path, {**fields, "name": name}), 422, "invalid", "/name")
        assert DECEIVING[name] in told["detail"]
        assert api.get(path).json() == before


@pytest.mark.parametrize(
    "name", ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u05d0\u200f!", "👩\u200d🔬 水果"]
)
def test_names_of_all_writing_systems_are_taken(api: Api, name: str) -> None:
    assert api.post("/datasets", {"name": name}).json()["name"] == name


KEY_CASES: list[tuple[Any, str]] = [
    ({"name": "x"}, "/scopes"),
    ({"scopes": ["read"]}, "/name"),
    ({"name": "x", "scopes": []}, "/scopes"),
    ({"name": "x", "scopes": "read"}, "/scopes"),
    ({"name": "x", "scopes": ["everything"]}, "/scopes/0"),
    ({"name": "x", "scopes": [1]}, "/scopes/0"),
    ({"name": "\x00", "scopes": ["read"]}, "/name"),
    ({"name": "x" * 101, "scopes": ["read"]}, "/name"),
    ({"name": "x", "scopes": ["read"], "expires_at": "tomorrow"}, "/expires_at"),
    ({"name": "x", "scopes": ["read"], "expires_at": 5}, "/expires_at"),
    ({"name": "x", "scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"}, "/expires_at"),
    ({"name": "x", "scopes": ["read"], "expires_at": "9999-12-31T23:59:59-23:59"}, "/expires_at"),
]


@pytest.mark.parametrize(("body", "pointer"), KEY_CASES)
def test_keys_refuse(api: Api, body: Any, pointer: str) -> None:
    refused(api.post("/keys", body), 422, "invalid", pointer)
    assert [key["name"] for key in api.get("/keys").json()["results"]] == ["test"]


SEARCH_CASES: list[tuple[Any, str]] = [
    ({}, ""),
    ({"text": ""}, ""),
    ({"text": "  "}, ""),
    ({"text": 5}, "/text"),
    ({"text": "x" * 10_001}, "/text"),
    *[({"text": odd}, "/text") for odd in ODD],
    ({"vector": VECTOR[1:]}, "/vector"),
    ({"vector": [0.0] * 256}, "/vector"),
    ({"vector": [True] * 256}, "/vector"),
    ({"vector": ["1"] * 256}, "/vector"),
    ({"vector": [[1.0]] * 256}, "/vector"),
    ({"vector": [10**400] * 256}, "/vector"),
    ({"vector": "x"}, "/vector"),
    ({"vector": VECTOR, "top_k": 0}, "/top_k"),
    ({"vector": VECTOR, "top_k": 201}, "/top_k"),
    ({"vector": VECTOR, "top_k": "ten"}, "/top_k"),
    ({"vector": VECTOR, "top_k": 1.5}, "/top_k"),
    ({"vector": VECTOR, "top_k": True}, "/top_k"),
    ({"vector": VECTOR, "top_k": 10**30}, "/top_k"),
    ({"vector": VECTOR, "modalities": ["smell"]}, "/modalities/0"),
    ({"vector": VECTOR, "modalities": []}, "/modalities"),
    ({"vector": VECTOR, "datasets": []}, "/datasets"),
    ({"vector": VECTOR, "datasets": [5]}, "/datasets/0"),
    ({"vector": VECTOR, "datasets": "all"}, "/datasets"),
    ({"vector": VECTOR, "task": "cooking"}, "/task"),
    ({"vector": VECTOR, "weights": {"vector": -1}}, "/weights/vector"),
    ({"vector": VECTOR, "weights": {"vector": 0}}, "/weights"),
    ({"vector": VECTOR, "weights": {"vector": 10**400}}, "/weights/vector"),
    ({"vector": VECTOR, "weights": {"smell": 1}}, "/weights/smell"),
    ({"vector": VECTOR, "weights": []}, "/weights"),
    ({"vector": VECTOR, "filter": []}, "/filter"),
    ({"vector": VECTOR, "filter": {"a": {"near": 1}}}, "/filter/a/near"),
    ({"vector": VECTOR, "filter": {"a": {"lt": "x"}}}, "/filter/a/lt"),
    ({"vector": VECTOR, "filter": {"a": {"lt": 10**400}}}, "/filter/a/lt"),
    ({"vector": VECTOR, "filter": {"a\x00": 1}}, "/filter"),
    ({"vector": VECTOR, "filter": {"a": {"b": {"c": {}}}}}, "/filter/a/b"),
    ({"vector": VECTOR, "hybrid": True}, "/hybrid"),
    ({"vector": VECTOR, "explain": "yes"}, "/explain"),
    ({"cursor": "x"}, "/cursor"),
    ({"cursor": "\ud800"}, "/cursor"),
    ({"image": {}}, "/image/asset"),
    ({"image": "x"}, "/image"),
    ({"image": {"asset": 5}}, "/image/asset"),
    ({"video": {"asset": 5}}, "/video/asset"),
    ({"video": "x"}, "/video"),
    # Examples.
    ({"like": []}, "/like"),
    ({"like": "x"}, "/like"),
    ({"like": {"assets": []}}, "/like/assets"),
    ({"like": {"assets": "x"}}, "/like/assets"),
    ({"like": {"assets": [5]}}, "/like/assets/0"),
    ({"like": {"assets": [None]}}, "/like/assets/0"),
    ({"like": {"assets": [["x"]]}}, "/like/assets/0"),
    ({"like": {"assets": {"0": "x"}}}, "/like/assets"),
    ({"like": {"words": "x"}}, "/like/words"),
    ({"vector": VECTOR, "unlike": "x"}, "/unlike"),
    ({"vector": VECTOR, "unlike": {"text": 5}}, "/unlike/text"),
    ({"vector": VECTOR, "unlike": {"assets": [True]}}, "/unlike/assets/0"),
    ({"vector": VECTOR, "unlike": {"text": "x" * 10_001}}, "/unlike/text"),
    *[({"vector": VECTOR, "unlike": {"text": odd}}, "/unlike/text") for odd in ODD],
    ({"vector": VECTOR, "weights": {"like": -1}}, "/weights/like"),
    ({"vector": VECTOR, "weights": {"unlike": 2}}, "/weights/unlike"),
    ({"vector": VECTOR, "weights": {"unlike": "1"}}, "/weights/unlike"),
    # What the answer is to tell.
    ({"vector": VECTOR, "highlight": 1}, "/highlight"),
    ({"vector": VECTOR, "exact": "true"}, "/exact"),
    ({"vector": VECTOR, "group": "files"}, "/group"),
    ({"vector": VECTOR, "group": ["duplicates"]}, "/group"),
    ({"vector": VECTOR, "facets": []}, "/facets"),
    ({"vector": VECTOR, "facets": {"colour": 1}}, "/facets"),
    ({"vector": VECTOR, "facets": [["colour"]]}, "/facets/0"),
    ({"vector": VECTOR, "facets": [None]}, "/facets/0"),
    ({"vector": VECTOR, "facets": [""]}, "/facets/0"),
    ({"vector": VECTOR, "facets": ["x" * 101]}, "/facets/0"),
    ({"vector": VECTOR, "facets": [str(n) for n in range(11)]}, "/facets"),
    *[({"vector": VECTOR, "facets": ["colour", odd]}, "/facets/1") for odd in ODD],
]


@pytest.mark.parametrize(("body", "pointer"), SEARCH_CASES)
def test_searches_refuse(api: Api, body: Any, pointer: str) -> None:
    refused(api.post("/search", body), 422, "invalid", pointer)


# Keys that nothing refuses; that they look like SQL, paths or markup means nothing.
ODD_KEYS = (
    "'; DROP TABLE assets; --",
    "%",
    "%s",
    "a.b",
    "a/b~c",
    "<b>",
    "constructor",
    "\u202ekey",
    "😀",
    " ",
)


@pytest.mark.parametrize("key", ODD_KEYS)
def test_facets_of_odd_names_are_counted(api: Api, add_text: Callable, key: str) -> None:
    add_text("x", metadata={key: "some <i>value</i>"})
    answer = api.post("/search", {"vector": VECTOR, "facets": [key], "filter": {key: {"exists": True}}})
    assert answer.status_code == 200, answer.content
    assert list(answer.json()["facets"]) == [key]


TOO_MANY = [str(uuid.UUID(int=n)) for n in range(21)]
ABSENT: list[Any] = [
    {"like": {"assets": ["x"]}},
    {"like": {"assets": ["\x00"]}},
    {"like": {"assets": TOO_MANY}},
    {"like": {"assets": TOO_MANY * 500}},
    {"unlike": {"assets": TOO_MANY[:1]}},
    {"unlike": {"assets": ["x"], "text": 5}},
    {"image": {"asset": "x"}},
    {"audio": {"asset": "x"}},
    {"video": {"asset": "x"}},
    {"datasets": ["x"]},
]


@pytest.mark.parametrize("wrong", [{}, {"top_k": 0}, {"facets": []}, {"colour": 1}, {"vector": "x"}])
@pytest.mark.parametrize("named", ABSENT, ids=range(len(ABSENT)))
def test_what_is_not_there_is_told_before_what_is_wrong(api: Api, named: Any, wrong: Any) -> None:
    refused(api.post("/search", {**named, **wrong}), 404, "not-found")


def test_a_vector_beyond_floats_in_json_text(api: Api) -> None:
    body = b'{"vector": [' + b",".join([b"1e999"] * 256) + b"]}"
    refused(api.call("POST", "/search", body), 422, "invalid", "/vector")
    body = b'{"vector": [' + b",".join([b"1e300"] * 256) + b"]}"
    assert api.call("POST", "/search", body).status_code == 200
    body = b'{"vector": [' + b",".join([b"NaN"] * 256) + b"]}"
    refused(api.call("POST", "/search", body), 400, "malformed")
    refused(api.form("/search", {"vector": "[NaN]"}), 422, "invalid", "/vector")


def test_search_forms_refuse(api: Api) -> None:
    refused(api.form("/search", {"video": upload(b"x")}), 422, "invalid", "/video")
    refused(api.form("/search", {"image": upload(b"")}), 422, "invalid", "/image")
    refused(api.form("/search", {"text": "x", "top_k": "ten"}), 422, "invalid", "/top_k")
    refused(api.form("/search", {"file": upload(b"x")}), 422, "invalid", "/file")
    vector = json.dumps(VECTOR)
    for name in ("like", "unlike", "facets", "highlight", "exact"):
        for odd in ("{", "NaN", "[" * 10_000, '"\\ud800"'):
            refused(api.form("/search", {"vector": vector, name: odd}), 422, "invalid", f"/{name}")
    refused(api.form("/search", {"vector": vector, "group": "all"}), 422, "invalid", "/group")
    refused(api.form("/search", {"vector": vector, "facets": ['["a"]', '["b"]']}), 422, "invalid", "/facets")
    answer = api.form("/search", {"image": upload(b"no picture at all")})
    assert answer.status_code == 422
    assert list(settings.SPOOL_DIR.glob("*.upload*")) == []


QUERIES = ("limit=0", "limit=201", "limit=x", "limit=", "limit=1e3", "limit=-1", "limit=%D9%A1", "limit=5%00")
CURSORS = ("cursor=", "cursor=x", "cursor=%00", "cursor=%FF%FE", "cursor=AAAA", "cursor=" + "A" * 23)


@pytest.mark.parametrize("query", [*QUERIES, *CURSORS, "colour=red"])
@pytest.mark.parametrize("path", ["/datasets", "/jobs", "/keys", "assets"])
def test_lists_refuse(api: Api, dataset: str, path: str, query: str) -> None:
    path = f"/datasets/{dataset}/assets" if path == "assets" else path
    refused(api.get(f"{path}?{query}"), 422, "invalid", "/" + query.partition("=")[0])


def test_filters_refuse(api: Api, dataset: str) -> None:
    refused(api.get("/jobs?state=lost"), 422, "invalid", "/state")
    refused(api.get("/jobs?kind=%00"), 422, "invalid", "/kind")
    refused(api.get(f"/datasets/{dataset}/assets?status="), 422, "invalid", "/status")
    refused(api.get(f"/datasets/{dataset}/assets?modality=smell"), 422, "invalid", "/modality")


@pytest.mark.parametrize(
    "query",
    ["from=x", "to=2026-13-01", "from=2026-01-02&to=2026-01-01", "from=2020-01-01&to=2026-01-01", "day=1",
     "to=0001-01-01&from=0001-01-02", "from=%00"],
)  # fmt: skip
def test_usage_refuses(api: Api, query: str) -> None:
    refused(api.get(f"/usage?{query}"), 422, "invalid")


def test_the_first_of_all_days(api: Api) -> None:
    assert api.get("/usage?to=0001-01-01").status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256, "with space", "é"])
def test_idempotency_keys_refuse(api: Api, key: str) -> None:
    refused(api.post("/datasets", {"name": "x"}, Idempotency_Key=key), 422, "invalid", "/Idempotency-Key")


def test_unknown_addresses_and_methods(api: Api) -> None:
    for path in (
        "/nope",
        "/datasets/",
        "/imports",
    ):
        refused(api.get(path), 404, "not-found")
    answer = api.call("PUT", "/datasets", {"name": "x"})
    refused(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "GET, HEAD, POST"
    refused(api.call("OPTIONS", "/me"), 405, "method-not-allowed")


def test_a_chunked_body_needs_a_length(api: Api) -> None:
    answer = api.http.generic(
        "POST",
        "/api/v1/datasets",
        b"",
        headers={"Authorization": f"Bearer {api.token}", "Transfer-Encoding": "chunked"},
    )
    assert answer.status_code in (411, 422)


def test_a_database_that_is_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: Any) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(selectors, "list_datasets", gone)
    answer = api.get("/datasets")
    refused(answer, 503, "unavailable")
    assert answer.headers["Retry-After"] == "5"


def test_an_unforeseen_error(api: Api, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def broken(*args: Any) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(selectors, "list_datasets", broken)
    problem = refused(api.get("/datasets"), 500, "internal-error")
    assert "secret" not in json.dumps(problem)
    assert "ZeroDivisionError" in caplog.text


class _FullDisk(io.RawIOBase):
    """A file on a disk without room: what is written fits into a buffer, and not on the disk."""

    def readable(self) -> bool:
        return True

    writable = seekable = readable

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def write(self, content: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Buffered(io.BufferedRandom):
    name = "/nowhere/upload"


@pytest.mark.parametrize("path", ["assets", "imports"])
def test_a_small_file_on_a_full_disk_is_refused_with_a_reason(
    api: Api, dataset: str, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(uploadedfile.tempfile, "NamedTemporaryFile", lambda **_: _Buffered(_FullDisk()))
    answer = api.form(f"/datasets/{dataset}/{path}", {"file": upload(picture())})
    refused(answer, 507, "storage-full")


@pytest.mark.parametrize("path", ["assets", "imports"])
def test_a_disk_without_room_for_another_name_is_told_too(
    api: Api, dataset: str, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def full(**_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(uploadedfile.tempfile, "NamedTemporaryFile", full)
    refused(api.form(f"/datasets/{dataset}/{path}", {"file": upload(picture())}), 507, "storage-full")
