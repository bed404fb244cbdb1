"""How long after an asset is ready a webhook has its alert: a stack, a receiver on this machine, texts at a pace."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from _report import sized
from _stack import Client, stack_in

ASSETS, PER_S = sized(400, 5), 5.0
ENV = {"WEBHOOK_ALLOW_HTTP": "1", "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1"}
LOST_AFTER_S = 60.0


class Receiver:
    """`came`: when the alert of each asset came first, in seconds of the epoch; `twice`: how many came again."""

    def __init__(self) -> None:
        self.came: dict[str, float] = {}
        self.twice = 0
        receiver, lock = self, threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                now = time.time()
                with lock:
                    asset = body["data"].get("asset", "")
                    receiver.twice += asset in receiver.came
                    receiver.came.setdefault(asset, now)
                self.send_response(204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def run() -> dict[str, Any]:
    receiver = Receiver()
    env = {**ENV, "WEBHOOK_PORTS": str(receiver.server.server_address[1])}
    try:
        with tempfile.TemporaryDirectory() as folder, stack_in(Path(folder), extra_env=env) as stack:
            return measure(Client(stack, "grocery"), receiver)
    finally:
        receiver.server.shutdown()


def measure(client: Client, receiver: Receiver) -> dict[str, Any]:
    dataset = client.dataset("arrivals")
    url = f"http://127.0.0.1:{receiver.server.server_address[1]}/"
    client.send("POST", "/webhooks", json={"url": url, "events": ["standing_query.matched"]})
    # Enough for everything, so that each asset is told once.
    query = {"text": "a red kettle", "datasets": [dataset]}
    sent = {"name": "all of it", "query": query, "min_relevance": 1e-6}
    client.send("POST", "/standing-queries", json=sent)
    jobs = {}
    begun = time.monotonic()
    for number in range(ASSETS):
        time.sleep(max(0.0, begun + number / PER_S - time.monotonic()))
        text = f"Kettle number {number}, enamelled, with a wooden handle."
        made = client.send("POST", f"/datasets/{dataset}/assets", files={"text": (None, text)})
        jobs[made["asset"]["id"]] = made["job"]["id"]
    until = time.monotonic() + LOST_AFTER_S
    while len(receiver.came.keys() & jobs.keys()) < ASSETS and time.monotonic() < until:
        time.sleep(0.2)
    ready = {asset: moment(client.wait(job)["finished_at"]) for asset, job in jobs.items()}
    took = [receiver.came[asset] - at for asset, at in ready.items() if asset in receiver.came]
    p50, p99 = (float(np.percentile(took, share)) for share in (50, 99))
    lost = ASSETS - len(took)
    print(f"\n{ASSETS} texts at {PER_S:.0f} a second, webhook after the asset is ready:")
    print(f"p50 {p50:.2f} s, p99 {p99:.2f} s, most {max(took):.2f} s; {lost} lost, {receiver.twice} twice")
    return {
        "assets": ASSETS,
        "p50_s": round(p50, 3),
        "p99_s": round(p99, 3),
        "lost": lost,
        "twice": receiver.twice,
    }


def moment(value: str) -> float:
    return dt.datetime.fromisoformat(value).timestamp()
