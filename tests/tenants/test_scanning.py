"""The malware scan, against a small server that speaks clamd's protocol over real sockets."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tenants.datasets import scanning
from tenants.errors import TooLarge, Unavailable
from tests.servers import EICAR, STREAM_MAX, VERSION, Clamd, UnixServer, serve
from tests.waiting import PATIENCE_S


@pytest.fixture
def dead_clamd(settings: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        settings.CLAMD_URL = f"tcp://127.0.0.1:{unused.getsockname()[1]}"


def test_clean_and_infected(clamd) -> None:
    assert scanning.scan(io.BytesIO(b"harmless")) == scanning.Verdict("clean")
    assert scanning.scan(io.BytesIO(b"")) == scanning.Verdict("clean")
    infected = io.BytesIO(b"x" * 100_000 + EICAR)
    infected.seek(7)
    assert scanning.scan(infected) == scanning.Verdict("infected", name="Eicar-Signature")
    assert infected.tell() == 0


def test_a_path_and_a_unix_socket(tmp_path: Path, settings) -> None:
    (tmp_path / "file").write_bytes(EICAR)
    with serve(UnixServer(str(tmp_path / "clamd.sock"), Clamd)) as server:
        settings.CLAMD_URL = f"unix://{tmp_path}/clamd.sock"
        assert scanning.scan(tmp_path / "file").state == "infected"
        server.shutdown()


def test_what_is_kept_says_who_scanned_it(clamd) -> None:
    kept = scanning.check_upload(io.BytesIO(b"harmless"))
    assert (kept["state"], kept["engine"], sorted(kept)) == ("clean", VERSION, ["at", "engine", "state"])
    assert scanning.status() == {"state": "on", "engine": VERSION}


def test_infected_uploads_are_refused(clamd) -> None:
    with pytest.raises(scanning.Infected, match=r"Eicar-Signature\. Nothing was kept") as refusal:
        scanning.check_upload(io.BytesIO(EICAR))
    assert (refusal.value.status, refusal.value.slug) == (422, "infected")
    assert refusal.value.extra == {"signature": "Eicar-Signature"}


@pytest.mark.parametrize(
    ("content", "reason"), [(bytes(3 * STREAM_MAX), "too-large"), (b"make it fail", "error")]
)
def test_what_the_scanner_cannot_do_is_said(clamd, content: bytes, reason: str) -> None:
    assert scanning.scan(io.BytesIO(content)) == scanning.Verdict("unscanned", reason=reason)
    assert scanning.check_upload(io.BytesIO(content))["reason"] == reason


def test_a_required_scan_refuses_what_is_too_long_to_scan(clamd, settings) -> None:
    settings.SCAN_REQUIRED = True
    with pytest.raises(TooLarge, match="StreamMaxLength"):
        scanning.check_upload(io.BytesIO(bytes(3 * STREAM_MAX)))
    assert scanning.check_upload(io.BytesIO(b"short"))["state"] == "clean"


def test_without_a_scanner_uploads_are_kept_as_not_scanned(settings) -> None:
    assert settings.CLAMD_URL == ""
    kept = scanning.check_upload(io.BytesIO(EICAR))
    assert (kept["state"], kept["reason"]) == ("not_scanned", "off")
    assert scanning.status() == {"state": "off", "engine": ""}


def test_a_dead_scanner_lets_through_or_not_as_the_installation_says(dead_clamd, settings) -> None:
    kept = scanning.check_upload(io.BytesIO(b"x"))
    assert (kept["state"], kept["reason"]) == ("not_scanned", "unreachable")
    assert scanning.status() == {"state": "unreachable", "engine": ""}
    settings.SCAN_REQUIRED = True
    with pytest.raises(Unavailable, match="does not answer"):
        scanning.check_upload(io.BytesIO(b"x"))


def _silent(connection: socket.socket) -> None:
    connection.recv(10)


def _hang_up(connection: socket.socket) -> None:
    connection.close()


@pytest.mark.parametrize("behave", [_silent, _hang_up])
def test_a_scanner_that_hangs_or_hangs_up_is_away(
    behave: Callable[[socket.socket], None], settings, monkeypatch
) -> None:
    monkeypatch.setattr(scanning, "TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.CLAMD_URL = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        answering = threading.Thread(target=lambda: behave(server.accept()[0]), daemon=True)
        answering.start()
        assert scanning.scan(io.BytesIO(b"x")) == scanning.Verdict("unscanned", reason="unreachable")
        answering.join(PATIENCE_S)
