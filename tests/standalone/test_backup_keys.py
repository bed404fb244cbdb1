"""Keys apart from backups: what a backup of before an erasure still tells, with everything that is there afterwards."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from standalone.backup import keys, manifest
from standalone.backup.create import make_backup
from standalone.config import ROOT
from standalone.errors import StackError
from standalone.stack import embedded_services, inherited
from tenants.accounts import keyring, master_keys
from tenants.accounts.models import DataKey
from tenants.datasets import storage
from tenants.events import endpoints
from tenants.events.models import Webhook
from tenants.pipeline.care.tenant_erasure import erase_tenant
from tenants.scope import tenant_scope
from tests.conftest import Party

# No other test stores these words.
WORDS = f"what only the workspaces of {uuid.uuid4()} may read ".encode()
SECRET = WORDS * 50

# Run beside the restored installation: what of each tenant can be read there.
READ = """
import sys, json, django
django.setup()
from tenants.datasets import storage
from tenants.events import endpoints
from tenants.events.models import Webhook
from tenants.scope import tenant_scope
found = {}
for tenant, path in json.loads(sys.argv[1]).items():
    try:
        with storage.open_blob(path) as file:
            content = file.read().decode()
    except Exception as error:
        content = type(error).__name__
    with tenant_scope(tenant):
        try:
            secrets = endpoints.secrets_of(Webhook.objects.get())
        except Exception as error:
            secrets = type(error).__name__
    found[tenant] = [content, secrets]
print(json.dumps(found))
"""


@pytest.fixture
def apart(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, keys.VARIABLE: str(tmp_path / "keys" / "keys.json")}


def filled(party: Party) -> tuple[str, str]:
    """A stored file, and a webhook; where the one lies, and the other's secret."""
    path = f"{party.id}/export/{party.id}"
    storage.put(path, SECRET + str(party.id).encode())
    with tenant_scope(party.id):
        return path, endpoints.create_webhook(url="https://example.com/", actor="test")[1]


def backed_up(folder: Path, env: dict[str, str]) -> Path:
    return make_backup(folder, env, settings.DATA_DIR, 30, lambda line: None)[0]


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def standalone(data_dir: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "standalone", *arguments]
    given = {**inherited(), "DATA_DIR": str(data_dir), **env}
    return subprocess.run(
        command, env=given, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def readable(restored: Path, paths: dict[str, str]) -> dict[str, Any]:
    """What a process of the restored installation reads."""
    with embedded_services(restored, throwaway=False, migrated=False) as stack:
        env = {
            **inherited(),
            **stack.env,
            "DATA_DIR": str(restored),
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
        command = [sys.executable, "-c", READ, json.dumps(paths)]
        read = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
    found: dict[str, Any] = json.loads(read.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_by_default_a_backup_holds_its_keys_and_is_restored_by_itself(
    party: Party, settings: Any, tmp_path: Path
) -> None:
    settings.ENCRYPT_FILES = True
    DataKey.objects.exclude(master_id__in=[key.id for key in master_keys.masters()]).delete()
    path, secret = filled(party)
    backup = backed_up(tmp_path / "backups", dict(os.environ))
    assert (backup / "master.key").exists()
    done = standalone(tmp_path / "restored", "restore", str(backup))
    assert done.returncode == 0, done.stderr
    mine = str(party.id)
    assert readable(tmp_path / "restored", {mine: path}) == {
        mine: [(SECRET + mine.encode()).decode(), [secret]]
    }


@pytest.mark.slow
def test_an_erased_tenant_cannot_be_read_from_an_older_backup(
    party: Party, stranger: Party, settings: Any, tmp_path: Path, apart: dict[str, str]
) -> None:
    settings.ENCRYPT_FILES = True
    DataKey.objects.exclude(master_id__in=[key.id for key in master_keys.masters()]).delete()
    paths, secrets = {}, {}
    for each in (party, stranger):
        paths[str(each.id)], secrets[str(each.id)] = filled(each)
    wrapped = bytes(DataKey.objects.get(owner=party.id).wrapped)
    backup = backed_up(tmp_path / "backups", apart)
    # The backup holds neither the tenant's wrapped key nor the master key; the file beside holds both.
    assert (backup / "files" / paths[str(party.id)]).is_file()
    assert keys.TABLE not in manifest.read_manifest(backup).tables
    master = Path(settings.MASTER_KEY_FILE).read_text().split()[0].encode()
    assert [name.name for name in backup.iterdir() if name.name == "master.key"] == []
    held = all_bytes(backup)
    assert (master in held, base64.b64decode(master) in held, WORDS in held) == (False, False, False)
    assert wrapped.hex().encode() in Path(apart[keys.VARIABLE]).read_bytes()

    receipt = erase_tenant(slug=party.tenant.slug)
    assert receipt.removed["data_keys"] == 1
    row = DataKey.objects.get(owner=party.id)
    assert (row.state, bytes(row.wrapped)) == ("destroyed", b"")
    keys.write(Path(apart[keys.VARIABLE]), os.environ["OPERATOR_DATABASE_URL"], settings.MASTER_KEY_FILE)
    assert wrapped.hex().encode() not in Path(apart[keys.VARIABLE]).read_bytes()

    # Elsewhere, with all keys that there are now.
    restored = tmp_path / "restored"
    assert "holds no keys: set BACKUP_KEYS_FILE" in standalone(restored, "restore", str(backup)).stderr
    done = standalone(restored, "restore", str(backup), BACKUP_KEYS_FILE=apart[keys.VARIABLE])
    assert done.returncode == 0, done.stderr
    assert f"{party.tenant.slug} was erased after this backup" in done.stderr
    assert stranger.tenant.slug not in done.stderr
    with embedded_services(restored, throwaway=False, migrated=False) as stack:
        env = {
            **inherited(),
            **stack.env,
            "DATA_DIR": str(restored),
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
        command = [sys.executable, "-c", READ, json.dumps(paths)]
        read = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
    other = str(stranger.id)
    assert json.loads(read.stdout.splitlines()[-1]) == {
        str(party.id): ["KeyDestroyed", "Unreadable"],
        other: [(SECRET + other.encode()).decode(), [secrets[other]]],
    }


def test_a_file_of_keys_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="BACKUP_KEYS_FILE"):
        keys.read(None)
    path = tmp_path / "keys.json"
    for text in (None, "{}", "no json", '{"master": "", "rows": 3}'):
        if text is not None:
            path.write_text(text)
        with pytest.raises(StackError, match="cannot be read as a file of keys"):
            keys.read(path)


def test_the_file_of_keys_is_private_and_replaced(party: Party, tmp_path: Path) -> None:
    keyring.active_key(party.id)
    path = tmp_path / "apart" / "keys.json"
    for count in (1, 2):
        keys.write(path, os.environ["OPERATOR_DATABASE_URL"], settings.MASTER_KEY_FILE)
        mine = [row for row in keys.read(path).rows if row["owner"] == str(party.id)]
        assert [(row["version"], row["state"]) for row in mine] == [(1, "active")], count
    assert (path.stat().st_mode & 0o777, list(path.parent.iterdir())) == (0o600, [path])
    assert keys.read(path).master == Path(settings.MASTER_KEY_FILE).read_text()
    with tenant_scope(party.id):
        assert not Webhook.objects.exists()
