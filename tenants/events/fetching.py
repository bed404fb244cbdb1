"""Reading a document from an address that somebody typed: through the guard, in bounded time and memory.

Redirects are not followed: what a name leads to is checked before anything is sent there.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from django.conf import settings
from django.utils.translation import gettext as _

from tenants.errors import Invalid
from tenants.events import sending, ssrf_guard

USER_AGENT = "Crosslight/1"


class Unreachable(Exception):
    """There is no usable answer; the text says why, in the language of the request."""


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    content_type: str


@dataclass(frozen=True)
class Question:
    """A GET, or a POST where there is a body. At most `most` bytes are read of the answer.

    `within_s`: from resolving the name to the last byte; None: SSO_TIMEOUT_S.
    """

    url: str
    most: int
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    within_s: float | None = None

    @property
    def limit_s(self) -> float:
        limit: float = settings.SSO_TIMEOUT_S if self.within_s is None else self.within_s
        return limit


def fetch(question: Question, allowed: ssrf_guard.Allowance) -> Reply:
    """Ask once, in the question's time. Raises Unreachable; never from within a transaction."""
    until = time.monotonic() + question.limit_s
    try:
        target = ssrf_guard.read(question.url, allowed)
        addresses = ssrf_guard.addresses_of(target, allowed)
        return _ask(question, target, addresses, until)
    except (Invalid, ssrf_guard.Blocked) as error:
        raise Unreachable(str(error)) from error
    except ssl.SSLCertVerificationError as error:
        said = _("The certificate cannot be trusted: %(why)s.") % {"why": error.verify_message}
        raise Unreachable(said) from error
    except (OSError, http.client.HTTPException) as error:
        if time.monotonic() >= until - 0.1:
            said = _("No answer within %(count)s seconds.") % {"count": f"{question.limit_s:g}"}
            raise Unreachable(said) from error
        raise Unreachable(_("The connection failed, or the answer is not HTTP.")) from error


def _ask(question: Question, target: ssrf_guard.Target, addresses: list[str], until: float) -> Reply:
    sock = sending.connect(target, addresses, until)
    with contextlib.closing(sock.dup()) as handle, contextlib.closing(sock), sending.watchdog(handle, until):
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.sock = sending.secured(sock, target, question.limit_s) if target.secure else sock
        with contextlib.closing(connection):
            method = "GET" if question.body is None else "POST"
            connection.putrequest(method, target.path, skip_host=True, skip_accept_encoding=True)
            for name, value in _headers(question, target).items():
                connection.putheader(name, value)
            connection.endheaders(question.body)
            response = connection.getresponse()
            body = response.read(question.most + 1)
            if time.monotonic() >= until:
                # The watchdog's end looks like the end of the answer.
                raise TimeoutError
            if len(body) > question.most:
                raise Unreachable(_("The answer has more than %(count)s bytes.") % {"count": question.most})
            return Reply(response.status, body, response.headers.get("Content-Type", ""))


def _headers(question: Question, target: ssrf_guard.Target) -> dict[str, str]:
    sent = {
        "Host": sending.host_header(target),
        "User-Agent": USER_AGENT,
        "Accept-Encoding": "identity",
        "Connection": "close",
        **question.headers,
    }
    return sent if question.body is None else {**sent, "Content-Length": str(len(question.body))}
