"""Data keys: who gets which, what opens with them, and what happens while the master key cannot be asked."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings as configured
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.test import Client

from tenants.accounts import installation_secrets, keyring, master_keys, vault
from tenants.accounts.master_keys import KeysUnavailable, derived, new_key, written
from tenants.accounts.models import DataKey
from tenants.accounts.vault import InvalidToken
from tests.conftest import Party
from tests.keys import another_master_key
from tests.waiting import PATIENCE_S

PURPOSE = b"test\0"


@pytest.fixture(autouse=True)
def _no_keys_held() -> Iterator[None]:
    keyring.forget()
    yield
    keyring.forget()


def sealed(owner: uuid.UUID | None, content: bytes = b"secret") -> bytes:
    return vault.seal(content, purpose=PURPOSE, owner=owner)


def opened(content: bytes, owner: uuid.UUID | None, purpose: bytes = PURPOSE) -> bytes:
    return vault.unseal(content, purpose=purpose, owner=owner)


def refused(content: bytes, owner: uuid.UUID | None, purpose: bytes = PURPOSE) -> None:
    with pytest.raises(InvalidToken):
        opened(content, owner, purpose)


def test_each_tenant_and_the_installation_have_a_key_of_their_own() -> None:
    owners = (uuid.uuid4(), uuid.uuid4(), None)
    stored = [sealed(owner) for owner in owners]
    assert len({keyring.sealed_under(each) for each in stored}) == 3
    for owner, each in zip(owners, stored, strict=True):
        assert b"secret" not in each
        assert opened(each, owner) == b"secret"
    row = DataKey.objects.get(owner=owners[0])
    assert (row.version, row.state, row.master_id) == (1, "active", master_keys.primary().id)
    assert keyring.active_key(owners[0]).secret not in bytes(row.wrapped)


def test_what_is_sealed_opens_for_its_owner_and_purpose_alone() -> None:
    mine, other = uuid.uuid4(), uuid.uuid4()
    stored = sealed(mine)
    sealed(other)
    for owner in (other, None):
        refused(stored, owner)
    refused(stored, mine, b"another\0")
    for place in (0, 10, 30, len(stored) - 1):
        refused(stored[:place] + bytes([stored[place] ^ 1]) + stored[place + 1 :], mine)
    refused(stored[:-1], mine)
    refused(b"", mine)


def test_a_wrapped_key_in_another_row_does_not_open() -> None:
    mine, other = uuid.uuid4(), uuid.uuid4()
    stored = sealed(mine)
    sealed(other)
    DataKey.objects.filter(owner=mine).update(wrapped=DataKey.objects.get(owner=other).wrapped)
    keyring.forget()
    refused(stored, mine)


def test_a_key_outlives_the_transaction_that_needed_it_first() -> None:
    owner = uuid.uuid4()
    with transaction.atomic():
        stored = sealed(owner)
        transaction.set_rollback(True)
    keyring.forget()
    assert opened(stored, owner) == b"secret"


def test_whoever_needs_it_first_makes_it_once() -> None:
    owner = uuid.uuid4()

    def ask(number: int) -> uuid.UUID:
        try:
            return keyring.active_key(owner).id
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert DataKey.objects.filter(owner=owner).count() == 1


def legacy(content: bytes, purpose: bytes) -> bytes:
    """As releases up to 0.2 sealed secrets, under SECRET_KEY."""
    key = hashlib.sha256(purpose + configured.SECRET_KEY.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key)).encrypt(content)


def test_what_a_former_release_sealed_is_read_with_each_secret_key(settings: Any) -> None:
    old = settings.SECRET_KEY
    cipher = AESGCM(derived(old.encode(), b"crosslight sealed secrets", 32))
    stored = (legacy(b"secret", PURPOSE), b"n" * 12 + cipher.encrypt(b"n" * 12, b"secret", PURPOSE))
    for each in stored:
        assert opened(each, None) == b"secret"
        refused(each, None, b"another\0")
    settings.SECRET_KEY = "a new one"
    for each in stored:
        refused(each, None)
    settings.SECRET_KEY_FALLBACKS = [old]
    for each in stored:
        assert opened(each, None) == b"secret"


def test_without_a_master_key_it_is_the_secret_key(settings: Any) -> None:
    owner, settings.MASTER_KEY_FILE = uuid.uuid4(), ""
    stored, old = sealed(owner), settings.SECRET_KEY
    settings.SECRET_KEY = "a new one"
    keyring.forget()
    refused(stored, owner)
    settings.SECRET_KEY_FALLBACKS = [old]
    assert opened(stored, owner) == b"secret"


def test_the_lasting_secret_outlives_a_secret_key(settings: Any) -> None:
    before = installation_secrets.lasting_secret()
    settings.SECRET_KEY = "a new one"
    assert installation_secrets.lasting_secret() == before


def test_another_master_key_opens_nothing_and_makes_no_new_keys(tmp_path: Path) -> None:
    owner = uuid.uuid4()
    stored = sealed(owner)
    with another_master_key(tmp_path):
        refused(stored, owner)
        with pytest.raises(keyring.KeyMissing, match=r"master key local:[0-9a-f]{16}, which is not here"):
            sealed(owner)
    assert DataKey.objects.filter(owner=owner).count() == 1
    assert opened(stored, owner) == b"secret"


def test_a_file_of_keys_is_read_again_when_it_changes(tmp_path: Path, settings: Any) -> None:
    path, first, second = tmp_path / "keys", new_key(), new_key()
    settings.MASTER_KEY_FILE, owner = str(path), uuid.uuid4()
    path.write_text(written((first,)))
    stored = sealed(owner)
    path.write_text("# the newest first\n" + written((second, first)))
    keyring.forget()
    assert opened(stored, owner) == b"secret"
    assert master_keys.primary().id == second.id
    assert DataKey.objects.get(owner=owner).master_id == first.id
    DataKey.objects.filter(owner=owner).delete()


@pytest.mark.parametrize("text", ["", "# nothing\n", "c2hvcnQ=\n", "no base64!\n"])
def test_a_file_without_keys_is_an_error_that_does_not_show_it(
    tmp_path: Path, settings: Any, text: str
) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    settings.MASTER_KEY_FILE = str(path)
    with pytest.raises(ImproperlyConfigured, match="MASTER_KEY_FILE") as caught:
        master_keys.masters()
    assert "no base64!" not in str(caught.value)
    path.unlink()
    with pytest.raises(ImproperlyConfigured, match="cannot be read"):
        master_keys.masters()


def test_destroyed_keys_are_gone_and_not_made_again() -> None:
    owner = uuid.uuid4()
    stored = sealed(owner)
    row = DataKey.objects.get(owner=owner)
    assert keyring.destroy_keys(owner) == [row.pk]
    assert keyring.destroy_keys(owner) == []
    row.refresh_from_db()
    assert (bytes(row.wrapped), row.master_id, row.state) == (b"", "", "destroyed")
    refused(stored, owner)
    with pytest.raises(keyring.KeyDestroyed):
        sealed(owner)
    assert DataKey.objects.filter(owner=owner).count() == 1


def test_so_many_keys_are_held_and_no_more(settings: Any) -> None:
    settings.KEY_CACHE_KEYS = 3
    owners = [uuid.uuid4() for _ in range(5)]
    made = [keyring.active_key(owner) for owner in owners]
    assert list(keyring._held._values) == [key.id for key in made[2:]]


# --- A KMS -----------------------------------------------------------------------------------------------


@pytest.fixture
def kms(s3_endpoint: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Settings with a KMS (moto's server, over HTTP) in place of the file."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    client = boto3.client("kms", region_name="us-east-1", endpoint_url=s3_endpoint)
    key_id = client.create_key()["KeyMetadata"]["KeyId"]
    alias = f"alias/crosslight-{uuid.uuid4().hex[:8]}"
    client.create_alias(AliasName=alias, TargetKeyId=key_id)
    settings.MASTER_KEY_FILE = ""
    settings.KMS_URL = f"aws-kms:///{alias}?region=us-east-1&endpoint={s3_endpoint}"
    yield settings
    DataKey.objects.filter(master_id__startswith="kms:").delete()


def test_a_kms_wraps_and_unwraps(kms: Any) -> None:
    owner = uuid.uuid4()
    stored = sealed(owner)
    row = DataKey.objects.get(owner=owner)
    assert row.master_id.startswith("kms:arn:aws:kms:us-east-1:")
    keyring.forget()
    assert opened(stored, owner) == b"secret"
    # The context is checked by the KMS itself.
    DataKey.objects.filter(pk=row.pk).update(version=2)
    keyring.forget()
    refused(stored, owner)


def test_while_a_kms_is_away_held_keys_go_on_for_a_time(kms: Any, s3_endpoint: str) -> None:
    owner, new = uuid.uuid4(), uuid.uuid4()
    stored = sealed(owner)
    kms.KMS_URL = kms.KMS_URL.replace(s3_endpoint, "http://127.0.0.1:9")
    kms.KEY_CACHE_S = 0
    assert opened(sealed(owner, b"another"), owner) == b"another"
    with pytest.raises(KeysUnavailable, match=r"does not answer\. Nothing is lost"):
        sealed(new)
    assert not DataKey.objects.filter(owner=new).exists()
    kms.KEY_CACHE_AWAY_S = 0
    with pytest.raises(KeysUnavailable):
        sealed(owner)
    kms.KMS_URL = kms.KMS_URL.replace("http://127.0.0.1:9", s3_endpoint)
    assert opened(stored, owner) == b"secret"


def test_a_request_that_needs_a_key_is_told_to_come_again(kms: Any, party: Party) -> None:
    kms.KMS_URL = "aws-kms:///alias/none?region=us-east-1&endpoint=http://127.0.0.1:9"
    answer: Any = Client().post(
        "/api/v1/webhooks", {"url": "https://example.com/"}, content_type="application/json", **party.auth
    )
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert answer.json()["type"] == "urn:crosslight:problem:keys-unavailable"
    listed: Any = Client().get("/api/v1/webhooks", **party.auth)
    assert listed.json()["results"] == []


@pytest.mark.parametrize("url", ["https://x", "aws-kms:///?region=a", "aws-kms:///alias/a?regoin=a"])
def test_an_address_of_a_kms_that_is_none(settings: Any, url: str) -> None:
    settings.KMS_URL = url
    with pytest.raises(ImproperlyConfigured, match="KMS_URL is aws-kms:///alias/NAME"):
        master_keys.masters()


def test_the_kms_of_the_tests_answers(s3_endpoint: str) -> None:
    assert requests.get(s3_endpoint, timeout=PATIENCE_S).status_code < 500
