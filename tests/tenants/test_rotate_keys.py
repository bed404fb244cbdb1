"""`manage.py rotate_keys`: what is changed, what stays readable meanwhile, and what a killed run leaves."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings as configured
from django.core.management import CommandError, call_command
from django.db import connection, models

from tenants.accounts import installation_secrets, key_rotation, keyring, master_keys, second_factor, vault
from tenants.accounts.master_keys import new_key, written
from tenants.accounts.models import DataKey, OperatorAct
from tenants.datasets.models import Dataset, Import
from tenants.errors import Conflict
from tenants.events import endpoints, signing
from tenants.events.models import Webhook
from tenants.generation import signing_keys
from tenants.pipeline.care import resealing
from tenants.pipeline.transfer import import_sources
from tenants.scope import tenant_scope
from tests.conftest import ROOT, Party
from tests.keys import another_master_key
from tests.tenants.people import new_user
from tests.tenants.test_keyring import legacy
from tests.waiting import until


@pytest.fixture(autouse=True)
def _keys_that_open() -> Iterator[None]:
    """What other tests wrapped under master keys of their own, or damaged, is in nobody's way."""
    DataKey.objects.exclude(master_id__in=[key.id for key in master_keys.masters()]).delete()
    for row in DataKey.objects.exclude(state=DataKey.State.DESTROYED):
        try:
            keyring.unwrap(row)
        except keyring.KeyMissing:
            row.delete()
    # Nor does a rotation seem to be under way.
    key_rotation.rewrap(lambda said: None)
    keyring.forget()
    yield
    keyring.forget()


def rotate(*arguments: str) -> str:
    said = io.StringIO()
    call_command("rotate_keys", *arguments, stdout=said)
    return said.getvalue()


def keys_of(owner: uuid.UUID | None) -> list[tuple[int, str]]:
    rows = DataKey.objects.filter(owner=owner).order_by("version")
    return list(rows.values_list("version", "state"))


def webhook(party: Party) -> tuple[Webhook, str]:
    with tenant_scope(party.id):
        return endpoints.create_webhook(url="https://example.com/", actor="test")


def secret_of(party: Party, row: Webhook) -> str:
    with tenant_scope(party.id):
        return signing.unseal(Webhook.objects.get(pk=row.pk).sealed_secret, party.id)


def test_every_sealed_column_is_known() -> None:
    found = {
        (model._meta.label, field.name)
        for model in apps.get_models()
        for field in model._meta.local_fields
        if isinstance(field, models.BinaryField) and ("seal" in field.name or "secret" in field.name)
    }
    known = {(sealed.model._meta.label, sealed.column) for sealed in resealing.COLUMNS}
    assert known - found == {("accounts.InstallationSecret", "content")}
    assert found <= known


def test_a_tenants_new_version_takes_over_and_everything_is_sealed_anew(
    party: Party, stranger: Party
) -> None:
    row, secret = webhook(party)
    other, others_secret = webhook(stranger)
    with tenant_scope(party.id):
        dataset = Dataset.objects.create(name="d")
        bucket = Import.objects.create(
            dataset=dataset,
            source="bucket",
            location="b",
            format="files",
            secret=import_sources.sealed({"key": "k"}),
        )
    signed = signing_keys.keys_of(party.tenant)
    before = keyring.active_key(party.id)
    assert "3 sealed values" not in rotate("tenant", party.tenant.slug, "--dry-run")
    assert keys_of(party.id) == [(1, "active")]
    said = rotate("tenant", party.tenant.slug)
    assert f"{party.id}: version 2" in said
    assert "none is left under a former key" in said
    assert keys_of(party.id) == [(1, "retired"), (2, "active")]
    assert keyring.active_key(party.id).secret != before.secret
    with tenant_scope(party.id):
        stored = Webhook.objects.get(pk=row.pk).sealed_secret
        assert import_sources.secret_of(Import.objects.get(pk=bucket.pk)) == {"key": "k"}
    assert keyring.sealed_under(bytes(stored)) == keyring.active_key(party.id).id
    assert (secret_of(party, row), secret_of(stranger, other)) == (secret, others_secret)
    assert signing_keys.keys_of(party.tenant) == signed
    assert keys_of(stranger.id) == [(1, "active")]
    assert OperatorAct.objects.filter(verb="keys.rotated", target=str(party.id)).count() == 1


