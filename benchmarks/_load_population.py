"""Who asks in `make load`: a locustfile (`locust -f`). What each request took is written as JSON lines to LOAD_OUT.

LOAD_WORLD names a JSON file: `tenants`, each with `key`, `dataset`, `assets`, and `email` and `password` of its owner.
LOAD_GREEDY makes all of them searchers of the first tenant who never pause, at the lowest priority: what others feel of
them is then the server's work, and not that they compute on the same cores.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
from pathlib import Path
from typing import Any

from locust import FastHttpUser, between, constant, events, task

WORLD = json.loads(Path(os.environ["LOAD_WORLD"]).read_text())
GREEDY = bool(os.environ.get("LOAD_GREEDY"))
if GREEDY:
    os.nice(19)
# Who is greedy is the first tenant; the population is of the others.
TENANTS = WORLD["tenants"][:1] if GREEDY else WORLD["tenants"][1:]
THINGS = ("apples", "oranges", "milk", "yoghurt", "peppers", "onions", "melons", "juice", "potatoes", "kiwis")
LOOKS = ("red", "green", "yellow", "fresh", "ripe", "small", "large", "sliced", "organic", "cheap")
TOKEN = re.compile(rb'name="csrfmiddlewaretoken" value="([^"]+)"')
_numbers = itertools.count()
_told: list[str] = []


@events.request.add_listener
def note(
    name: str, response_time: float, response: Any, exception: BaseException | None, **kwargs: Any
) -> None:
    status = getattr(response, "status_code", 0) or 0
    retry = (getattr(response, "headers", None) or {}).get("Retry-After", "")
    failed = "" if exception is None or status else type(exception).__name__
    _told.append(json.dumps([name, round(response_time, 2), status, retry, failed]))


@events.quitting.add_listener
def write(**kwargs: Any) -> None:
    Path(os.environ["LOAD_OUT"]).write_text("\n".join(_told))


class _Tenant(FastHttpUser):
    abstract = True
    # Answers that refuse are answers.
    connection_timeout, network_timeout = 30.0, 60.0

    def on_start(self) -> None:
        self.tenant = random.choice(TENANTS)
        self.headers = {"Authorization": f"Bearer {self.tenant['key']}"}

    def call(self, method: str, path: str, name: str, **more: Any) -> Any:
        more["headers"] = {**self.headers, **more.get("headers", {})}
        with self.client.request(
            method, f"/api/v1{path}", name=name, catch_response=True, **more
        ) as response:
            if response.status_code in (429, 503):
                response.success()
            return response


class Program(_Tenant):
    """A customer's own programs."""

    weight = 8
    wait_time = constant(0) if GREEDY else between(0.2, 1.0)

    @task(60)
    def search(self) -> None:
        words = f"{random.choice(LOOKS)} {random.choice(THINGS)} {next(_numbers) % 400}"
        self.call("POST", "/search", "search", json={"text": words})

    @task(0 if GREEDY else 12)
    def search_filtered(self) -> None:
        self.call(
            "POST",
            "/search",
            "search, filtered",
            json={"text": "fresh fruit", "filter": {"shelf": random.randrange(5)}},
        )

    @task(0 if GREEDY else 12)
    def asset(self) -> None:
        self.call("GET", f"/assets/{random.choice(self.tenant['assets'])}", "asset")

    @task(0 if GREEDY else 6)
    def page(self) -> None:
        self.call("GET", f"/datasets/{self.tenant['dataset']}/assets?limit=50", "page of assets")

    @task(0 if GREEDY else 6)
    def upload(self) -> None:
        text = f"{random.choice(LOOKS)} {random.choice(THINGS)} of {next(_numbers)}"
        body = {"text": text, "metadata": {"shelf": random.randrange(5)}}
        self.call("POST", f"/datasets/{self.tenant['dataset']}/assets", "upload", json=body)

    @task(0 if GREEDY else 2)
    def jobs(self) -> None:
        self.call("GET", "/jobs?limit=20", "jobs")

    @task(0 if GREEDY else 1)
    def audit(self) -> None:
        self.call("POST", "/audits", "audit", json={"text": f"A plain sentence, number {next(_numbers)}."})

    @task(0 if GREEDY else 1)
    def usage(self) -> None:
        self.call("GET", "/usage", "usage")


class Person(_Tenant):
    """Somebody at the console, signed in once."""

    weight = 0 if GREEDY else 2
    wait_time = between(1, 4)

    def on_start(self) -> None:
        super().on_start()
        self.headers = {}
        page = self.client.get("/login", name="sign in")
        found = TOKEN.search(page.content or b"")
        form = {
            "csrfmiddlewaretoken": found[1].decode() if found else "",
            "username": self.tenant["email"],
            "password": self.tenant["password"],
        }
        self.client.post("/login", form, name="sign in", headers={"Referer": f"{self.host}/login"})

    @task
    def look_around(self) -> None:
        path = random.choice(("/", "/datasets", "/search", "/jobs", "/reviews", "/usage", "/models"))
        self.client.get(path, name=f"page {path}")
