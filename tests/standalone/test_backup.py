"""Backup and restore of a populated, running installation, as its operator calls them."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import requests

from standalone.__main__ import main
from standalone.backup import manifest
from standalone.config import PRIVILEGED, ROOT
from standalone.stack import Stack, embedded_services, inherited, running_stack, wait_until
from tenants.datasets.storage import KINDS
from tests.flows.client import Client, signed_in
from tests.waiting import PATIENCE_S, pause, until

pytestmark = [pytest.mark.slow, pytest.mark.stack]
QUERY = {"text": "fresh fruit", "top_k": 20}
# What upkeep may change at any moment while the stack runs; a host says every few seconds that it lives.
LIVELY = {"key_digest", "usage_day", "quota_counter", "job", "job_dispatch", "session", "user", "node"}
# Other tests' leftovers are cleared away by upkeep every five minutes, and webhooks that they leave are tried again
# later: most readings find nothing of it, and a reading that does is taken anew.
ATTEMPTS = 5


def standalone(data_dir: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "standalone", *arguments]
    settings = {**inherited(), "DATA_DIR": str(data_dir), **env}
    return subprocess.run(
        command, env=settings, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def done(data_dir: Path, *arguments: str, **env: str) -> str:
    result = standalone(data_dir, *arguments, **env)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(data_dir: Path, *arguments: str, **env: str) -> str:
    result = standalone(data_dir, *arguments, **env)
    assert (result.returncode, result.stdout) == (1, "")
    return result.stderr.splitlines()[-1]


def rows(data_dir: Path, statement: str = "") -> dict[str, list[str]]:
    """Every row of every table of an embedded database, as its superuser sees them; or of another statement."""
    known = json.loads((data_dir / "secrets.json").read_text())
    port = json.loads((data_dir / "run" / "ports.json").read_text())["postgres"]
    connection = psycopg2.connect(
        host="127.0.0.1", port=port, user="crosslight_admin", password=known["superuser_password"],
        dbname="crosslight",
    )  # fmt: skip
    try:
        cursor = connection.cursor()
        if statement:
            cursor.execute(statement)
            found = cursor.fetchall()
            return {name: sorted(text for key, text in found if key == name) for name, _ in found}
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {table: _rows(cursor, table) for (table,) in cursor.fetchall()}
    finally:
        connection.close()


def shape(data_dir: Path) -> list[str]:
    """Privileges, owners, policies, constraints and indexes: what dumping and loading could lose."""
    return rows(data_dir, SHAPE)["shape"]


SHAPE = """
    SELECT 'shape', concat_ws(' ', relname, relowner::regrole, relrowsecurity, relforcerowsecurity, (
        SELECT string_agg(acl::text, ' ' ORDER BY acl::text) FROM unnest(relacl) acl))
    FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'shape', p::text FROM pg_policies p
    UNION ALL SELECT 'shape', d.defaclacl::text FROM pg_default_acl d
    UNION ALL SELECT 'shape', indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'shape', concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid))
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'shape', concat_ws(' ', tgrelid::regclass, pg_get_triggerdef(oid))
        FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'shape', concat_ws(' ', sequencename, last_value) FROM pg_sequences
