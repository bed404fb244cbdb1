"""Data directories that two revisions of 0.2 left are started by this release: one before identity, one with it.

How they were made: upgrade/README.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg2
import pytest
import requests

from standalone.config import ROOT
from standalone.ports import free_port
from standalone.stack import Stack, embedded_services, inherited, running_stack
from tests.flows.client import Client, signed_in
from tests.standalone.test_upgrade import IN_COMMON, LEASES, LOCAL, TUS
from tests.standalone.upgrade.directory import put_back, read_told
from tests.waiting import PATIENCE_S

pytestmark = [pytest.mark.slow, pytest.mark.stack]
FOLDER = Path(__file__).with_name("upgrade")
BEFORE, WITH = "590c944", "a4fd072e"
REVISIONS = (BEFORE, WITH)
# The directory is put back on another port, and at another time.
ELSEWHERE = {"redirect_uri", "created_at"}
# What migrations write themselves.
OF_DJANGO = {"django_migrations", "django_content_type", "auth_permission"}


def archive(revision: str) -> Path:
    return FOLDER / f"directory-{revision}.tar.xz"


@dataclass
class Upgraded:
    stack: Stack
    revision: str
    told: dict[str, Any]
    # Rows of each table once the migrations were through and before anything worked.
    rows: dict[str, int]
    all_told: dict[str, Any]

    @property
    def client(self) -> Client:
        return Client(self.stack.base_url, self.told["token"])

    def page(self, path: str, cookies: dict[str, str]) -> requests.Response:
        address = f"{self.stack.base_url}{path}"
        return requests.get(address, cookies=cookies, timeout=PATIENCE_S, allow_redirects=False)

    def of_python(self, program: str) -> str:
        """What a program prints in the product's own process."""
        env = {**inherited(), **self.stack.env, "DATA_DIR": str(self.stack.data_dir)}
        command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", program]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module", params=REVISIONS)
def upgraded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    data_dir = tmp_path_factory.mktemp(f"upgrade-{request.param}") / "data"
    told = put_back(data_dir, archive(request.param))
    with embedded_services(data_dir, throwaway=False):
        rows = count_rows(data_dir)
    with running_stack(data_dir, port=free_port(), extra_env={**LEASES, **LOCAL}) as stack:
        yield Upgraded(stack, request.param, told["tenants"]["lantern"], rows, told)


def count_rows(data_dir: Path) -> dict[str, int]:
    password = json.loads((data_dir / "secrets.json").read_text())["superuser_password"]
    port = json.loads((data_dir / "run" / "ports.json").read_text())["postgres"]
    where = {"host": "127.0.0.1", "port": port, "user": "crosslight_admin", "password": password}
    connection = psycopg2.connect(**where, dbname="crosslight")
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        counted = {}
        for (name,) in cursor.fetchall():
            cursor.execute(f'SELECT count(*) FROM public."{name}"')
            counted[name] = cursor.fetchone()[0]
        return counted
    finally:
        connection.close()


def test_no_row_is_lost_by_the_migrations(upgraded: Upgraded) -> None:
    before = {name: count for name, count in upgraded.all_told["rows"].items() if name not in OF_DJANGO}
    assert {name: upgraded.rows.get(name) for name in before} == before
    assert before["asset"] >= 36 and before["moderation_record"] > 0


def test_searches_find_what_they_found(upgraded: Upgraded) -> None:
    for query, expected in upgraded.told["found"].items():
        found = upgraded.client.found(
            text=query,
            datasets=[upgraded.told["dataset"]],
            top_k=10,
            filter={"hour": {"gte": 10}},
            hybrid=False,
        )
        assert len({*found} & {*expected}) >= IN_COMMON, query


def test_who_was_signed_in_still_is(upgraded: Upgraded) -> None:
    # With identity the owner has a passkey and is still asked for it: another member is in.
    of_ann = upgraded.told.get("sessions", {}).get("ann")
    assert upgraded.page("/", of_ann or upgraded.told["session"]).status_code == 200


def test_an_open_review_is_decided_and_the_record_is_whole(upgraded: Upgraded) -> None:
    client = upgraded.client
    (review,) = upgraded.told["reviews"]
    client.json("POST", f"/reviews/{review}/claim", json={})
    client.json("POST", f"/reviews/{review}/decide", json={"decision": "allow", "reason": "It is fine."})
    report = client.json("GET", "/records/verify")
    assert (report["ok"], report["lines"] > upgraded.told["record_head"]["lines"]) == (True, True), report


