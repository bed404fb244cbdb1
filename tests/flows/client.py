"""A client of the running stack, as a script outside the repository would write it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.waiting import until


@dataclass
class Client:
    base_url: str
    token: str
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        # Threads ask, too, and the environment changes between two tests: requests would read all of it each time.
        self.session.trust_env = False

    def request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}", **kwargs.pop("headers", {})}
        return self.session.request(
            method, f"{self.base_url}/api/v1{path}", headers=headers, timeout=60, **kwargs
        )

    def json(self, method: str, path: str, expect: int = 200, **kwargs: Any) -> Any:
        answer = self.request(method, path, **kwargs)
        assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def dataset(self, name: str) -> str:
        return self.json("POST", "/datasets", 201, json={"name": name})["id"]

    def upload(self, dataset: str, content: bytes | None = None, **fields: str) -> dict[str, Any]:
        files = {"file": ("upload", content)} if content is not None else None
        # Without a file the fields go as JSON; requests sends a form only with one.
        kwargs: dict[str, Any] = {"files": files, "data": fields} if files else {"json": fields}
        return self.json("POST", f"/datasets/{dataset}/assets", 202, **kwargs)

    def wait(self, job: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
        """The job once it has ended."""
        now: dict[str, Any] = {}

        def has_ended() -> bool:
            now.update(self.json("GET", f"/jobs/{job['id']}"))
            return now["state"] not in {"queued", "running"}

        until(has_ended, seconds, lambda: now, every_s=0.1)
        return now

    def put(self, dataset: str, content: bytes | None = None, **fields: str) -> dict[str, Any]:
        """Upload and wait; the asset, which must be ready."""
        answer = self.upload(dataset, content, **fields)
        job = self.wait(answer["job"])
        assert job["state"] == "succeeded", job
        return self.json("GET", f"/assets/{answer['asset']['id']}")

    def search(self, **query: Any) -> dict[str, Any]:
        return self.json("POST", "/search", json=query)

    def found(self, **query: Any) -> list[str]:
        return [result["asset"]["id"] for result in self.search(**query)["results"]]


def signed_in(base_url: str, email: str, password: str) -> requests.Session:
    """The session of a person, as a browser without scripts gets it."""
    session = requests.Session()
    page = session.get(f"{base_url}/login", timeout=60).text
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token
    fields = {"csrfmiddlewaretoken": token[1], "username": email, "password": password}
    answer = session.post(f"{base_url}/login", data=fields, timeout=60, allow_redirects=False)
    assert answer.status_code == 302, answer.text
    return session