def test_a_run_that_was_cut_off_goes_on_with_the_same_version(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [webhook(party) for _ in range(3)]
    real, calls = vault.seal, []

    def failing(content: bytes, **about: Any) -> bytes:
        calls.append(content)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(content, **about)

    with monkeypatch.context() as patch:
        patch.setattr(vault, "seal", failing)
        with pytest.raises(KeyboardInterrupt):
            rotate("tenant", party.tenant.slug)
    assert resealing.reseal(party.id, dry_run=True).left == 2
    assert "going on with 2 values" in rotate("tenant", party.tenant.slug)
    assert keys_of(party.id) == [(1, "retired"), (2, "active")]
    assert [secret_of(party, row) for row, _ in rows] == [secret for _, secret in rows]


def test_the_installations_key(party: Party) -> None:
    user = new_user()
    address, lasting = second_factor.begin(user), installation_secrets.lasting_secret()
    before = keyring.active_key(None).version
    rotate("installation")
    assert keyring.active_key(None).version == before + 1
    assert second_factor.begin(user) == address
    assert installation_secrets.lasting_secret() == lasting
    assert resealing.reseal(None, dry_run=True).left == 0


def test_a_tenant_that_is_not_there() -> None:
    with pytest.raises(CommandError, match="There is no tenant 'nobody'"):
        rotate("tenant", "nobody")


# --- The master key --------------------------------------------------------------------------------------


def test_the_master_key_is_changed_and_the_former_one_removed(party: Party, tmp_path: Path) -> None:
    row, secret = webhook(party)
    held = Path(configured.MASTER_KEY_FILE).read_text()
    before = master_keys.primary().id
    assert "would be wrapped anew" in rotate("master", "--dry-run")
    assert Path(configured.MASTER_KEY_FILE).read_text() == held
    said = rotate("master", "--drop-former")
    assert "none is left under a former key" in said
    after = master_keys.read_file(Path(configured.MASTER_KEY_FILE))
    assert (len(after), after[0].id == before) == (1, False)
    assert (Path(configured.MASTER_KEY_FILE).stat().st_mode & 0o777) == 0o600
    assert DataKey.objects.get(owner=party.id).master_id == after[0].id
    keyring.forget()
    assert secret_of(party, row) == secret


def test_a_key_that_an_operator_put_first_is_used_and_none_is_added(party: Party, tmp_path: Path) -> None:
    """As on several hosts, where each gets the new file before anything is wrapped under it."""
    row, secret = webhook(party)
    path = Path(configured.MASTER_KEY_FILE)
    new, old = new_key(), master_keys.read_file(path)
    path.write_text(written((new, *old)))
    with pytest.raises(Conflict, match="run it without --drop-former first"):
        key_rotation.drop_former_master_keys()
    assert "new master key" not in rotate("master")
    assert master_keys.read_file(path) == (new, *old)
    assert DataKey.objects.get(owner=party.id).master_id == new.id
    keyring.forget()
    assert secret_of(party, row) == secret


def test_a_key_of_a_lost_master_key_does_not_keep_the_others_back(party: Party, tmp_path: Path) -> None:
    lost = uuid.uuid4()
    with another_master_key(tmp_path):
        keyring.active_key(lost)
    try:
        with pytest.raises(CommandError, match="1 were wrapped under a master key that is not here"):
            rotate("master")
        assert DataKey.objects.exclude(master_id=master_keys.primary().id).exclude(owner=lost).count() == 0
    finally:
        DataKey.objects.filter(owner=lost).delete()


@contextmanager
def reading(read: Callable[[], object]) -> Iterator[list[object]]:
    """Reads go on in another thread, which holds no keys; what they raise is in the list."""
    wrong: list[object] = []
    over = threading.Event()

    def loop() -> None:
        try:
            while not over.is_set():
                keyring.forget()
                read()
        except BaseException as error:
            wrong.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield wrong
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_a_killed_rotation_goes_on_while_everything_is_read(party: Party) -> None:
    row, secret = webhook(party)
    for _ in range(150):
        keyring.active_key(uuid.uuid4())
    first = master_keys.primary().id

    def moved() -> int:
        return DataKey.objects.exclude(master_id=first).exclude(state="destroyed").count()

    def read() -> None:
        assert secret_of(party, row) == secret

    command = [sys.executable, "manage.py", "rotate_keys"]
    with reading(read) as wrong:
        for what, sign in (("master", lambda: moved() > 10), ("all", lambda: len(keys_of(None)) > 1)):
            process = subprocess.Popen([*command, what], cwd=ROOT, env=os.environ, stdout=subprocess.DEVNULL)
            until(sign, message=f"rotate_keys {what} does not begin")
            process.send_signal(signal.SIGKILL)
            process.wait()
            for _ in range(2):
                assert (
                    subprocess.run([*command, what], cwd=ROOT, check=False, capture_output=True).returncode
                    == 0
                )
    assert wrong == []
    primary = master_keys.primary().id
    assert DataKey.objects.exclude(state="destroyed").exclude(master_id=primary).count() == 0
    assert [resealing.reseal(owner, dry_run=True).left for owner in (None, party.id)] == [0, 0]
    assert secret_of(party, row) == secret


# --- SECRET_KEY ------------------------------------------------------------------------------------------


def test_what_was_sealed_under_a_former_secret_key_is_sealed_anew(party: Party, settings: Any) -> None:
    row, _ = webhook(party)
    user = new_user()
    second_factor.begin(user)
    with tenant_scope(party.id):
        Webhook.objects.filter(pk=row.pk).update(sealed_secret=legacy(b"whsec_old", signing.PURPOSE))
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "a new one"
    assert "1 values would be sealed anew" in rotate("secret-key", "--dry-run")
    assert "Nothing is sealed under a former SECRET_KEY" in rotate("secret-key")
    settings.SECRET_KEY_FALLBACKS = []
    assert secret_of(party, row) == "whsec_old"
    assert "0 values would be sealed anew" in rotate("secret-key", "--dry-run")
