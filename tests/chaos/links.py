"""A TCP proxy before one server, whose connections can be cut, refused or held still."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from urllib.parse import urlsplit, urlunsplit

from tests.waiting import PATIENCE_S

#: SO_LINGER with no time: a close is a reset, as of a host that is gone.
RESET = struct.pack("ii", 1, 0)


class Link:
    """Passes connections to a port of the loopback on; a daemon thread for each direction."""

    def __init__(self, target: int = 0) -> None:
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=500)
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._refuses, self._flows = False, threading.Event()
        self._flows.set()
        threading.Thread(target=self._serve, daemon=True).start()

    def url(self, url: str) -> str:
        """The same server by way of this link."""
        parts = urlsplit(url)
        self.target = self.target or parts.port or 0
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{self.port}"))

    def cut(self) -> int:
        """Reset every connection; returns how many ends there were."""
        with self._lock:
            ends = list(self._sockets)
        for one in ends:
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                # Wakes the thread that reads it, which closes it.
                one.shutdown(socket.SHUT_RDWR)
        return len(ends)

    def refuse(self) -> None:
        self._refuses = True
        self.cut()

    def hold(self) -> None:
        """Nothing goes through, and nobody is told."""
        self._flows.clear()

    def heal(self) -> None:
        self._refuses = False
        self._flows.set()

    def close(self) -> None:
        self.heal()
        self._listener.close()
        self.cut()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._refuses:
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    near.close()
                    continue
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self.target), timeout=PATIENCE_S)
        except OSError:
            near.close()
            return
        for one in (near, far):
            one.settimeout(None)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._sockets |= {near, far}
        other = threading.Thread(target=self._pass_on, args=(far, near), daemon=True)
        other.start()
        self._pass_on(near, far)
        other.join()
        with self._lock:
            self._sockets -= {near, far}
        near.close()
        far.close()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._flows.wait()
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
