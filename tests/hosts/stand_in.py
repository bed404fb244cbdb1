"""A small web server in place of the product: says which host it is, and loses answers where a test wants that.

`python stand_in.py ADDRESS PORT NAME FILE`; each request is a line of FILE, whatever becomes of it.
"""

from __future__ import annotations

import json
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    name, file = "", Path()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, ValueError):
            self.close_connection = True

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/readyz":
            self.say({"ready": True})
            return
        with self.file.open("a") as file:
            file.write(f"{self.command} {self.path}\n")
        if "X-Lose" in self.headers and self.is_first():
            # As a process that is killed in the middle: the kernel tells the other side.
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.say(
            {"host": self.name, "headers": {name.lower(): value for name, value in self.headers.items()}}
        )

    def is_first(self) -> bool:
        """Of all stand-ins of a test, which have folders beside each other."""
        try:
            (self.file.parent.parent / "lost").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def say(self, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - the base class asks by these names

    def log_message(self, *arguments: object) -> None:
        return


class Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


if __name__ == "__main__":
    address, port, Handler.name, file = sys.argv[1:]
    Handler.file = Path(file)
    Server((address, int(port)), Handler).serve_forever()
