"""An endpoint of webhooks that keeps what it is sent, and answers with 204 but while it is told to fail."""

from __future__ import annotations

import http.server
import threading
from collections import defaultdict
from typing import Any

#: What a failing endpoint does: an error of its own, a refusal for a while, or it takes the message and says nothing.
FAILURES = ("500", "429", "silence")


class Receiver:
    """`failing`: one of FAILURES, or empty. No message meets it twice, as the third try comes after five minutes."""

    def __init__(self) -> None:
        self.failing = ""
        self.failed: set[str] = set()
        #: By tenant and webhook-id, the bodies that came under it.
        self.messages: dict[tuple[str, str], list[bytes]] = defaultdict(list)
        lock, messages, receiver = threading.Lock(), self.messages, self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                message, status = self.headers["webhook-id"], "204"
                with lock:
                    if receiver.failing and message not in receiver.failed:
                        status = receiver.failing
                        receiver.failed.add(message)
                    if status in ("204", "silence"):
                        messages[self.path.strip("/"), message].append(body)
                if status == "silence":
                    self.close_connection = True
                    return
                self.send_response(int(status))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
