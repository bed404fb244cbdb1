"""One HTTP request of a webhook, to an address that the guard has checked, in bounded time and memory.

Redirects are not followed, no proxy is asked, nothing is unpacked. `http.client` is used directly, as the connection
has to go to a given address under the name of the host, and a limit on the whole has to hold whatever the other side
does: a watchdog shuts the socket down.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache

from django.conf import settings
from django.utils import timezone

from tenants.errors import Invalid
from tenants.events import ssrf_guard

CONNECT_S = 5.0
# For the answer's body, once its status is known.
BODY_S = 3.0
EXCERPT_BYTES = 2048
MAX_ADDRESSES = 3
USER_AGENT = "Crosslight-Webhooks/1"


@dataclass(frozen=True)
class Answer:
    """What came back: a status, or the reason why there is none."""

    status: int | None
    latency_ms: int
    error: str = ""
    excerpt: str = ""
    retry_after_s: float | None = None

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def post(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Send it once. Never raises for what the other side or the network does."""
    begun = time.monotonic()
    try:
        target = ssrf_guard.read(url)
        addresses = ssrf_guard.addresses_of(target)
        return _post(target, addresses, body, headers, begun)
    except Invalid as error:
        return Answer(None, _ms(begun), str(error.detail))
    except ssrf_guard.Blocked as error:
        return Answer(None, _ms(begun), str(error))
    except (OSError, http.client.HTTPException) as error:
        return Answer(None, _ms(begun), _describe_error(error, begun))


def _ms(begun: float) -> int:
    return round((time.monotonic() - begun) * 1000)


def _describe_error(error: Exception, begun: float) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"The certificate cannot be trusted: {error.verify_message}."
    if isinstance(error, ssl.SSLError) and not _timed_out(begun):
        return "TLS could not be agreed on."
    if isinstance(error, ConnectionRefusedError):
        return "The connection was refused."
    if isinstance(error, TimeoutError) or _timed_out(begun):
        return f"No answer within {settings.WEBHOOK_TIMEOUT_S:g} seconds."
    if isinstance(error, http.client.HTTPException) and not isinstance(error, http.client.RemoteDisconnected):
        return "The answer is not HTTP, or is too large."
    return "The connection was closed before an answer came."


def _timed_out(begun: float) -> bool:
    return time.monotonic() - begun >= settings.WEBHOOK_TIMEOUT_S - 0.1


def _post(
    target: ssrf_guard.Target, addresses: list[str], body: bytes, headers: Mapping[str, str], begun: float
) -> Answer:
    until = begun + settings.WEBHOOK_TIMEOUT_S
    sock = connect(target, addresses, until)
    # A second handle: wrapping in TLS takes the first away, and that may already be what hangs.
    with contextlib.closing(sock.dup()) as handle, contextlib.closing(sock), watchdog(handle, until):
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.sock = secured(sock, target, settings.WEBHOOK_TIMEOUT_S) if target.secure else sock
        with contextlib.closing(connection):
            connection.putrequest("POST", target.path, skip_host=True, skip_accept_encoding=True)
            for name, value in _all_headers(target, body, headers).items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            if _timed_out(begun):
                # The watchdog's end looks like the end of the headers.
                raise TimeoutError
            return _read(response, handle, begun)


def _all_headers(target: ssrf_guard.Target, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
    return {
        "Host": host_header(target),
        "User-Agent": USER_AGENT,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Accept-Encoding": "identity",
        "Connection": "close",
        **headers,
    }


def host_header(target: ssrf_guard.Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    return host if target.port == (443 if target.secure else 80) else f"{host}:{target.port}"


def connect(target: ssrf_guard.Target, addresses: list[str], until: float) -> socket.socket:
    """To the first address that answers: of those that were checked, never to the name."""
    failure = OSError("no address")
    for address in addresses[:MAX_ADDRESSES]:
        wait = min(CONNECT_S, until - time.monotonic())
        if wait <= 0:
            raise TimeoutError
        try:
            return socket.create_connection((address, target.port), timeout=wait)
        except OSError as error:
            failure = error
    raise failure


def secured(sock: socket.socket, target: ssrf_guard.Target, timeout_s: float) -> ssl.SSLSocket:
    sock.settimeout(timeout_s)
    # The certificate is checked for the name, although the connection goes to an address.
    return _tls(os.environ.get("SSL_CERT_FILE", "")).wrap_socket(sock, server_hostname=target.host)


@lru_cache(maxsize=4)
def _tls(bundle: str) -> ssl.SSLContext:
    """By the bundle that SSL_CERT_FILE names: a private installation may have its own. Reading it costs 20 ms."""
    return ssl.create_default_context()


def _read(response: http.client.HTTPResponse, handle: socket.socket, begun: float) -> Answer:
    latency, excerpt = _ms(begun), b""
    # The status is what counts; a body that dawdles is left, as is what comes after its beginning.
    with (
        watchdog(handle, time.monotonic() + BODY_S),
        contextlib.suppress(OSError, http.client.HTTPException, ValueError),
    ):
        excerpt = response.read(EXCERPT_BYTES)
    return Answer(
        response.status, latency, "", _readable(excerpt), _retry_after(response.headers.get("Retry-After"))
    )


def _readable(raw: bytes) -> str:
    """As text that a database and a page can hold."""
    text = raw.decode("utf-8", "replace")
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "�" for sign in text)


def _retry_after(value: str | None) -> float | None:
    """Seconds, from a number or a date; None for nonsense."""
    if not value:
        return None
    if value.strip().isascii() and value.strip().isdigit() and len(value) < 12:
        return float(value)
    try:
        at = parsedate_to_datetime(value)
        return max(0.0, (at - timezone.now()).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


@contextlib.contextmanager
def watchdog(handle: socket.socket, until: float) -> Iterator[None]:
    """Shut the connection down at a moment of time.monotonic, whatever is being waited for on it."""

    def bite() -> None:
        with contextlib.suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, until - time.monotonic()), bite)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
