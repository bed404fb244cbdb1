"""The audit logs of all tenants, and the operators' log, as a stream to a syslog server: RFC 5424 with OCSF in it.

At least once over TCP and TLS: how far each log was sent is stored once the server has read what was sent (`deliver`).
Datagrams may be lost. Requests never wait for any of it: lines are sent by the scheduler's task, in the order of their
numbers.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import logging
import socket
import ssl
import struct
import termios
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import OuterRef, Subquery
from django.utils import timezone

from tenants.accounts import leases
from tenants.accounts.models import OperatorAct, Tenant
from tenants.events import ocsf
from tenants.events.models import AuditEvent, AuditLogLine, StreamPosition
from tenants.events.ocsf import LogLine
from tenants.scope import operator_scope, tenant_scope

log = logging.getLogger(__name__)

LEASE = "syslog"
AT_ONCE = 200
RUN_S = 50.0
CONNECT_S, SEND_S, CLOSE_S = 5.0, 20.0, 5.0
# Log audit (RFC 5424, table 1); informational and warning (table 2).
FACILITY, INFORMATIONAL, WARNING = 13, 6, 4
OPERATORS = "operators"
# The operators' log has no numbers: what is younger may still be followed by something older that commits late.
SETTLED = dt.timedelta(seconds=10)
# A datagram that fits every network's way of putting it together (RFC 5426, section 3.2 asks for 2,048 at least).
MAX_DATAGRAM = 65_000


class Failed(Exception):
    """The server cannot be reached or takes nothing."""


# --- The messages ------------------------------------------------------------------------------------------


def message_of(line: LogLine) -> bytes:
    """HEADER, no structured data, and the event as UTF-8 JSON behind its byte order mark (section 6.4)."""
    event = ocsf.event_of(line)
    severity = WARNING if event["status_id"] == ocsf.FAILURE else INFORMATIONAL
    at = line.at.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    host = (urlsplit(settings.BASE_URL).hostname or "-")[:255]
    header = f"<{FACILITY * 8 + severity}>1 {at} {host} crosslight - {line.verb[:32]} - "
    body = json.dumps(event, ensure_ascii=False, separators=(",", ":"), default=str)
    return header.encode("ascii", "replace") + b"\xef\xbb\xbf" + body.encode("utf-8", "replace")


# --- The connection ----------------------------------------------------------------------------------------


def deliver(url: str, messages: Sequence[bytes]) -> None:
    """Send them to `udp://`, `tcp://` or `tls://host:port`; returns once the other side has read them. Raises Failed.

    Syslog acknowledges nothing, but TCP tells: this side closes its half, and whoever closes theirs with something
    unread resets the connection. Who keeps theirs open has acknowledged every byte at least.
    """
    parts = urlsplit(url)
    try:
        with contextlib.closing(_connect(parts.scheme, str(parts.hostname), int(parts.port or 514))) as sock:
            if parts.scheme == "udp":
                for message in messages:
                    sock.send(message[:MAX_DATAGRAM])
                return
            # Octet counting (RFC 6587, section 3.4.1; RFC 5425, section 4.3).
            sock.sendall(b"".join(b"%d %b" % (len(message), message) for message in messages))
            _await_end(sock)
    except OSError as error:
        raise Failed(f"{parts.scheme}://{parts.hostname}:{parts.port}: {error}") from error


def _connect(scheme: str, host: str, port: int) -> socket.socket:
    if scheme == "udp":
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        datagrams = socket.socket(family, kind, proto)
        datagrams.connect(address)
        return datagrams
    sock = socket.create_connection((host, port), timeout=CONNECT_S)
    sock.settimeout(SEND_S)
    if scheme == "tls":
        context = ssl.create_default_context(cafile=settings.SYSLOG_CA or None)
        return context.wrap_socket(sock, server_hostname=host)
    return sock


def _await_end(sock: socket.socket) -> None:
    """Raises OSError where the connection was reset, or not all of it was acknowledged in time."""
    sock.settimeout(CLOSE_S)
    try:
        if isinstance(sock, ssl.SSLSocket):
            sock.unwrap()
        else:
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(1024):
                """A server has nothing to say."""
    except TimeoutError:
        if _unacknowledged(sock):
            raise
    except ssl.SSLError:
        # It has closed the connection without saying so by TLS, and without a reset.
        return


def _unacknowledged(sock: socket.socket) -> int:
    """Bytes in the send queue that the peer has not acknowledged (tcp(7), SIOCOUTQ)."""
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])


# --- The stream --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Lines of one log, and where it stands once they are sent."""

    name: str
    tenant_id: uuid.UUID | None
    lines: list[LogLine]
    position: str

    def sent(self) -> None:
        StreamPosition.objects.update_or_create(
            name=self.name, defaults={"position": self.position, "tenant_id": self.tenant_id}
        )


