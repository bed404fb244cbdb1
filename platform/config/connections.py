"""Connections that nobody uses are closed, so that they cannot take the places of those that ask something.

The server accepts so many connections at a time (`--backpressure`). It ends neither one on which nothing was ever sent,
nor one whose client does not read what it asked for: a thousand of them, without an account, kept everybody else out.
The kernel knows of each socket when something last came and how much was acknowledged (TCP_INFO, on Linux; elsewhere
nothing is closed here). Accepted ones are those with the local port of a listening socket of this process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import stat
import struct
import time
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from config.proxies import plain_address

log = logging.getLogger(__name__)

Peer = tuple[str, int]

SWEEP_S = 5.0
# Of a connection that asks nothing: until its first byte, between two requests, and where half of all places are taken.
FIRST_BYTE_S = 15.0
IDLE_S = 75.0
CROWDED_S = 5.0
# A client that is sent something takes so many bytes a second, looked at over so long.
LEAST_RATE = 1024
LOOKED_AT_S = 30.0
# Of files, indexes, databases and bodies that are spooled.
FILES = 4096
_FILES = Path("/proc/self/fd")
_ESTABLISHED = 1
# struct tcp_info of Linux: state at 0, unacked at 24, last_data_sent at 44, last_data_recv at 52 (both in ms),
# bytes_acked at 120, bytes_received at 128, notsent_bytes at 144.
_TCP_INFO = struct.Struct("=B23xI16xI4xI64xQQ8xI")


@dataclass(frozen=True)
class TcpInfo:
    """What the kernel knows of an open connection."""

    unsent: bool
    quiet_s: float
    acknowledged: int
    received: int


class Connections:
    """Those of this process, and which of them wait for an answer or are being sent one."""

    def __init__(self) -> None:
        self._asking: Counter[Peer] = Counter()
        # Of clients that are to take something: since when, and what they had taken then.
        self._taking: dict[Peer, tuple[float, int]] = {}

    @contextmanager
    def asking(self, scope: MutableMapping[str, Any]) -> Iterator[None]:
        """Around a request; `scope` as the server made it."""
        host, port = scope.get("client") or ("", 0)
        # granian tells the port as text.
        peer = (plain_address(host), int(port))
        self._asking[peer] += 1
        try:
            yield
        finally:
            self._asking[peer] -= 1
            if not self._asking[peer]:
                del self._asking[peer]

    @staticmethod
    def allow() -> None:
        """Let this process open as many files as it may have connections, and some for everything else."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = settings.WEB_CONNECTIONS + FILES
        if soft != resource.RLIM_INFINITY and soft < wanted:
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))

    async def watch(self) -> None:
        """Until it is cancelled."""
        while _FILES.exists():
            await asyncio.sleep(SWEEP_S)
            try:
                if closed := await asyncio.to_thread(self.sweep):
                    log.info("%s connections that nobody used were closed", closed)
            except OSError:
                log.warning("connections could not be looked at", exc_info=True)

    def sweep(self) -> int:
        """Close what nobody uses; returns how many."""
        accepted = _accepted()
        try:
            crowded = len(accepted) > settings.WEB_CONNECTIONS // 2
            self._taking = {peer: since for peer, since in self._taking.items() if peer in accepted}
            return sum(self._close_if_unused(peer, found, crowded) for peer, found in accepted.items())
        finally:
            for found in accepted.values():
                found.close()

    def _close_if_unused(self, peer: Peer, found: socket.socket, crowded: bool) -> bool:
        facts = _tcp_info(found)
        if facts is None or not (self._is_slow(peer, facts) or self._is_idle(peer, facts, crowded)):
            return False
        with suppress(OSError):
            # What it was sent is not kept for it, either.
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            found.shutdown(socket.SHUT_RDWR)
        return True

    def _is_idle(self, peer: Peer, facts: TcpInfo, crowded: bool) -> bool:
        if peer in self._asking:
            return False
        limit = CROWDED_S if crowded else IDLE_S if facts.received else FIRST_BYTE_S
        return facts.quiet_s > limit

    def _is_slow(self, peer: Peer, facts: TcpInfo) -> bool:
        if not facts.unsent:
            self._taking.pop(peer, None)
            return False
        now = time.monotonic()
        since, taken = self._taking.setdefault(peer, (now, facts.acknowledged))
        if now - since < LOOKED_AT_S:
            return False
        self._taking[peer] = (now, facts.acknowledged)
        return facts.acknowledged - taken < LEAST_RATE * (now - since)


def _accepted() -> dict[Peer, socket.socket]:
    """Copies of the sockets of all connections that came in."""
    listening, others = set(), []
    for entry in _FILES.iterdir():
        with suppress(OSError):
            number = int(entry.name)
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            found = socket.socket(fileno=os.dup(number))
            if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
                found.close()
            elif found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listening.add(found.getsockname()[1])
                found.close()
            else:
                others.append(found)
    accepted: dict[Peer, socket.socket] = {}
    for found in others:
        peer = _peer_of(found) if _port_of(found) in listening else None
        if peer is None or peer in accepted:
            found.close()
        else:
            accepted[peer] = found
    return accepted


def _port_of(found: socket.socket) -> int:
    with suppress(OSError):
        return int(found.getsockname()[1])
    return 0


def _peer_of(found: socket.socket) -> Peer | None:
    with suppress(OSError):
        host, port, *_ = found.getpeername()
        return plain_address(host), port
    return None


def _tcp_info(found: socket.socket) -> TcpInfo | None:
    """None of a connection that is ending, or where the kernel does not tell."""
    try:
        info = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        state, unacked, sent_ms, received_ms, acknowledged, received, unsent = _TCP_INFO.unpack_from(info)
    except (OSError, AttributeError, struct.error):
        return None
    if state != _ESTABLISHED:
        return None
    return TcpInfo(bool(unacked or unsent), min(sent_ms, received_ms) / 1000, acknowledged, received)
