"""Everything through pgbouncer in transaction mode, where each transaction may be another connection's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg2
import pytest
import requests

from standalone.config import ROOT
from standalone.ports import free_port
from tests.conftest import Party
from tests.flows.client import Client
from tests.hosts.conftest import needed
from tests.hosts.proxy import WebHost
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)
ROLES = ("DATABASE_URL", "OPERATOR_DATABASE_URL")


@pytest.fixture
def pooled() -> Iterator[dict[str, str]]:
    """The databases' URLs through a pooler that has two connections for all clients of a role."""
    (program,) = needed("pgbouncer", package="pgbouncer")
    # It refuses to run as root, and reads its files as another user.
    folder, port = Path(tempfile.mkdtemp(prefix="pgbouncer")), free_port()
    folder.chmod(0o755)
    parts = {name: urlsplit(os.environ[name]) for name in ROLES}
    real = parts["DATABASE_URL"]
    users = "".join(f'"{one.username}" "{unquote(one.password or "")}"\n' for one in parts.values())
    (folder / "users").write_text(users)
    (folder / "config").write_text(
        "[databases]\n"
        f"* = host={real.hostname} port={real.port}\n"
        "[pgbouncer]\npool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 500\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = plain\nauth_file = {folder / 'users'}\nmax_prepared_statements = 0\n"
    )
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *user, str(folder / "config")], stdout=log, stderr=log)
    urls = {
        name: f"postgres://{one.username}:{one.password}@127.0.0.1:{port}{one.path}"
        for name, one in parts.items()
    }

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            psycopg2.connect(urls["DATABASE_URL"]).close()
        except psycopg2.OperationalError:
            return False
        return True

    try:
        until(answers, 30, lambda: (folder / "log").read_text())
        yield urls
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder)


@pytest.fixture
def pooled_host(pooled: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebHost]:
    """A web process and two workers that know the database by the pooler alone."""
    # Pages without static files that were collected.
    for name, value in {**pooled, "PREPARED_STATEMENTS": "0", "DEBUG": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MIGRATION_DATABASE_URL", raising=False)
    host = WebHost.product("h1", tmp_path)
    data = {"DATA_DIR": str(tmp_path / "h1" / "data"), "STORAGE_URL": f"file://{tmp_path / 'blobs'}"}
    workers = []
    for name in ("worker-embed", "worker-general"):
        with (tmp_path / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", "standalone", "process", name]
            env = {**os.environ, **data}
            workers.append(subprocess.Popen(command, env=env, cwd=ROOT, stdout=log, stderr=log))
    try:
        host.wait()
        yield host
    finally:
        host.kill()
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(60)


def test_sign_in_upload_search_and_jobs(pooled_host: WebHost, party: Party, tmp_path: Path) -> None:
    base = f"http://{pooled_host.address}"
    browser = requests.Session()
    token = re.search(
        r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get(f"{base}/login", timeout=60).text
    )
    assert token is not None
    form = {"username": party.owner.email, "password": party.password, "csrfmiddlewaretoken": token[1]}
    signed_in = browser.post(f"{base}/login", data=form, headers={"Referer": base}, timeout=60)
    assert (signed_in.status_code, browser.get(f"{base}/data", timeout=60).status_code) == (200, 200)
    client = Client(base, party.token)
    dataset = client.dataset("pooled")
    wanted = [client.upload(dataset, text=f"a red bicycle, number {number}") for number in range(10)]
    for one in wanted:
        assert client.wait(one["job"], 120)["state"] == "succeeded"
    assert len(client.found(text="bicycle", top_k=10)) == 10
    # A job of the queue `default`, by the other worker.
    deleted = client.wait(client.json("DELETE", f"/datasets/{dataset}", 202)["job"], 120)
    assert deleted["state"] == "succeeded"
    told = "".join((tmp_path / f"{name}.log").read_text() for name in ("worker-embed", "worker-general"))
    told += (tmp_path / "h1" / "log").read_text()
    assert not re.findall(r"prepared statement \S+|cursor \S+ does not exist|InvalidCursorName", told)
