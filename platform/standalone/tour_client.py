"""What the steps of the tour share: one tenant's key at the API, and waiting for what takes a while."""

from __future__ import annotations

import time
from typing import Any

import requests

TIMEOUT_S = 60
# A training, embedding everything beside, or a clip.
LONG_S = 600
UNFINISHED = ("queued", "running")


class TourFailed(RuntimeError):
    """A step did not do what it should; the message says which and what came instead."""


class Api:
    """The few calls of the tour, with one tenant's key."""

    def __init__(self, base_url: str, key: str) -> None:
        self.root = f"{base_url}/api/v1"
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {key}"

    def call(self, method: str, path: str, expect: int | tuple[int, ...] = 200, **kwargs: Any) -> Any:
        answer = self.session.request(method, f"{self.root}{path}", timeout=TIMEOUT_S, **kwargs)
        wanted = expect if isinstance(expect, tuple) else (expect,)
        if answer.status_code not in wanted:
            raise TourFailed(f"{method} {path} answered {answer.status_code}: {answer.text[:300]}")
        kind = answer.headers.get("Content-Type", "") if answer.content else ""
        return answer.json() if "json" in kind and "ndjson" not in kind else answer

    def search(self, **query: Any) -> dict[str, Any]:
        return self.call("POST", "/search", json=query)

    def ended(self, job_id: str) -> None:
        """Wait until the job has succeeded. Raises TourFailed if it does not."""
        job = self.wait(job_id)
        if job["state"] != "succeeded":
            raise TourFailed(f"the job is {job['state']}: {job.get('error')}")

    def wait(self, job_id: str) -> dict[str, object]:
        """The job when it has ended, or as it is after ten minutes."""
        deadline = time.monotonic() + LONG_S
        job: dict[str, Any] = {"state": "queued"}
        while job["state"] in UNFINISHED and time.monotonic() < deadline:
            job = self.call("GET", f"/jobs/{job_id}", params={"wait": 30})
        return job

    def ready(self, asset_id: str) -> dict[str, Any]:
        """The asset, once it can be searched."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            asset: dict[str, Any] = self.call("GET", f"/assets/{asset_id}")
            if asset["status"] != "pending":
                break
            time.sleep(0.1)
        if asset["status"] != "ready":
            raise TourFailed(f"the asset is {asset['status']}: {asset.get('error')}")
        return asset

    def alerts(self, standing_id: str) -> list[dict[str, Any]]:
        """Of a standing query, once there are some."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            found: list[dict[str, Any]] = self.call("GET", f"/standing-queries/{standing_id}/alerts")[
                "results"
            ]
            if found:
                return found
            time.sleep(0.2)
        raise TourFailed(f"no alert within {TIMEOUT_S} s")

    def audited(self, **content: Any) -> dict[str, Any]:
        """The finished audit of a text, a file or an asset."""
        answer = self.call("POST", "/audits", (200, 202), headers={"Prefer": "wait=30"}, **content)
        while answer["audit"]["state"] == "pending":
            time.sleep(0.5)
            answer = {"audit": self.call("GET", f"/audits/{answer['audit']['id']}")}
        if answer["audit"]["state"] != "done":
            raise TourFailed(f"the audit ended badly: {answer['audit'].get('error')}")
        return answer["audit"]
