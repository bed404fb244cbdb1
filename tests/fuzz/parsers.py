"""Every parser of bytes that a client of the API sends, as one call each: what is sent, and with which first inputs.

A corpus is a folder of small files (`corpus/<name>/`): well-formed ones, and inputs that once were a fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.api.conftest import Api, upload
from tests.conftest import Party

CORPUS = Path(__file__).with_name("corpus")
VECTOR = [1.0] * 256
OCTETS = "application/offset+octet-stream"
TUS = {"Tus-Resumable": "1.0.0"}


@dataclass
class Shop:
    """A tenant with a dataset, a text whose content can be asked for, a job, and a begun upload."""

    party: Party
    dataset: str = field(init=False)
    asset: str = field(init=False)
    job: str = field(init=False)

    def __post_init__(self) -> None:
        self.dataset = self.api.post("/datasets", {"name": "things"}).json()["id"]
        added = self.api.post(f"/datasets/{self.dataset}/assets", {"text": "A red kettle on a stove."}).json()
        self.asset, self.job = added["asset"]["id"], added["job"]["id"]

    @property
    def api(self) -> Api:
        return Api(self.party.token)


Send = Callable[[Shop, bytes], Any]


def text_of(content: bytes) -> str:
    """For places that take a text: any characters, surrogates too, as JSON can say them."""
    return content.decode("utf-8", "surrogateescape")


def header_of(content: bytes) -> str:
    """What a server hands on: Latin-1 without the end of a line."""
    return content.decode("latin-1").replace("\r", " ").replace("\n", " ").replace("\0", " ")


def _json(path: str) -> Send:
    return lambda shop, content: shop.api.call("POST", path.format(dataset=shop.dataset), content)


def _within(path: str, put: Callable[[str], Any]) -> Send:
    return lambda shop, content: shop.api.post(path, put(text_of(content)))


def _filter(shop: Shop, content: bytes) -> Any:
    try:
        wanted = json.loads(content)
    except (ValueError, RecursionError):
        wanted = {text_of(content): text_of(content)}
    return shop.api.post("/search", {"vector": VECTOR, "filter": wanted})


def _form(path: str) -> Send:
    """Raw bytes as a form whose boundary is `b`."""
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    return lambda shop, content: shop.api.call("POST", path.format(dataset=shop.dataset), content, kind)


def _table(name: str) -> Send:
    def send(shop: Shop, content: bytes) -> Any:
        fields = {"file": upload(content or b"\0", name), "start": "false"}
        answer = shop.api.form(f"/datasets/{shop.dataset}/imports", fields)
        if answer.status_code < 300:
            # Drafts have a limit of their own.
            shop.api.call("DELETE", f"/imports/{answer.json()['import']['id']}")
        return answer

    return send


def _header(name: str, path: str, method: str = "GET", more: dict[str, str] | None = None) -> Send:
    def send(shop: Shop, content: bytes) -> Any:
        where = path.format(dataset=shop.dataset, asset=shop.asset, job=shop.job)
        body = {"name": "x"} if method == "POST" and not more else None
        answer = shop.api.call(method, where, body, {**(more or {}), name: header_of(content)})
        if where == "/uploads" and answer.status_code == 201:
            # A workspace has so many at a time; further inputs would only reach that bound.
            shop.api.call("DELETE", answer.headers["Location"].partition("/api/v1")[2], headers=TUS)
        return answer

    return send


def _query(path: str, name: str) -> Send:
    def send(shop: Shop, content: bytes) -> Any:
        where = path.format(dataset=shop.dataset)
        headers = {"Authorization": f"Bearer {shop.party.token}"}
        return shop.api.http.get(f"/api/v1{where}", {name: content}, headers=headers)

    return send


def _chunk(shop: Shop, content: bytes) -> Any:
    """The first line says where it goes and how it is checked, the rest is sent there."""
    told, _, rest = content.partition(b"\n")
    offset, _, checksum = header_of(told).partition(" ")
    begun = shop.api.call("POST", "/uploads", headers={**TUS, "Upload-Length": "64"})
    if begun.status_code != 201:
        return begun
    path = begun.headers["Location"].partition("/api/v1")[2]
    sent = {**TUS, "Content-Type": OCTETS, "Upload-Offset": offset, "Upload-Checksum": checksum}
    answer = shop.api.call("PATCH", path, rest or b"x", sent)
    shop.api.call("DELETE", path, headers=TUS)
    return answer


def _rule(when: str) -> dict[str, Any]:
    return {"rules": [{"id": "r", "when": when, "then": "review", "reason": "x"}]}


PARSERS: dict[str, Send] = {
    "json-search": _json("/search"),
    "json-asset": _json("/datasets/{dataset}/assets"),
    "json-policy": _json("/policies/check"),
    "json-hashes": _json("/hash-lists/match"),
    "rule": _within("/policies/check", _rule),
    "filter": _filter,
    "words": _within(
        "/search", lambda text: {"vector": VECTOR, "text": text, "hybrid": True, "highlight": True}
    ),
    "webhook-url": _within("/webhooks", lambda text: {"url": text}),
    "origin": lambda shop, content: shop.api.call("PUT", "/origins", {"origins": [text_of(content)]}),
    "form-asset": _form("/datasets/{dataset}/assets"),
    "form-search": _form("/search"),
    "table-csv": _table("a.csv"),
    "table-jsonl": _table("a.jsonl"),
    "table-parquet": _table("a.parquet"),
    "table-zip": _table("a.zip"),
    "table-tar": _table("a.tar"),
    "cursor": _query("/datasets/{dataset}/assets", "cursor"),
    "cursor-search": _within("/search", lambda text: {"cursor": text}),
    "range": _header("Range", "/assets/{asset}/content"),
    "if-none-match": _header("If-None-Match", "/assets/{asset}/content"),
    "last-event-id": _header("Last-Event-ID", "/jobs/{job}/events"),
    "idempotency-key": _header("Idempotency-Key", "/datasets", "POST"),
    "authorization": _header("Authorization", "/me"),
    "tus-metadata": _header("Upload-Metadata", "/uploads", "POST", {**TUS, "Upload-Length": "0"}),
    "tus-length": _header("Upload-Length", "/uploads", "POST", TUS),
    "tus-chunk": _chunk,
}


def seeds(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
