"""An upload outlives the process that receives it."""

from __future__ import annotations

import hashlib
import secrets
import socket
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
import requests

from tests.flows.client import Client
from tests.flows.pictures import jpeg
from tests.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.stack, pytest.mark.slow]
TUS = {"Tus-Resumable": "1.0.0"}
MIB = 1 << 20


def begin(client: Client, length: int) -> str:
    """The path of a new upload, below /api/v1."""
    answer = client.request("POST", "/uploads", headers={**TUS, "Upload-Length": str(length)})
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"].removeprefix("/api/v1")


def send(client: Client, path: str, offset: int, body: bytes) -> requests.Response:
    headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    return client.request("PATCH", path, headers=headers, data=body)


def go_on(client: Client, path: str, content: bytes) -> requests.Response:
    """What a client of the protocol does: ask how much arrived, and send the rest.

    What an older connection had sent may still be written between the two; then it asks again.
    """
    for _ in range(20):
        offset = offset_of(client, path)
        answer = send(client, path, offset, content[offset:])
        if answer.status_code != 409:
            break
    return answer


def offset_of(client: Client, path: str) -> int:
    return int(client.request("HEAD", path, headers=TUS).headers["Upload-Offset"])


def open_patch(client: Client, path: str, length: int) -> socket.socket:
    """A connection that has announced a body and not sent it yet."""
    address = urlsplit(client.base_url)
    connection = socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S)
    head = (
        f"PATCH /api/v1{path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {client.token}\r\n"
        f"Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Length: {length}\r\n"
        "Content-Type: application/offset+octet-stream\r\n\r\n"
    )
    connection.sendall(head.encode())
    return connection


def wait_for_offset(client: Client, path: str, at_least: int) -> int:
    seen = [0]

    def has_come() -> bool:
        seen.append(offset_of(client, path))
        return seen[-1] >= at_least

    until(has_come, message=lambda: seen[-1])
    return seen[-1]


def test_the_web_process_is_killed_half_way(stack, client: Client) -> None:
    content = jpeg(1) + secrets.token_bytes(8 * MIB)
    path = begin(client, len(content))
    with open_patch(client, path, len(content)) as connection:
        connection.sendall(content[: 5 * MIB])
        wait_for_offset(client, path, 4 * MIB)
        stack.wait_for_successor("web", stack.kill("web"))
    stack.wait_ready()
    offset = offset_of(client, path)
    assert 4 * MIB <= offset <= 5 * MIB
    assert send(client, path, offset + 1, b"x").status_code == 409
    assert send(client, path, offset, content[offset:]).status_code == 204
    dataset = client.dataset("resumed")
    body = {"upload": path.rpartition("/")[2]}
    added = client.json("POST", f"/datasets/{dataset}/assets", 202, json=body)
    assert added["asset"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert client.wait(added["job"])["state"] == "succeeded"


def test_a_client_that_left_goes_on_at_once(client: Client) -> None:
    """Its dead connection may still wait for bytes: that one can do no harm any more."""
    content = secrets.token_bytes(2 * MIB)
    path = begin(client, len(content))
    with open_patch(client, path, len(content)) as stalled:
        stalled.sendall(content[:MIB])
        wait_for_offset(client, path, MIB - 256 * 1024)
        assert go_on(client, path, content).status_code == 204
        with suppress(ConnectionError):  # It may be shut at once, or answered first.
            stalled.sendall(b"!" * MIB)
            assert stalled.recv(100).startswith(b"HTTP/1.1 4")
    assert client.request("HEAD", path, headers=TUS).headers["Upload-Offset"] == str(len(content))
    dataset = client.dataset("left")
    refused = client.request("POST", f"/datasets/{dataset}/assets", json={"upload": path.rpartition("/")[2]})
    assert refused.status_code == 415, "what arrived are the bytes that were sent: no kind of file"


def test_a_client_that_leaves_loses_one_piece_at_most(client: Client) -> None:
    content = secrets.token_bytes(3 * MIB)
    path = begin(client, len(content))
    with open_patch(client, path, len(content)) as connection:
        connection.sendall(content[: 2 * MIB])
    wait_for_offset(client, path, 2 * MIB - 256 * 1024)
    assert go_on(client, path, content).headers["Upload-Offset"] == str(len(content))