def stream() -> int:
    """Send what is new to SYSLOG_URL, for some seconds; returns how many lines. In no scope, one process at a time."""
    if not settings.SYSLOG_URL:
        return 0
    with leases.held(LEASE) as mine:
        if not mine:
            return 0
        try:
            return _stream()
        except Failed as error:
            log.warning("the syslog server takes nothing; trying again", extra={"why": str(error)})
            return 0


def _stream() -> int:
    count, until = 0, time.monotonic() + RUN_S
    for batch in _batches():
        deliver(settings.SYSLOG_URL, [message_of(line) for line in batch.lines])
        batch.sent()
        count += len(batch.lines)
        if time.monotonic() > until:
            break
    return count


def _batches() -> Iterator[Batch]:
    for tenant, number in _tenants_behind():
        while batch := _of_tenant(tenant, number):
            yield batch
            number = int(batch.position)
    sent = StreamPosition.objects.filter(name=OPERATORS).values_list("position", flat=True).first()
    while acts := _of_operators(sent):
        yield acts
        sent = acts.position


def _tenants_behind() -> list[tuple[Tenant, int]]:
    with operator_scope("find audit logs to stream"):
        lines = AuditLogLine.objects.filter(tenant_id=OuterRef("pk")).order_by("-sequence")
        sent = StreamPosition.objects.filter(tenant_id=OuterRef("pk"))
        tenants = Tenant.objects.annotate(
            newest=Subquery(lines.values("sequence")[:1]), sent=Subquery(sent.values("position")[:1])
        )
        rows = [(row, int(row.sent or 0), row.newest) for row in tenants.exclude(newest=None).order_by("pk")]
    return [(row, position) for row, position, last in rows if position < last]


def _of_tenant(tenant: Tenant, position: int) -> Batch | None:
    with tenant_scope(tenant.pk):
        rows = list(AuditLogLine.objects.filter(sequence__gt=position).order_by("sequence")[:AT_ONCE])
        # A line that says that a person was erased has nothing new to tell.
        events = AuditEvent.objects.in_bulk([row.event for row in rows if not row.why])
    if not rows:
        return None
    lines = [
        _line(events[row.event], tenant, row.sequence) for row in rows if not row.why and row.event in events
    ]
    return Batch(str(tenant.pk), tenant.pk, lines, str(rows[-1].sequence))


def _line(event: AuditEvent, tenant: Tenant, sequence: int) -> LogLine:
    about = (str(event.id), event.created_at, event.actor, event.verb, event.target, event.details)
    return LogLine(*about, str(tenant.pk), tenant.slug, sequence)


def _of_operators(position: str | None) -> Batch | None:
    rows = OperatorAct.objects.filter(created_at__lt=timezone.now() - SETTLED).order_by("pk")
    found = list((rows.filter(pk__gt=position) if position else rows)[:AT_ONCE])
    if not found:
        return None
    lines = [
        LogLine(
            id=str(act.id),
            at=act.created_at,
            actor=f"operator:{act.actor}",
            verb=act.verb,
            target=act.target,
            details={**act.details, "reason": act.reason, "address": act.address},
            tenant="",
            tenant_name="",
        )
        for act in found
    ]
    return Batch(OPERATORS, None, lines, str(found[-1].pk))
