"""Time stamps (RFC 3161): what an authority is asked, and what its answers are worth.

Asked through the guard, once and in bounded time; an answer is verified before it is used: it stamps what was asked, it
is no answer to an earlier question, and its signer's certificate leads to a root that is trusted for it.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cryptography import x509
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, VerifierBuilder, decode_timestamp_response
from rfc3161_client.errors import VerificationError

from tenants.errors import Invalid
from tenants.events import fetching, ssrf_guard

MAX_ANSWER = 1 << 20
_HEADERS = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}


class Unstamped(Exception):
    """There is no time stamp; the text says why, and may be shown to people."""


@dataclass(frozen=True)
class Authority:
    """`url` may hold a user name and password. `roots`: a PEM file with the certificates that it is trusted by.
    `allowed`: where it may be."""

    url: str
    roots: str
    allowed: ssrf_guard.Allowance
    within_s: float


def stamp(authority: Authority, message: bytes) -> bytes:
    """The authority's response over the message's SHA-256, verified. Raises Unstamped; never within a transaction."""
    builder = TimestampRequestBuilder().data(message).hash_algorithm(HashAlgorithm.SHA256)
    request = builder.cert_request(cert_request=True).build()
    roots, (url, headers) = _roots_of(authority), _credentials(authority.url)
    question = fetching.Question(url, MAX_ANSWER, request.as_bytes(), headers, authority.within_s)
    try:
        answer = fetching.fetch(question, authority.allowed)
    except fetching.Unreachable as error:
        raise Unstamped(f"The time stamp authority cannot be reached: {error}") from error
    if answer.status != 200:
        raise Unstamped(f"The time stamp authority answered {answer.status}.")
    if reason := why_wrong(answer.body, message, roots, nonce=request.nonce):
        raise Unstamped(f"The time stamp authority's answer cannot be used: {reason}")
    return answer.body


def check(authority: Authority) -> None:
    """Whether it could be asked, without asking it. Raises Unstamped."""
    _roots_of(authority)
    try:
        ssrf_guard.read(_credentials(authority.url)[0], authority.allowed)
    except Invalid as error:
        raise Unstamped(f"The time stamp authority's address cannot be asked: {error.detail}") from error


def _roots_of(authority: Authority) -> Sequence[x509.Certificate]:
    try:
        return read_roots(authority.roots)
    except (OSError, ValueError) as error:
        raise Unstamped(f"The time stamp authority's certificates cannot be read: {error}") from error


def _credentials(url: str) -> tuple[str, dict[str, str]]:
    """The address without user name and password, and the headers that say them."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, _HEADERS
    said = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return plain, {**_HEADERS, "Authorization": f"Basic {base64.b64encode(said).decode()}"}


def why_wrong(
    response: bytes, message: bytes, roots: Sequence[x509.Certificate], nonce: int | None = None
) -> str:
    """Why a response is no time stamp of this message by an authority of these roots; empty where it is one."""
    builder = VerifierBuilder(roots=list(roots), nonce=nonce)
    try:
        builder.build().verify_message(decode_timestamp_response(response), message)
    except (VerificationError, ValueError) as error:
        return str(error) or type(error).__name__
    return ""


def time_of(response: bytes) -> dt.datetime:
    """When the authority saw what it stamped."""
    moment: dt.datetime = decode_timestamp_response(response).tst_info.gen_time
    return moment


def token_of(response: bytes) -> bytes:
    """The token alone, without the status that the answer begins with."""
    return bytes(decode_timestamp_response(response).time_stamp_token())


@lru_cache(maxsize=4)
def read_roots(path: str) -> tuple[x509.Certificate, ...]:
    return tuple(x509.load_pem_x509_certificates(Path(path).read_bytes()))
