"""A data directory of 0.1.0, switched off in the midst of its work, is started by this release.

How the directory was made: upgrade/README.md.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg2
import pytest
import requests

from standalone.ports import free_port
from standalone.stack import Stack, running_stack
from tests.flows.client import Client
from tests.standalone.upgrade.directory import put_back, read_told
from tests.waiting import PATIENCE_S, until

slow = [pytest.mark.slow, pytest.mark.stack]
LEASES = {"JOB_LEASE_S": "30", "JOB_RESEND_S": "2", "JOB_SWEEP_S": "1", "INDEX_FLAT_MAX": "20"}
LOCAL = {
    "WEBHOOK_ALLOW_HTTP": "1",
    "WEBHOOK_PORTS": "1024-65535",
    "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1/32",
}
# Two approximate indexes, or one and exact search, may differ in some of ten.
IN_COMMON = 8
# What was kept was embedded on a processor with VNNI. One without it rounds otherwise: texts that differ in a number
# only change places where a query fits none of them.
IN_COMMON_OF = {"a small red circle": 6}
TUS = {"Tus-Resumable": "1.0.0"}
# These jobs forget the pages of searches with what they erase.
ERASE = ("erase_subject", "delete_dataset")
# What takes longest ends by itself in one of the two tenants; in the other it goes on and is cancelled then.
CANCELLED = [("lantern", "finetune"), ("lantern", "project_map"), ("harbor", "import_assets")]


@dataclass
class Searcher:
    """Searches for every tenant in turn from the first answer of /readyz on, until it is stopped."""

    base_url: str
    tenants: dict[str, Any]
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._is_ready() and not self._stop.wait(0.05):
            pass
        clients = {slug: Client(self.base_url, told["token"]) for slug, told in self.tenants.items()}
        while not self._stop.wait(0.5):
            for slug, told in self.tenants.items():
                for query, expected in told["found"].items():
                    self._search(slug, clients[slug], query, expected)

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.base_url}/readyz", timeout=PATIENCE_S).status_code == 200
        except (requests.ConnectionError, requests.Timeout):
            return False

    def _search(self, slug: str, client: Client, query: str, expected: list[str]) -> None:
        body = {"text": query, "datasets": [self.tenants[slug]["dataset"]], "top_k": 10}
        answer = client.request("POST", "/search", json={**body, "filter": {"hour": {"gte": 10}}})
        if answer.status_code != 200:
            self.failures.append(f"{slug}, {query}: {answer.status_code} {answer.text[:300]}")
            return
        found = [hit["asset"]["id"] for hit in answer.json()["results"]]
        self.answered += 1
        if len({*found} & {*expected}) < IN_COMMON_OF.get(query, IN_COMMON):
            self.failures.append(f"{slug}, {query}: {found}, not {expected}; {answer.json()['index']}")

    def stop(self) -> None:
        self._stop.set()


@dataclass
class Upgraded:
    stack: Stack
    told: dict[str, Any]
    searcher: Searcher

    def client(self, slug: str) -> Client:
        return Client(self.stack.base_url, self.told["tenants"][slug]["token"])

    def of(self, slug: str) -> dict[str, Any]:
        return dict(self.told["tenants"][slug])


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    data_dir = tmp_path_factory.mktemp("upgrade") / "data"
    told = put_back(data_dir)
    port = free_port()
    searcher = Searcher(f"http://127.0.0.1:{port}", told["tenants"])
    thread = threading.Thread(target=searcher.run, daemon=True)
    thread.start()
    try:
        with running_stack(data_dir, port=port, extra_env={**LEASES, **LOCAL}) as stack:
            yield Upgraded(stack, told, searcher)
            searcher.stop()
            thread.join()
    finally:
        searcher.stop()


FULL = pytest.mark.parametrize("slug", ["lantern", "harbor"])
ALL = pytest.mark.parametrize("slug", ["lantern", "harbor", "jetty", "tower"])


class TestUpgrade:
    pytestmark = slow

    @ALL
    def test_a_search_goes_on_to_its_next_page(self, upgraded: Upgraded, slug: str) -> None:
        """First of all tests: these cursors are kept for five minutes, or until something of the tenant is erased."""
        client, cursors = upgraded.client(slug), upgraded.of(slug)["cursors"]
        cursor, shown = cursors["search"]
        answer = client.request("POST", "/search", json={"cursor": cursor, "top_k": 5})
        jobs = [job for kind, job in upgraded.of(slug)["jobs"].items() if kind in ERASE]
        if answer.status_code == 410 and any(
            client.json("GET", f"/jobs/{job}")["state"] != "queued" for job in jobs
        ):
            return
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["results"]) == 5
        assert not {hit["asset"]["id"] for hit in page["results"]} & {*shown}
        assert client.search(cursor=cursors["ranking"])["results"]

    @ALL
    def test_lists_go_on_where_their_cursors_stand(self, upgraded: Upgraded, slug: str) -> None:
        client, told = upgraded.client(slug), upgraded.of(slug)
        cursor, shown = told["cursors"]["assets"]
        page = client.json("GET", f"/datasets/{told['dataset']}/assets?limit=5&cursor={cursor}")
        assert len(page["results"]) == 5
        assert all(row["id"] < shown[-1] for row in page["results"])

    @pytest.mark.parametrize(("slug", "kind"), CANCELLED)
    def test_a_job_goes_on_and_is_cancelled(self, upgraded: Upgraded, slug: str, kind: str) -> None:
        client, job = upgraded.client(slug), upgraded.of(slug)["jobs"][kind]

        def goes_on() -> bool:
            return bool(client.json("GET", f"/jobs/{job}")["progress"]["done"] > 0)

        until(goes_on, 240, f"{kind} does not go on", every_s=0.25)
        answer = client.request("POST", f"/jobs/{job}/cancel")
        # A map of so few assets may be drawn before it can be cancelled.
        assert answer.status_code in (200, 202, 409), answer.text
        assert client.wait({"id": job})["state"] == (
            "succeeded" if answer.status_code == 409 else "cancelled"
        )

    @FULL
    def test_who_was_signed_in_still_is(self, upgraded: Upgraded, slug: str) -> None:
        page = f"{upgraded.stack.base_url}/"
        cookies = upgraded.of(slug)["session"]
        assert requests.get(page, cookies=cookies, timeout=60, allow_redirects=False).status_code == 200

    @FULL
    def test_an_upload_goes_on_and_is_imported(self, upgraded: Upgraded, slug: str) -> None:
        client, told = upgraded.client(slug), upgraded.of(slug)
        path, upload = f"/uploads/{told['upload']['id']}", told["upload"]
        assert int(client.request("HEAD", path, headers=TUS).headers["Upload-Offset"]) == upload["offset"]
        headers = {
            **TUS,
            "Upload-Offset": str(upload["offset"]),
            "Content-Type": "application/offset+octet-stream",
        }
        sent = client.request("PATCH", path, headers=headers, data=upload["rest"].encode())
        assert sent.status_code == 204, sent.text
        body = {"upload": upload["id"]}
        started = client.json("POST", f"/datasets/{told['imported']}/imports", 202, json=body)
        assert client.wait(started["job"], 120)["result"]["imported"] == 50

    @FULL
    def test_a_draft_is_confirmed(self, upgraded: Upgraded, slug: str) -> None:
        client, told = upgraded.client(slug), upgraded.of(slug)
        assert client.json("GET", f"/imports/{told['draft']}")["state"] == "draft"
        started = client.json("POST", f"/imports/{told['draft']}/start", 202, json={})
        assert client.wait(started["job"], 120)["result"]["imported"] == 2

    @FULL
    def test_open_reviews_are_decided(self, upgraded: Upgraded, slug: str) -> None:
        client, told = upgraded.client(slug), upgraded.of(slug)
        assert len(told["reviews"]) == 2
        for review in told["reviews"]:
            client.json("POST", f"/reviews/{review}/claim", json={})
            decision = {"decision": "allow", "reason": "It is fine."}
            client.json("POST", f"/reviews/{review}/decide", json=decision)
            assert client.json("GET", f"/reviews/{review}")["state"] == "decided"

    @FULL
    def test_the_record_is_still_whole(self, upgraded: Upgraded, slug: str) -> None:
        client, told = upgraded.client(slug), upgraded.of(slug)
        report = client.json("GET", f"/records/verify?known={told['record_head']['head']}")
        assert (report["ok"], report["lines"] >= told["record_head"]["lines"]) == (True, True), report

    @FULL
    def test_what_webhooks_wait_for_is_kept(self, upgraded: Upgraded, slug: str) -> None:
        client, told = upgraded.client(slug), upgraded.of(slug)
        rows = client.json("GET", f"/webhooks/{told['webhook']}/deliveries?limit=200")["results"]
        assert len(rows) >= min(200, told["deliveries"]) > 0
        assert client.request("POST", f"/webhooks/{told['webhook']}/test").status_code == 202

    @FULL
    def test_maps_are_shown(self, upgraded: Upgraded, slug: str) -> None:
        client, told = upgraded.client(slug), upgraded.of(slug)
        assert client.request("GET", f"/maps/{told['maps'][1]}/points").status_code == 200

    @ALL
    @pytest.mark.timeout(600)
    def test_every_job_ends_well(self, upgraded: Upgraded, slug: str) -> None:
        """Also those that were begun by workers that died, and those of a kind that is not worked on any more."""
        client, told = upgraded.client(slug), upgraded.of(slug)
        jobs = {kind: job for kind, job in told["jobs"].items() if (slug, kind) not in CANCELLED}
        ended = {kind: client.wait({"id": job}, 500) for kind, job in jobs.items()}
        assert {kind: (job["state"], job.get("error")) for kind, job in ended.items()} == dict.fromkeys(
            jobs, ("succeeded", None)
        )

    @ALL
    def test_no_search_has_failed_meanwhile(self, upgraded: Upgraded, slug: str) -> None:
        """Last but one: from the first moment on, and a while after the last job has ended."""
        before = upgraded.searcher.answered
        until(lambda: upgraded.searcher.answered >= before + 24, message="searches are not answered")
        assert [failure for failure in upgraded.searcher.failures if failure.startswith(slug)] == []

    def test_no_table_has_another_name(self, upgraded: Upgraded) -> None:
        connection = psycopg2.connect(upgraded.stack.env["MIGRATION_DATABASE_URL"])
        try:
            cursor = connection.cursor()
            cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            assert set(upgraded.told["tables"]) <= {name for (name,) in cursor.fetchall()}
        finally:
            connection.close()


def test_tasks_are_taken_by_the_names_of_the_old_release() -> None:
    """What lies in a queue while a stack is upgraded is named as the old release named it."""
    import workers.tasks  # noqa: F401
    from config.celery import app

    names = read_told()["messages"]
    assert len(names) > 30
    assert [name for name in names if name not in app.tasks] == []


def test_a_job_of_every_kind_ends_by_itself() -> None:
    tenants = read_told()["tenants"]
    jobs = {(slug, kind) for slug, told in tenants.items() for kind in told["jobs"]}
    assert {kind for _, kind in jobs - set(CANCELLED)} == {kind for _, kind in jobs}
    assert len(jobs) == 34 and set(CANCELLED) < jobs