def test_an_upload_goes_on(upgraded: Upgraded) -> None:
    upload = upgraded.told["upload"]
    path = f"/uploads/{upload['id']}"
    assert (
        int(upgraded.client.request("HEAD", path, headers=TUS).headers["Upload-Offset"]) == upload["offset"]
    )
    headers = {
        **TUS,
        "Upload-Offset": str(upload["offset"]),
        "Content-Type": "application/offset+octet-stream",
    }
    sent = upgraded.client.request("PATCH", path, headers=headers, data=upload["rest"].encode())
    assert sent.status_code == 204, sent.text


def test_jobs_that_waited_end_well(upgraded: Upgraded) -> None:
    ended = {kind: upgraded.client.wait({"id": job}, 300) for kind, job in upgraded.told["jobs"].items()}
    states = {kind: (job["state"], job.get("error")) for kind, job in ended.items()}
    assert states == dict.fromkeys(ended, ("succeeded", None))


def test_sealed_secrets_are_read(upgraded: Upgraded) -> None:
    """Of the webhook, and of an authenticator app that was begun."""
    secret = parse_qs(urlsplit(upgraded.told["otpauth"]).query)["secret"]
    program = (
        "from tenants.accounts import second_factor; from tenants.accounts.models import User; "
        "print(second_factor.begin(User.objects.get(email='owner@lantern.example')))"
    )
    assert parse_qs(urlsplit(upgraded.of_python(program)).query)["secret"] == secret
    program = (
        "import uuid; from tenants.scope import tenant_scope; from tenants.events import endpoints\n"
        f"with tenant_scope(uuid.UUID('{upgraded.told['id']}')):\n"
        f"    print(*endpoints.secrets_of(endpoints.get_webhook('{upgraded.told['webhook']}')))"
    )
    assert upgraded.of_python(program).startswith("whsec_")


@pytest.mark.parametrize("upgraded", [WITH], indirect=True)
class TestIdentity:
    """What the revision with identity left."""

    def test_roles_limits_connections_and_provisioning_are_as_they_were(self, upgraded: Upgraded) -> None:
        for path, before in upgraded.told["identity"].items():
            now = upgraded.client.json("GET", f"/{path}")
            assert contains(now, before), (path, now, before)

    def test_members_have_their_roles_and_narrowings(self, upgraded: Upgraded) -> None:
        members = upgraded.client.json("GET", "/members")["results"]
        rows = sorted([row["email"], row["role"], row["datasets"], row["queues"]] for row in members)
        assert rows == upgraded.told["members"]

    def test_a_narrowed_member_sees_their_dataset_alone(self, upgraded: Upgraded) -> None:
        cookies = upgraded.told["sessions"]["bea"]
        assert upgraded.page(f"/datasets/{upgraded.told['dataset']}", cookies).status_code == 200
        assert upgraded.page(f"/datasets/{upgraded.told['other']}", cookies).status_code == 404

    def test_people_sign_in_with_the_password_that_they_had(self, upgraded: Upgraded) -> None:
        session = signed_in(upgraded.stack.base_url, "ann@lantern.example", upgraded.told["password"])
        assert session.get(f"{upgraded.stack.base_url}/reviews", timeout=PATIENCE_S).status_code == 200

    def test_the_directory_comes_in_with_its_token(self, upgraded: Upgraded) -> None:
        headers = {"Authorization": f"Bearer {upgraded.told['scim']}"}
        answer = requests.get(f"{upgraded.stack.base_url}/scim/v2/Users", headers=headers, timeout=PATIENCE_S)
        assert answer.status_code == 200
        assert answer.json()["totalResults"] >= 2

    def test_the_secret_at_the_provider_is_read(self, upgraded: Upgraded) -> None:
        program = (
            "import uuid; from tenants.scope import tenant_scope; "
            "from tenants.people.sign_on import connections\n"
            f"with tenant_scope(uuid.UUID('{upgraded.told['id']}')):\n"
            "    (found,) = connections.list_connections()\n"
            "    print(connections.client_of(found.provider).secret)"
        )
        assert upgraded.of_python(program) == "kept by the provider"


def contains(now: Any, before: Any) -> bool:
    """Whether an answer says all that one of the former release said."""
    if isinstance(before, dict):
        return isinstance(now, dict) and all(
            key in now and contains(now[key], value) for key, value in before.items() if key not in ELSEWHERE
        )
    if isinstance(before, list):
        return len(now) == len(before) and all(map(contains, now, before))
    return bool(now == before)


def test_the_archives_are_of_the_revisions_that_they_name() -> None:
    tables = {revision: set(read_told(archive(revision))["tables"]) for revision in REVISIONS}
    assert tables[WITH] - tables[BEFORE] >= {"custom_role", "passkey", "sign_on_connection"}
