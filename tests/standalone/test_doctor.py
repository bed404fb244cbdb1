"""`manage.py doctor` on installations in which something is really broken."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg2
import pytest
import redis
from django.core.management import CommandError, call_command

from ml import sandbox
from standalone.config import ROOT
from standalone.doctor import configuration, processing, storage, surroundings
from standalone.doctor.findings import Check, Options, as_dicts, examine, fail, ok
from standalone.stack import Stack, embedded_services, inherited
from tenants.accounts.models import QuotaCounter
from tenants.datasets.services import create_dataset
from tenants.jobs.kinds import QUEUES
from tenants.jobs.models import Job, JobDispatch
from tenants.moderation.rules.static_checks import InstalledDetector
from tenants.pipeline.assets.services import add_asset
from tenants.pipeline.upkeep.periodic import note_canary
from tenants.retrieval.models import QueryPicture
from tenants.scope import operator_scope, tenant_scope
from tests.flows.client import Client
from tests.waiting import pause

SHALLOW, DEEP = Options(), Options(deep=True)


def doctor(data_dir: Path, *options: str, **env: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit status and findings by check."""
    command = [sys.executable, "manage.py", "doctor", "--json", *options]
    settings = {**inherited(), "DATA_DIR": str(data_dir), **env}
    done = subprocess.run(
        command, env=settings, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, {finding["check"]: finding for finding in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A scratch database to be broken, with nobody at work."""
    with embedded_services(tmp_path_factory.mktemp("doctor")) as stack:
        yield stack


def as_admin(services: Stack, *statements: str) -> None:
    known = json.loads((services.data_dir / "secrets.json").read_text())
    url = services.env["DATABASE_URL"].replace(
        f"crosslight_app:{known['app_password']}", f"crosslight_admin:{known['superuser_password']}"
    )
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        for statement in statements:
            connection.cursor().execute(statement)
    finally:
        connection.close()


@pytest.mark.stack
def test_a_whole_installation_has_nothing_that_fails(stack: Stack) -> None:
    # Other tests save this stack, and remove what they saved.
    (stack.data_dir / surroundings.LAST).unlink(missing_ok=True)
    status, found = doctor(stack.data_dir)
    assert {name: f for name, f in found.items() if f["verdict"] in ("fail", "skipped")} == {}
    assert status == 0
    # What a demo installation does not have is told, and what to do about it; the disk is this machine's own.
    told = {name for name, finding in found.items() if finding["verdict"] == "warn"}
    assert {"malware-scan", "mail"} <= told
    assert told <= {"malware-scan", "mail", "backups", "record-anchors", "stuck-jobs", "front-end", "disk"}
    assert all(found[name]["advice"] for name in told)
    assert found["database"]["what"].startswith("Postgres 18")
    assert "sampled files are there and unchanged" in found["blobs"]["what"]
    assert found["workers"]["what"] == "7 answer, every queue is served"


@pytest.mark.stack
def test_lost_and_changed_files_are_named(stack: Stack) -> None:
    entry = next(t for t in stack.demo["tenants"] if t["slug"] == "clinic")
    client = Client(stack.base_url, entry["api_key"])
    dataset = client.dataset(secrets.token_hex(8))
    lost, changed = (client.put(dataset, text=f"{word} {dataset}") for word in ("lost", "changed"))
    path = {asset["id"]: next((stack.data_dir / "blobs").glob(f"*/original/*/{asset['sha256']}"))
            for asset in (lost, changed)}  # fmt: skip
    content = path[changed["id"]].read_bytes()
    path[lost["id"]].unlink()
    path[changed["id"]].chmod(0o600)
    path[changed["id"]].write_bytes(content[:-1] + b"!")
    stray = path[changed["id"]].parents[1] / "ee" / ("e" * 64)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"of nobody")
    os.utime(stray, (time.time() - 7200,) * 2)
    status, found = doctor(stack.data_dir, "--deep", "--only", "blobs,files-without-rows,quotas")
    stray.unlink()
    client.wait(client.json("DELETE", f"/datasets/{dataset}", 202)["job"])
    assert status == 1
    blobs = found["blobs"]
    assert blobs["verdict"] == "fail"
    assert f"1 files are missing ({path[lost['id']].relative_to(stack.data_dir / 'blobs')})" in blobs["what"]
    assert (
        f"1 files were changed ({path[changed['id']].relative_to(stack.data_dir / 'blobs')})" in blobs["what"]
    )
    assert "Copy them from a backup" in blobs["advice"]
    assert found["files-without-rows"]["verdict"] == "warn"
    assert str(stray.relative_to(stack.data_dir / "blobs")) in found["files-without-rows"]["what"]
    # What other tests put into this stack by hand may drift; the demo's tenants do not.
    drifting = found["quotas"]["what"]
    assert not [t["slug"] for t in stack.demo["tenants"] if f"{t['slug']}: " in drifting], drifting


@pytest.mark.slow
def test_broken_isolation_is_named(services: Stack) -> None:
    as_admin(
        services,
        "DROP POLICY tenant_isolation ON asset",
        "ALTER TABLE facet NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE vector DISABLE ROW LEVEL SECURITY",
    )
    names = "database-role,operator-role,row-level-security,migrations"
    status, found = doctor(services.data_dir, "--only", names)
    assert (status, found["row-level-security"]["verdict"]) == (1, "fail")
    what = found["row-level-security"]["what"]
    assert "asset has no policy" in what
    assert "facet does not force it on its owner" in what
    assert "vector has row-level security off" in what
    assert "CREATE POLICY tenant_isolation" in found["row-level-security"]["advice"]
    assert [found[name]["verdict"] for name in ("database-role", "operator-role", "migrations")] == ["ok"] * 3
    rule = "tenant_id = NULLIF(current_setting('app.tenant', true), '')::uuid"
    as_admin(
        services,
        f"CREATE POLICY tenant_isolation ON asset USING ({rule}) WITH CHECK ({rule})",
        "ALTER TABLE facet FORCE ROW LEVEL SECURITY",
        "ALTER TABLE vector ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY open_to_all ON dataset USING (true)",
    )
    assert (
        "dataset has other rules (another policy: open_to_all)"
        in (doctor(services.data_dir, "--only", names)[1]["row-level-security"]["what"])
    )
    as_admin(services, "DROP POLICY open_to_all ON dataset")
    assert doctor(services.data_dir, "--only", names)[0] == 0


@pytest.mark.slow
def test_roles_with_too_much_and_too_little_power_are_named(services: Stack) -> None:
    as_admin(
        services,
        "ALTER ROLE crosslight_app BYPASSRLS",
        "ALTER ROLE crosslight_operator NOBYPASSRLS",
        "DELETE FROM django_migrations WHERE app = 'events' AND name = '0001_initial'",
        "INSERT INTO django_migrations (app, name, applied) VALUES ('datasets', '0099_later', now())",
    )
    try:
        _, found = doctor(services.data_dir, "--only", "database-role,operator-role,migrations,stuck-jobs")
        assert (
            "crosslight_app has BYPASSRLS: every tenant could see every other"
            in found["database-role"]["what"]
        )
        assert "does not bypass row-level security" in found["operator-role"]["what"]
        assert "provision.sql" in found["operator-role"]["advice"]
        assert found["migrations"]["what"] == "the database is of a newer release: datasets.0099_later"
        assert found["stuck-jobs"]["verdict"] == "skipped"
        as_admin(
            services,
            "DELETE FROM django_migrations WHERE name = '0099_later'",
            "ALTER ROLE crosslight_operator BYPASSRLS",
            "GRANT crosslight_operator TO crosslight_app WITH INHERIT FALSE, SET TRUE",
        )
        _, found = doctor(services.data_dir, "--only", "operator-role,migrations")
        assert found["migrations"]["what"] == "not migrated: events.0001_initial"
        assert "manage.py migrate --database=migration" in found["migrations"]["advice"]
        assert "the application's role can become crosslight_operator" in found["operator-role"]["what"]
    finally:
        as_admin(
            services,
            "ALTER ROLE crosslight_app NOBYPASSRLS",
            "REVOKE crosslight_operator FROM crosslight_app",
            "INSERT INTO django_migrations (app, name, applied) VALUES ('events', '0001_initial', now())",
        )


@pytest.mark.slow
def test_a_valkey_that_evicts_and_forgets_is_named(services: Stack) -> None:
    broker = redis.Redis.from_url(services.env["REDIS_URL"])
    broker.config_set("maxmemory-policy", "allkeys-lru")
    broker.config_set("appendonly", "no")
    try:
        status, found = doctor(
            services.data_dir, "--only", "valkey-memory,valkey-persistence,workers,canaries"
        )
    finally:
        broker.config_set("maxmemory-policy", "volatile-lru")
        broker.config_set("appendonly", "yes")
    assert status == 1
    assert "maxmemory-policy is allkeys-lru" in found["valkey-memory"]["what"]
    assert found["valkey-persistence"]["verdict"] == "warn"
    assert "nobody serves the queues embed, media, import" in found["workers"]["what"]
    assert (
        "worker-embed, worker-bulk, worker-audit, worker-train, worker-generate, worker-hooks, worker-general"
        in found["workers"]["advice"]
    )
    assert found["canaries"]["what"] == "no canary ever came through"


@pytest.mark.slow
def test_it_tells_what_is_down_when_everything_is_down(tmp_path: Path) -> None:
    """Servers that refuse, a folder that is no folder, models that are gone: one answer, in seconds."""
    (tmp_path / "blobs").write_text("not a folder")
    env = {"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1",
           "CROSSLIGHT_MODELS": str(tmp_path / "away"), "SECRET_KEY": "short", "DEBUG": "1",
           "BASE_URL": "http://shop.example", "CLAMD_URL": "tcp://127.0.0.1:1",
           "STATIC_DIR": str(tmp_path / "static")}  # fmt: skip
    status, found = doctor(tmp_path, **env)
    assert status == 1
    failed = {name for name, finding in found.items() if finding["verdict"] == "fail"}
    assert failed >= {
        *("secret-key", "debug", "allowed-hosts", "database", "valkey", "storage", "models", "malware-scan"),
        "front-end",
    }
    assert {name for name, f in found.items() if f["verdict"] == "skipped"} == {
        *("clock", "migrations", "database-role", "operator-role", "row-level-security", "valkey-memory"),
        *("valkey-persistence", "blobs", "files-without-rows", "quotas", "workers", "canaries"),
        *("overdue-jobs", "stuck-jobs", "indexes", "engines", "index-builds", "signing-keys"),
        *("record-anchors", "wal-archive", "self-service"),
    }
    assert "DATABASE_URL" in found["database"]["advice"]
    assert f"python -m ml.compression prepare --out {tmp_path}/away" in found["models"]["advice"]
    assert "people sign in over http" in found["https"]["what"]
    assert found["decoder"]["verdict"] == "ok"
    here = sandbox.describe()
    assert (found["children"]["verdict"] == "ok") == bool(here.landlock and here.seccomp)
    assert (f"Landlock {here.landlock}" in found["children"]["what"]) == bool(here.landlock)


def test_the_table_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("doctor", "--only", "mail,python", "--no-color")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ok", "python", sys.version.split()[0]]
    assert lines[1].startswith("warn    mail                 no mail server")
    assert lines[2].strip().startswith("→ Set EMAIL_URL=")
    assert lines[-1] == "1 ok, 1 warn"


def test_an_unknown_check_is_refused() -> None:
    with pytest.raises(CommandError, match=r"No such check: luck\. There are: python"):
        call_command("doctor", "--only", "luck")


def test_what_hangs_or_raises_is_a_finding_too() -> None:
    def hangs(options: Options):
        pause(30, "a check that hangs")

    def raises(options: Options):
        raise OSError("the cable is out\nand more")

    checks = [
        Check("hangs", hangs, timeout_s=0.1, advice="pull"),
        Check("raises", raises),
        Check("after", lambda options: ok("fine"), needs="raises"),
        Check("alone", lambda options: fail("broken", "mend")),
    ]
    found = as_dicts(examine(checks, SHALLOW))
    assert [(f["check"], f["verdict"], f["what"]) for f in found] == [
        ("hangs", "fail", "no answer within 0 s"),
        ("raises", "fail", "OSError: the cable is out"),
        ("after", "skipped", "not examined: see raises"),
        ("alone", "fail", "broken"),
    ]
    assert found[0]["advice"] == "pull"


def test_counters_that_drift_are_named(party) -> None:
    with tenant_scope(party.id):
        add_asset(dataset_id=create_dataset(name="d").id, text="counted")
        QuotaCounter.objects.filter(resource="assets").update(used=5)
        assert list(storage._drift()) == ["assets 5 counted, 1 stored"]
        QuotaCounter.objects.filter(resource="assets").update(used=1)
        assert list(storage._drift()) == []
        # What is kept of searches by a picture is stored, too.
        bytes_used = QuotaCounter.objects.get(resource="bytes").used
        QueryPicture.objects.create(sha256="0" * 64, bytes=100, used_at=datetime.now(UTC))
        assert list(storage._drift()) == [f"bytes {bytes_used:g} counted, {bytes_used + 100:g} stored"]


def test_jobs_that_nobody_works_on_are_named(party) -> None:
    # Other tests leave some behind, too.
    with operator_scope("test"):
        Job.objects.filter(state="running").update(state="cancelled", finished_at="2026-01-01T00:00:00Z")
    with tenant_scope(party.id):
        job = add_asset(dataset_id=create_dataset(name="d").id, text="stuck").job
        Job.objects.filter(pk=job.id).update(state="running", lease_until="2026-01-01T00:00:00Z")
    JobDispatch.objects.filter(job_id=job.id).update(waiting=False, due_at="2026-01-01T00:00:00Z")
    stuck, overdue = processing.stuck(SHALLOW), processing.overdue(SHALLOW)
    assert (stuck.verdict, overdue.verdict) == ("fail", "fail")
    assert "jobs run without a worker" in stuck.what
    assert "jobs wait to be sent again (" in overdue.what
    assert "restart beat" in overdue.advice
    with tenant_scope(party.id):
        Job.objects.filter(pk=job.id).update(
            state="failed", finished_at="2126-01-01T00:00:00Z", error={"type": "dead-letter"}
        )
    JobDispatch.objects.filter(job_id=job.id).delete()
    assert "jobs were given up in the last day: embed_asset" in processing.stuck(SHALLOW).what


def test_a_queue_without_life_is_named() -> None:
    for queue in QUEUES:
        note_canary(queue, time.time())
    assert processing.canaries(SHALLOW).verdict == "ok"
    note_canary("embed", time.time() - 300)
    told = processing.canaries(SHALLOW)
    assert (told.verdict, told.what) == ("warn", "nothing came through for long: embed 300 s")
    assert math.isfinite(processing.OLD_CANARY_S)


def test_changed_models_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "var" / "models", tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("CROSSLIGHT_MODELS", str(tmp_path))
    assert processing.models(SHALLOW).verdict == "ok"
    with (tmp_path / "minilm.onnx").open("r+b") as file:
        file.seek(1000)
        file.write(b"\0\1\2\3")
    told = processing.models(SHALLOW)
    assert told.verdict == "fail"
    assert f"the models in {tmp_path} are missing, damaged or of another release" in told.what


def test_detectors_that_cannot_look_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [
        InstalledDetector("abuse"),
        InstalledDetector("picture-safety", missing="No model is configured."),
    ]
    monkeypatch.setattr(processing, "installed_detectors", lambda: tuple(here))
    assert (processing.detectors(SHALLOW).verdict, processing.detectors(SHALLOW).what) == (
        "ok",
        "all 1 can look",
    )
    here.append(InstalledDetector("nudity", ("nudity",), "The package is not installed."))
    told = processing.detectors(SHALLOW)
    assert (told.verdict, told.advice) == ("warn", "The package is not installed.")
    assert told.what == "1 of 2 can look, but not nudity: audits say so"


@pytest.mark.parametrize(
    ("changes", "verdict", "word"),
    [
        ({"BASE_URL": "https://shop.example", "ALLOWED_HOSTS": ["shop.example"]}, "ok", "shop.example"),
        ({"BASE_URL": "https://shop.example", "ALLOWED_HOSTS": ["other.example"]}, "fail", "are refused"),
        ({"BASE_URL": "https://shop.example", "ALLOWED_HOSTS": ["*"]}, "warn", "every name"),
        ({"BASE_URL": "http://0.0.0.0:8000", "ALLOWED_HOSTS": ["0.0.0.0"]}, "warn", "nobody can open"),
        ({"BASE_URL": "http://[::1]:8000", "ALLOWED_HOSTS": ["[::1]"]}, "ok", "::1"),
    ],
)
def test_names_by_which_people_come(settings, changes: dict, verdict: str, word: str) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    told = configuration.hosts(SHALLOW)
    assert told.verdict == verdict
    assert word in told.what


def test_a_disk_that_fills_up_is_named(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIN_FREE_MB", str(10**9))
    told = storage.space(SHALLOW)
    assert told.verdict == "fail"
    assert "a start needs 1000000000 MB" in told.advice


def test_backups_that_are_absent_old_or_gone_are_named(settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    assert surroundings.backups(SHALLOW).what == "there is no backup"
    note = {"path": str(tmp_path), "created_at": "2026-01-01T00:00:00+00:00", "missing": 0}
    (tmp_path / surroundings.LAST).write_text(json.dumps(note))
    assert "days old" in surroundings.backups(SHALLOW).what
    (tmp_path / surroundings.LAST).write_text(json.dumps({**note, "path": str(tmp_path / "away")}))
    assert surroundings.backups(SHALLOW).verdict == "fail"
    assert surroundings.backups(SHALLOW).what.endswith("/away) is gone")


@pytest.mark.parametrize(
    ("encrypted", "signed", "told"),
    [
        (False, True, ("warn", "BACKUP_RECIPIENTS")),
        (True, False, ("warn", "record_key")),
        (True, True, ("ok", "")),
    ],
)
def test_backups_that_are_not_encrypted_or_not_signed_are_named(
    settings, tmp_path: Path, encrypted: bool, signed: bool, told: tuple[str, str]
) -> None:
    settings.DATA_DIR = tmp_path
    note = {"path": str(tmp_path), "created_at": datetime.now(UTC).isoformat(), "missing": 0}
    note |= {"encrypted": encrypted, "signed": signed}
    (tmp_path / surroundings.LAST).write_text(json.dumps(note))
    found = surroundings.backups(SHALLOW)
    assert found.verdict == told[0]
    assert told[1] in found.advice


@pytest.mark.slow
def test_a_mail_server_that_does_not_answer_is_named(settings) -> None:
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    found = examine(surroundings.CHECKS, SHALLOW)["mail"]
    assert (found.verdict, found.what) == ("fail", "ConnectionRefusedError: [Errno 111] Connection refused")
    assert "EMAIL_URL" in found.advice


def test_self_service_is_off_or_says_what_is_missing(settings) -> None:
    from config.self_service import SelfService

    assert surroundings.self_service(SHALLOW).verdict == "ok"
    settings.SELF_SERVICE = SelfService(frozenset({"sign-up"}), plan="nowhere")
    found = surroundings.self_service(SHALLOW)
    assert (found.verdict, found.what) == ("fail", "there is no plan 'nowhere': nobody can sign up")
    settings.SELF_SERVICE = SelfService(frozenset({"sign-up"}))
    assert surroundings.self_service(SHALLOW).verdict == "warn"
    settings.BASE_URL, settings.DEFAULT_FROM_EMAIL = "https://x.example", "us@x.example"
    settings.SELF_SERVICE = SelfService(
        frozenset({"sign-up"}), disposable_domains=frozenset({"trash.example"})
    )
    found = surroundings.self_service(SHALLOW)
    assert found.verdict == "ok"
    assert "at most 100 workspaces a day" in found.what
