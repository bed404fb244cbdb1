"""What listens on loopback, for hosts in network namespaces: connections to an address of the bridge are passed on."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit, urlunsplit

BRIDGE = "10.77.9.254"


class Relay:
    """One listener for each port that was asked for; a daemon thread for each direction of a connection."""

    def __init__(self) -> None:
        self._listeners: dict[int, socket.socket] = {}

    def url(self, url: str) -> str:
        """The same server under an address that namespaces reach."""
        parts = urlsplit(url)
        port = self._port(parts.port or 0)
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}{BRIDGE}:{port}"))

    def _port(self, target: int) -> int:
        if target not in self._listeners:
            listener = socket.create_server((BRIDGE, 0), backlog=200)
            self._listeners[target] = listener
            threading.Thread(target=self._serve, args=(listener, target), daemon=True).start()
        return int(self._listeners[target].getsockname()[1])

    def _serve(self, listener: socket.socket, target: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", target))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()

    def close(self) -> None:
        for listener in self._listeners.values():
            listener.close()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
