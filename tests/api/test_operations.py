"""What operators and machines ask: health, readiness, metrics, the document."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.files.storage import default_storage
from django.core.wsgi import get_wsgi_application
from django.test import Client

from config import operations
from config.edge import Edge
from config.proxies import TrustedProxies, read_networks
from ml.compression.store import ModelsMissing
from tenants.retrieval.query import encoding
from tests.api.conftest import Api
from tests.waiting import PATIENCE_S, until

TORCH = ("torch", "transformers", "timm", "scipy")
# What a start need not wait for: a dictionary of Chinese, an engine whose package imports a terminal.
LATER = ("rjieba", "cel", "prompt_toolkit")
IMPORTED = f"""
import gc, sys
from tenants.retrieval import query
query.warm_up = lambda: None
import config.asgi
early = [name for name in {LATER} if name in sys.modules]
assert not early, f"imported by the start: {{early}}"
from django.urls import get_resolver
get_resolver().url_patterns
from django.test import Client
for path in ("/healthz", "/readyz", "/api/schema", "/api/docs", "/"):
    Client(raise_request_exception=False).get(path)
heavy = [name for name in {TORCH} if name in sys.modules]
assert gc.isenabled()
sys.exit(f"imported: {{heavy}}" if heavy else 0)
"""


@pytest.fixture
def http() -> Client:
    return Client(raise_request_exception=False)


def test_alive(http: Client) -> None:
    assert http.get("/healthz").content == b"ok\n"


def test_the_log_of_requests_tells_the_address(http: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="request"):
        http.get("/healthz", REMOTE_ADDR="2001:db8::7")
    (line,) = [record for record in caplog.records if record.name == "request"]
    assert (line.getMessage(), getattr(line, "address", None)) == ("GET /healthz", "2001:db8::7")


@pytest.mark.services
def test_ready(http: Client) -> None:
    answer = http.get("/readyz")
    assert answer.status_code == 200
    well = {"database": "ok", "models": "ok", "cache": "ok", "storage": "ok"}
    assert answer.json() == {"ready": True, "checks": well}


def broken(*args: Any) -> None:
    raise OSError("no space left on device")


@pytest.mark.parametrize("name", ["database", "models"])
@pytest.mark.services
def test_without_what_this_process_needs_it_is_not_ready(
    http: Client, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(operations.NEEDED, name, broken)
    answer = http.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert [n for n, state in answer.json()["checks"].items() if state != "ok"] == [name]
    assert answer.json()["checks"][name] == "failed"


@pytest.mark.parametrize("name", ["cache", "storage"])
@pytest.mark.services
def test_what_all_hosts_share_only_degrades(http: Client, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(operations.SHARED, name, broken)
    answer = http.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)
    assert {n: state for n, state in answer.json()["checks"].items() if state != "ok"} == {name: "degraded"}


@pytest.mark.services
def test_a_storage_that_hangs_keeps_no_probe_waiting(http: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not asked once more by every probe meanwhile."""
    goes_on, asked = threading.Event(), []

    def hangs() -> None:
        asked.append(1)
        goes_on.wait(PATIENCE_S)

    monkeypatch.setattr(operations, "CHECK_S", 0.05)
    monkeypatch.setitem(operations.SHARED, "storage", operations.BoundedCheck(hangs))
    told = [http.get("/readyz") for _ in range(3)]
    goes_on.set()
    assert {answer.status_code for answer in told} == {200}
    assert {answer.json()["checks"]["storage"] for answer in told} == {"degraded"}
    assert asked == [1]
    until(lambda: http.get("/readyz").json()["checks"]["storage"] == "ok")


@pytest.mark.services
def test_not_ready_before_the_models_are_loaded(http: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_loaded", threading.Event())
    with encoding._loading:
        answer = http.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["models"]) == (503, "failed")
    assert http.get("/readyz").json()["checks"]["models"] == "ok"


@pytest.mark.services
def test_not_ready_where_the_models_are_missing(http: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ModelsMissing("prior:2")

    monkeypatch.setattr(encoding, "_loaded", threading.Event())
    monkeypatch.setattr(encoding, "space", missing)
    answer = http.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["models"]) == (503, "failed")


HOSTS = [None, b"", b"10.1.2.3:8000", b"web-0.crosslight.svc", b"no host at all"]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.services
def test_probes_are_answered_under_any_name(path: str, host: bytes | None) -> None:
    """Of other addresses only those of this installation are known. granian gives a missing Host as an empty one."""
    headers = [] if host is None else [(b"host", host)]
    assert asked(path, headers) == 200
    assert asked("/api/v1/me", [(b"host", b"10.1.2.3:8000")]) == 400


