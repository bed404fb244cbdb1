"""A bucket's prefix as a source: nobody's credentials but the tenant's, no address but an allowed one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import pytest
from django.test import override_settings

from tenants.datasets.importers import buckets, preview
from tenants.errors import Invalid, Unavailable
from tests.tenants.importing import JPEG, read, read_files

SECRET = {"access_key": "test", "secret_key": "test"}


@pytest.fixture
def shop(s3_endpoint: str) -> Any:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=s3_endpoint, **keys)
    client.create_bucket(Bucket="shop")

    def put(files: dict[str, bytes]) -> None:
        for key, content in files.items():
            client.put_object(Bucket="shop", Key=key, Body=content, ACL="public-read")

    return put


def at(endpoint: str, **options: Any) -> dict[str, Any]:
    return {"options": {"endpoint": endpoint, **options}, "allowed_endpoints": (endpoint,)}


@pytest.mark.parametrize("secret", [SECRET, None])
def test_a_prefix_is_read_in_order(s3_endpoint, shop, tmp_path, secret) -> None:
    shop(
        {
            "p/b.jpg": JPEG,
            "p/b.txt": b"caption",
            "p/c/": b"",
            "p/c/1.txt": b"text",
            "p/a.zip": b"x",
            "p/.hidden": b"x",
            "pq/other.txt": b"x",
        }
    )
    items = read("s3://shop/p", "files", secret=secret, **at(s3_endpoint))
    assert [(item.row, item.external_id, item.text) for item in items] == [
        (1, None, ""),
        (2, "b.jpg", "caption"),
        (3, "c/1.txt", "text"),
    ]
    assert items[0].error == "An archive inside the source; unpack it, or import it separately."
    saved = read_files("s3://shop/p/", "files", tmp_path, secret=secret, **at(s3_endpoint))
    assert saved[1] == ("b.jpg", JPEG)
    assert [item.row for item in read("s3://shop/p", "files", secret=secret, after=1, **at(s3_endpoint))] == [
        2,
        3,
    ]


def test_a_manifest_in_a_bucket(s3_endpoint, shop) -> None:
    shop({"m/manifest.jsonl": b'{"file": "1.jpg", "text": "one"}\n{"file": "2.jpg"}\n', "m/1.jpg": JPEG})
    found = preview("s3://shop/m", "files", **at(s3_endpoint, region="eu-west-1"))
    assert [(row["file"], row["error"]) for row in found.rows] == [
        ("1.jpg", None),
        (None, 'There is no file "2.jpg".'),
    ]
    # What is stored with the import has to open the same bucket again.
    assert found.options == {"endpoint": s3_endpoint, "region": "eu-west-1"}


def test_what_is_not_there_is_said(s3_endpoint, shop) -> None:
    for location in ("s3://nowhere-at-all/p", "s3://shop/none"):
        with pytest.raises(Invalid, match="The bucket does not exist"):
            read(location, "files", secret=SECRET, **at(s3_endpoint))


@pytest.mark.parametrize(
    ("arguments", "pointer"),
    [
        ({"options": {"endpoint": "http://169.254.169.254"}}, "/options/endpoint"),
        ({"options": {"endpoint": "http://127.0.0.1:6379"}}, "/options/endpoint"),
        ({"options": {"endpoint": "http://[::ffff:169.254.169.254]"}}, "/options/endpoint"),
        ({"options": {"endpoint": "https://minio.example:444"}}, "/options/endpoint"),
        ({"options": {"endpoint": "https://minio.example@10.0.0.1"}}, "/options/endpoint"),
        ({"options": {"endpoint": ["x"]}}, "/options/endpoint"),
        ({"options": {"region": "evil.example/"}}, "/options/region"),
        ({"options": {"region": "127.0.0.1#"}}, "/options/region"),
        ({"options": {"region": ["eu-west-1"]}}, "/options/region"),
        ({"secret": {"access_key": "only"}}, "/secret"),
        ({"secret": {"secret_key": "only"}}, "/secret"),
        ({"secret": {"role_arn": "arn:aws:iam::1:role/x"}}, "/secret"),
        ({"secret": {"access_key": 1, "secret_key": 2}}, "/secret"),
        ({"secret": {"access_key": "a", "secret_key": "\ud800"}}, "/secret"),
        ({"secret": {**SECRET, "session_token": "a\r\nHost: x"}}, "/secret"),
    ],
)
def test_addresses_and_credentials_are_checked_before_any_connection(arguments, pointer) -> None:
    with override_settings(IMPORT_S3_ENDPOINTS=("https://minio.example",)), pytest.raises(Invalid) as caught:
        read("s3://shop/p", "files", **arguments)
    assert caught.value.errors[0]["pointer"] == pointer


class Listener(BaseHTTPRequestHandler):
    """Notes what it is asked and refuses it."""

    heard: list[tuple[str, str]] = []

    def do_GET(self) -> None:
        self.heard.append((self.path, self.headers.get("Authorization", "")))
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def listener() -> Iterator[str]:
    Listener.heard.clear()
    server = HTTPServer(("127.0.0.1", 0), Listener)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_processes_own_credentials_are_never_lent(listener, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AMBIENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "ambient")
    with pytest.raises(Invalid, match="refuses access"):
        read("s3://shop/p", "files", **at(listener))
    assert Listener.heard
    assert {authorization for _, authorization in Listener.heard} == {""}
    with pytest.raises(Invalid, match="refuses access"):
        read("s3://shop/p", "files", secret={"access_key": "TENANT", "secret_key": "x"}, **at(listener))
    assert "Credential=TENANT/" in Listener.heard[-1][1]


def test_the_processes_own_endpoint_is_never_used(listener, monkeypatch) -> None:
    """A bucket of AWS is asked for at AWS, also where this installation keeps its blobs elsewhere."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", listener)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", listener)
    address = buckets._address("", "eu-central-1", "shop")
    assert (address["scheme"], address["endpoint_override"]) == ("https", "s3.eu-central-1.amazonaws.com")
    assert address["force_virtual_addressing"] is True
    assert buckets._address("", "eu-central-1", "dotted.name")["force_virtual_addressing"] is False
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(Unavailable):
        read("s3://shop/p", "files", **at(closed))
    assert Listener.heard == []
