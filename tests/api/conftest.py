"""A client of the API inside the test process, and rows to call it on."""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.test import Client
from PIL import Image

from tenants.accounts import keys, services
from tenants.accounts.permissions import SCOPES
from tenants.scope import tenant_scope
from tests.conftest import Party

PROBLEM = "urn:crosslight:problem:"


@dataclass
class Api:
    """Calls as one key; answers are Django's responses."""

    token: str | None
    http: Client = field(default_factory=lambda: Client(raise_request_exception=False))

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """`body`: None, raw bytes with a content-type header, or anything that JSON can hold."""
        sent = {**({"Authorization": f"Bearer {self.token}"} if self.token else {}), **(headers or {})}
        kind = sent.pop("Content-Type", "application/json")
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self.http.generic(method, f"/api/v1{path}", raw, content_type=kind, headers=sent)

    def form(self, path: str, fields: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
        sent = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        return self.http.post(f"/api/v1{path}", fields, headers=sent)

    def get(self, path: str, **headers: str) -> Any:
        return self.call("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.call(
            "POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )


@pytest.fixture(scope="session")
def make_party() -> Callable[..., Party]:
    """Without people, whose passwords take most of a second to hash: the API knows keys only."""

    def make(plan: str = "demo", scopes: tuple[str, ...] = SCOPES) -> Party:
        slug = f"t-{secrets.token_hex(6)}"
        tenant = services.create_tenant(slug=slug, name=slug, plan=plan)
        with tenant_scope(tenant.id):
            _, token = keys.create_key(name="test", scopes=list(scopes))
        return Party(tenant, None, "", token)

    return make


@pytest.fixture
def api(party: Party) -> Api:
    return Api(party.token)


@pytest.fixture
def other(stranger: Party) -> Api:
    return Api(stranger.token)


@pytest.fixture
def dataset(api: Api) -> str:
    return api.post("/datasets", {"name": "things"}).json()["id"]


@pytest.fixture
def add_text(api: Api, dataset: str) -> Callable[..., dict[str, Any]]:
    def add(text: str, **fields: Any) -> dict[str, Any]:
        answer = api.post(f"/datasets/{dataset}/assets", {"text": text, **fields})
        assert answer.status_code == 202, answer.content
        return answer.json()

    return add


def picture(
    colour: str = "red", size: tuple[int, int] = (40, 30), kind: str = "PNG", **options: Any
) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, colour).save(sink, kind, **options)
    return sink.getvalue()


def upload(content: bytes, name: str = "upload.bin") -> ContentFile:
    return ContentFile(content, name)


def refused(answer: Any, status: int, slug: str, pointer: str | None = None) -> dict[str, Any]:
    """Assert that this is exactly that problem, complete; returns its body."""
    body = json.loads(answer.content)
    assert (answer.status_code, body["type"]) == (status, PROBLEM + slug), body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == answer.headers["X-Request-Id"]
    if pointer is not None:
        assert pointer in [error["pointer"] for error in body["errors"]], body
    return body