def asked(path: str, headers: list[tuple[bytes, bytes]]) -> int:
    """The status that the whole edge answers."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
    around = {"http_version": "1.1", "scheme": "http", "server": ("h", 80), "client": ("127.0.0.1", 1)}
    edge = Edge(get_wsgi_application(), threads=1, proxies=TrustedProxies((), "x-forwarded-for"))
    asyncio.run(edge({**scope, **around}, receive, send))
    return int(sent[0]["status"])


@pytest.mark.services
def test_who_asks_for_readiness_without_the_token_writes_nothing(
    http: Client, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    written: list[str] = []
    save = default_storage._save
    monkeypatch.setattr(
        default_storage, "_save", lambda name, content: written.append(name) or save(name, content)
    )
    settings.METRICS_TOKEN = "metrics-token"
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}):
        assert http.get("/readyz", headers=headers).json()["ready"] is True
    assert written == []
    assert http.get("/readyz", headers=TOKEN).json()["ready"] is True
    assert len(written) == 1
    assert not default_storage.exists(written[0])


TOKEN = {"Authorization": "Bearer metrics-token"}


def test_a_storage_that_cannot_be_written_to_is_degraded(
    http: Client, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left on device")

    settings.METRICS_TOKEN = "metrics-token"
    monkeypatch.setattr(default_storage, "_save", full)
    assert http.get("/readyz", headers=TOKEN).json()["checks"]["storage"] == "degraded"


@pytest.mark.parametrize("fault", ["read-only", "full"])
def test_a_fault_of_the_disk_is_told_without_writing(
    http: Client, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    real = os.statvfs("/")

    class Facts:
        f_flag = os.ST_RDONLY if fault == "read-only" else 0
        f_bavail = 0 if fault == "full" else real.f_bavail
        f_files, f_favail = real.f_files, real.f_favail

    monkeypatch.setattr("config.operations.os.statvfs", lambda path: Facts)
    answer = http.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["storage"]) == (200, "degraded")


def test_metrics(http: Client, api: Api) -> None:
    api.get("/datasets/nothing")
    text = http.get("/metrics").content.decode()
    route = 'route="api/v1/datasets/<id:dataset_id>"'
    assert f'crosslight_requests_total{{method="GET",{route},status="404"}}' in text
    assert f'crosslight_request_seconds_count{{method="GET",{route}}}' in text
    for queue in ("embed", "default", "index", "system"):
        assert f'crosslight_jobs_unfinished{{queue="{queue}"}}' in text
        assert f'crosslight_canary_age_seconds{{queue="{queue}"}}' in text
    assert "crosslight_vector_memory_bytes" in text


def test_metrics_of_the_caches(http: Client, party: Any) -> None:
    for layer in ("miss", "process"):
        assert encoding.query_cache.find(party.id, "an apple", encoding.model_id()).layer == layer
    text = http.get("/metrics").content.decode()
    for layer in ("miss", "process"):
        labels = f'cache="embedding",layer="{layer}",tenant='
        # A session with many tenants may have named fifty others.
        own, others = f'{{{labels}"{party.id}"}} 1.0', f'{{{labels}"other"}}'
        assert (
            f"crosslight_cache_lookups_total{own}" in text
            or f"crosslight_cache_lookups_total{others}" in text
        )
    assert 'crosslight_cache_memory_bytes{cache="embedding"}' in text
    assert 'crosslight_cache_memory_bytes{cache="candidates"}' in text


def test_metrics_are_not_for_everybody(http: Client, settings: Any) -> None:
    settings.METRICS_TOKEN = "metrics-token"
    far = {"REMOTE_ADDR": "192.0.2.7"}
    assert http.get("/metrics", **far).status_code == 403
    assert http.get("/metrics", headers={"X-Forwarded-For": "192.0.2.7"}).status_code == 403
    assert http.get("/metrics", headers={"Authorization": "Bearer wrong"}, **far).status_code == 403
    assert http.get("/metrics", headers={"Authorization": "Bearer metrics-token"}, **far).status_code == 200
    assert http.get("/metrics", REMOTE_ADDR="::1").status_code == 200
    assert http.get("/metrics", REMOTE_ADDR="::ffff:127.0.0.1").status_code == 200
    settings.METRICS_TOKEN = ""
    assert http.get("/metrics", headers={"Authorization": "Bearer "}, **far).status_code == 403


@pytest.mark.parametrize(
    "configured",
    [
        pytest.param({"TRUSTED_PROXIES": read_networks("127.0.0.1")}, id="trusted"),
        pytest.param({"BASE_URL": "https://crosslight.example"}, id="https"),
        pytest.param({"BASE_URL": "http://crosslight.example:8000"}, id="name"),
    ],
)
def test_behind_a_proxy_that_does_not_tell_metrics_need_the_token(
    http: Client, settings: Any, configured: dict[str, Any]
) -> None:
    settings.METRICS_TOKEN = "metrics-token"
    assert http.get("/metrics").status_code == 200
    for name, value in configured.items():
        setattr(settings, name, value)
    assert http.get("/metrics").status_code == 403
    assert http.get("/metrics", headers=TOKEN).status_code == 200


@pytest.mark.guard
def test_the_document(http: Client) -> None:
    answer = http.get("/api/schema")
    assert answer.headers["Content-Type"] == "application/vnd.oai.openapi+json"
    document = json.loads(answer.content)
    assert document["openapi"].startswith("3.1")
    assert all(path.startswith("/api/v1/") for path in document["paths"])
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    post = document["paths"]["/api/v1/datasets/{dataset_id}/assets"]["post"]
    assert set(post["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    for status in ("400", "401", "403", "404", "409", "413", "415", "422", "429", "503"):
        assert list(post["responses"][status]["content"]) == ["application/problem+json"], status


def test_the_pages_hold_no_inline_script_and_nothing_from_elsewhere(http: Client, settings: Any) -> None:
    settings.DEBUG = True  # static files need not be collected
    answer = http.get("/api/docs")
    page = answer.content.decode()
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy + ";"
    assert "unsafe-" not in policy
    assert "<style" not in page
    assert " style=" not in page
    assert "https://" not in page
    assert "<script>" not in page
    assert http.get("/api/docs?script=").headers["Content-Type"].startswith("application/javascript")


@pytest.mark.slow
def test_the_web_process_imports_no_torch() -> None:
    path = os.pathsep.join(["platform", ".", os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-c", IMPORTED],
        env={**os.environ, "PYTHONPATH": path, "DEBUG": "1"},
        cwd=django_settings.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