"""


def _rows(cursor: Any, table: str) -> list[str]:
    cursor.execute(f'SELECT t::text FROM "{table}" t')
    return sorted(row for (row,) in cursor.fetchall())


def changed(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    return sorted(name for name in before if before[name] != after[name] and name not in LIVELY)


def rows_at_rest(data_dir: Path) -> dict[str, list[str]]:
    """Every row, once two readings a second apart agree: what others began has ended."""
    readings = [rows(data_dir)]

    def agree() -> bool:
        pause(1, "what is at work writes meanwhile")
        readings.append(rows(data_dir))
        return not changed(*readings[-2:])

    until(agree, 120, lambda: f"still written to: {', '.join(changed(*readings[-2:]))}")
    return readings[-1]


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != "readyz"
    }


def of_assets(found: dict[str, str]) -> dict[str, str]:
    return {path: digest for path, digest in found.items() if path.split("/")[1] in KINDS}


@pytest.fixture(scope="module")
def backup(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backups")
    done(stack.data_dir, "backup", "--to", str(folder))
    return manifest.find(folder)


@pytest.fixture
def copy(backup: Path, tmp_path: Path) -> Path:
    """A backup to be damaged."""
    shutil.copytree(backup, tmp_path / "copy")
    return tmp_path / "copy"


def key_of(stack: Stack) -> str:
    return str(next(t for t in stack.demo["tenants"] if t["slug"] == "grocery")["api_key"])


def found(stack: Stack, key: str) -> list[tuple[str, float]]:
    answer = requests.post(
        f"{stack.base_url}/api/v1/search",
        json=QUERY,
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return [(result["asset"]["id"], result["score"]) for result in answer.json()["results"]]


def test_what_is_restored_is_the_same(stack: Stack, tmp_path: Path) -> None:
    """Taken while the stack runs: each row, each file, the searches, the keys, the sessions."""
    key, entry = key_of(stack), next(t for t in stack.demo["tenants"] if t["slug"] == "grocery")
    session = signed_in(stack.base_url, entry["user"], entry["password"])
    expected = found(stack, key)
    differing = []
    for _attempt in range(ATTEMPTS):
        before, stored = rows_at_rest(stack.data_dir), files(stack.data_dir / "blobs")
        shutil.rmtree(tmp_path / "backups", ignore_errors=True)
        done(stack.data_dir, "backup", "--to", str(tmp_path / "backups"))
        after, held = rows(stack.data_dir), files(stack.data_dir / "blobs")
        differing.append(changed(before, after) or sorted(set(stored.items()) ^ set(held.items())))
        if not differing[-1]:
            break
    assert [] in differing, f"changed while a backup was made: {differing}"
    steady = {name for name in before if before[name] == after[name]}
    printed = done(tmp_path / "new", "restore", str(tmp_path / "backups"))
    assert printed.startswith(f"restored {tmp_path}/backups/")
    with embedded_services(tmp_path / "new", throwaway=False, migrated=False):
        restored = rows(tmp_path / "new")
        assert shape(tmp_path / "new") == shape(stack.data_dir)
    assert {name: restored[name] for name in steady} == {name: before[name] for name in steady}
    assert set(restored) == set(before)
    assert {name: len(restored[name]) for name in before} == {name: len(after[name]) for name in before}
    saved = files(manifest.find(tmp_path / "backups") / "files")
    assert files(tmp_path / "new" / "blobs") == saved
    # Files of assets that only other tests' leftovers explain have no row, and are left out.
    known = {field for row in restored["blob"] for field in row.strip("()").split(",") if len(field) == 64}
    assert of_assets(saved) == {
        path: digest for path, digest in of_assets(stored).items() if path.rsplit("/", 1)[1] in known
    }
    with running_stack(tmp_path / "new", processes=("web",), demo=True) as again:
        assert found(again, key) == expected
        assert len(expected) == 20
        page = again.base_url + "/"
        assert requests.get(page, cookies=session.cookies.get_dict(), timeout=60).status_code == 200
        assert requests.get(page, timeout=60, allow_redirects=False).status_code == 302


def test_a_backup_is_private_and_says_what_is_in_it(backup: Path) -> None:
    for name in ("secrets.json", "demo.json", "database.dump", "manifest.json"):
        assert stat.S_IMODE((backup / name).stat().st_mode) == 0o600
    described = manifest.read_manifest(backup)
    assert described.tables["asset"]["rows"] > 300
    assert (described.storage["missing"], described.storage["damaged"]) == ([], [])
    assert described.migrations["datasets"][0] == "0001_initial"
    # Anybody can check it, without this product.
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=backup, check=True, timeout=60)


def test_a_second_backup_copies_only_what_is_new(stack: Stack, tmp_path: Path) -> None:
    done(stack.data_dir, "backup", "--to", str(tmp_path))
    first = manifest.find(tmp_path)
    client, text = Client(stack.base_url, key_of(stack)), f"no earlier backup has {secrets.token_hex(8)}"
    asset = client.put(client.dataset(secrets.token_hex(8)), text=text)
    wait_until(lambda: name_now() > first.name, 5, lambda: "the clock stands")
    done(stack.data_dir, "backup", "--to", str(tmp_path))
    client.wait(client.json("DELETE", f"/datasets/{asset['dataset']}", 202)["job"])
    second = manifest.find(tmp_path)
    stored = manifest.verify(second).storage
    assert (stored["new_files"], stored["new_bytes"]) == (1, len(text))
    # Upkeep may have removed a file of other tests meanwhile.
    [added] = set(files(second / "files")) - set(files(first / "files"))
    assert added.endswith(asset["sha256"])
    assert stored["files"] == len(files(second / "files"))
    shutil.rmtree(first)
    manifest.verify(second)


def name_now() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def test_verify_prints_the_digest_of_every_table(backup: Path) -> None:
    printed = done(backup, "verify", str(backup.parent))
    described = manifest.read_manifest(backup)
    for name, table in described.tables.items():
        assert f"{table['sha256']}  {table['rows']:>9}  {name}\n" in printed
    assert f"intact: {backup}" in printed


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def a_file(folder: Path) -> Path:
    return next(path for path in sorted((folder / "files").rglob("*")) if path.is_file())


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a byte of the dump": (lambda b: flip(b / "database.dump"), "database.dump was changed"),
    "a byte of a file": (lambda b: flip(a_file(b)), "was changed"),
    "a missing file": (lambda b: a_file(b).unlink(), "is missing"),
    "missing secrets": (lambda b: (b / "secrets.json").unlink(), "secrets.json is missing"),
    "a byte of the sums": (lambda b: flip(b / "SHA256SUMS"), "SHA256SUMS is missing or was changed"),
    "a byte of the manifest": (lambda b: flip(b / "manifest.json"), "manifest.json"),
    "no signature": (lambda b: (b / "manifest.sig").unlink(), "is not signed"),
    "a byte of the signature": (lambda b: flip(b / "manifest.sig"), "manifest.sig"),
    "another manifest": (lambda b: rewritten(b, version="9.9"), "does not fit its manifest.json"),
    "a cut manifest": (lambda b: os.truncate(b / "manifest.json", 500), "manifest.json cannot be read"),
    "no manifest": (lambda b: (b / "manifest.json").unlink(), "no manifest.json"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_backup_is_refused_before_anything_changes(
    copy: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, complaint = DAMAGE[what]
    damage(copy)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "new"))
    assert main(["restore", str(copy)]) == 1
    assert complaint in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "new").exists()


def rewritten(folder: Path, **changes: Any) -> None:
    """With the signature that it had."""
    signature = (folder / manifest.SIGNATURE).read_bytes()
    rewrite(folder, **changes)
    (folder / manifest.SIGNATURE).write_bytes(signature)


def rewrite(folder: Path, **changes: Any) -> None:
    body = json.loads((folder / "manifest.json").read_text())
    body.pop("sha256")
    body |= changes
    (folder / "manifest.json").write_text(json.dumps({**body, "sha256": manifest.digest_of(body)}))
    (folder / manifest.SIGNATURE).unlink(missing_ok=True)


def test_what_a_newer_release_made_is_refused(copy: Path, tmp_path: Path) -> None:
    migrations = manifest.read_manifest(copy).migrations
    later = {**migrations, "datasets": [*migrations["datasets"], "0099_later"]}
    rewrite(copy, migrations=later, version="9.9")
    complaint = refused(tmp_path / "new", "restore", str(copy), "--unsigned")
    assert "made by a newer release (9.9)" in complaint
    assert "datasets.0099_later" in complaint
    rewrite(copy, format=3, unheard_of=True)
    assert "has format 3, this release reads up to 2" in refused(tmp_path / "new", "restore", str(copy))
    assert not (tmp_path / "new").exists()


def test_another_secret_key_is_refused(backup: Path, tmp_path: Path) -> None:
    complaint = refused(tmp_path / "new", "restore", str(backup), SECRET_KEY="another")
    assert "SECRET_KEY in the environment is another one" in complaint
    assert not (tmp_path / "new").exists()


def test_a_filled_directory_is_kept(backup: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "blobs" / "mine").mkdir(parents=True)
    (target / "secrets.json").write_text('{"secret_key": "mine"}')
    complaint = refused(target, "restore", str(backup))
    assert "is not empty: it has secrets.json, blobs" in complaint
    assert sorted(path.name for path in target.iterdir()) == ["blobs", "secrets.json"]
    done(target, "restore", str(backup), "--force")
    (aside,) = target.glob("replaced-*")
    assert (aside / "secrets.json").read_text() == '{"secret_key": "mine"}'
    assert (aside / "blobs" / "mine").is_dir()
    assert (target / "secrets.json").read_bytes() == (backup / "secrets.json").read_bytes()


def test_a_running_stack_is_not_restored_into(stack: Stack, backup: Path) -> None:
    assert "Another stack (process" in refused(stack.data_dir, "restore", str(backup), "--force")
    assert not (stack.data_dir / "restoring").exists()
    stack.wait_ready()


def begun(data_dir: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "standalone", *arguments]
    env = {**inherited(), "DATA_DIR": str(data_dir)}
    return subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def killed_when(process: subprocess.Popen[bytes], seen: Callable[[], bool]) -> None:
    wait_until(lambda: seen() or process.poll() is not None, 60, lambda: "never seen")
    process.send_signal(signal.SIGKILL)
    assert process.wait(PATIENCE_S) == -signal.SIGKILL, "it was over before it could be killed"


def test_a_killed_backup_looks_like_none(stack: Stack, tmp_path: Path) -> None:
    process = begun(stack.data_dir, "backup", "--to", str(tmp_path))
    killed_when(process, lambda: any(tmp_path.glob(".*.partial/files/*")))
    assert manifest.complete_backups(tmp_path) == []
    assert "holds none" in refused(tmp_path / "new", "restore", str(tmp_path))
    done(stack.data_dir, "backup", "--to", str(tmp_path))
    assert len(manifest.complete_backups(tmp_path)) == 1
    assert list(tmp_path.glob(".*.partial")) == []
    manifest.verify(manifest.find(tmp_path))


@pytest.mark.parametrize("mark", ["blobs/*/original/*", "postgres/PG_VERSION"])
def test_a_killed_restore_is_recognised_and_goes_on(backup: Path, tmp_path: Path, mark: str) -> None:
    target = tmp_path / "target"
    process = begun(target, "restore", str(backup))
    killed_when(process, lambda: any((target / "restoring").glob(mark)))
    assert not (target / "blobs").exists()
    complaint = refused(target, "services")
    assert f"A restore into {target} was interrupted" in complaint
    done(target, "restore", str(backup))
    assert not (target / "restoring").exists()
    assert files(target / "blobs") == files(backup / "files")
    # The restore itself has compared every row with the manifest.
    assert (target / "postgres" / "PG_VERSION").exists()


@pytest.fixture
def behind(tmp_path: Path) -> Path:
    """The data directory of a stopped stack whose database an older release has left."""
    with embedded_services(tmp_path / "old", throwaway=False, migrated=False) as older:
        env = {**inherited(), **older.env}
        for app in ("jobs", "retrieval"):
            command = [sys.executable, "manage.py", "migrate", app, "0001", "--database=migration"]
            subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, timeout=120)
    return tmp_path / "old"


def test_a_stopped_stack_is_saved_as_it_is_and_migrated_when_it_is_restored(
    behind: Path, tmp_path: Path
) -> None:
    done(behind, "backup")
    made = manifest.find(behind / "backups")
    assert manifest.read_manifest(made).migrations["datasets"] == ["0001_initial"]
    assert manifest.read_manifest(made).tables["plan"]["rows"] == 0
    # Its database has no table for the key that would sign.
    assert not (made / manifest.SIGNATURE).exists()
    assert "is not signed" in refused(tmp_path / "new", "restore", str(made))
    done(tmp_path / "new", "restore", str(made), "--unsigned")
    with embedded_services(tmp_path / "new", throwaway=False) as restored:
        command = [sys.executable, "manage.py", "migrate", "--check", "--database=migration"]
        env = {**inherited(), **restored.env}
        subprocess.run(command, cwd=ROOT, env=env, check=True, timeout=120)


def test_an_external_database_is_filled_when_it_is_empty(backup: Path, tmp_path: Path) -> None:
    with embedded_services(tmp_path / "server", throwaway=False, migrated=False) as server:
        env = server.env
        urls = {name: env[name] for name in ("DATABASE_URL", *PRIVILEGED)}
        done(tmp_path / "new", "restore", str(backup), **urls)
        assert not (tmp_path / "new" / "postgres").exists()
        assert files(tmp_path / "new" / "blobs") == files(backup / "files")
        complaint = refused(tmp_path / "other", "restore", str(backup), **urls)
        assert "The database of DATABASE_URL is not empty" in complaint
        assert not (tmp_path / "other").exists()
        printed = done(tmp_path / "new", "backup", REDIS_URL=env["REDIS_URL"], **urls)
        assert printed.startswith(f"backup {tmp_path}/new/backups/")
        again = manifest.verify(manifest.find(tmp_path / "new" / "backups"))
        assert again.tables == manifest.read_manifest(backup).tables
