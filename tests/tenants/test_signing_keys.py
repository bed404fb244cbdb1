"""Signing keys that all hosts share: made once, sealed, adopted from old data directories."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings

from ml.provenance import signing
from tenants.accounts.models import InstallationSecret
from tenants.generation import signing_keys
from tests.conftest import Party
from tests.keys import another_master_key
from tests.ml.test_authority import examined


@pytest.fixture(autouse=True)
def _no_keys() -> Iterator[None]:
    """As in a new installation; what other tests signed needs nobody any more."""
    InstallationSecret.objects.all().delete()
    yield
    InstallationSecret.objects.all().delete()


def host(folder: Path, **more: Any) -> override_settings:
    """In this context the process is one that has this data directory."""
    return override_settings(PROVENANCE_DIR=folder / "provenance", **more)


def names() -> list[str]:
    return list(InstallationSecret.objects.order_by("pk").values_list("pk", flat=True))


def test_what_one_host_signs_another_knows_as_own(party: Party, tmp_path: Path) -> None:
    with host(tmp_path / "a"):
        keys = signing_keys.keys_of(party.tenant)
    with host(tmp_path / "b"):
        found = examined(tmp_path, keys, own_anchors=signing_keys.own_anchors())
        assert (found["state"], found["own"]) == ("trusted", True)
        assert found["signer"]["organisation"] == party.tenant.name
        assert signing_keys.keys_of(party.tenant) == keys
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_nothing_is_signed_yet(tmp_path: Path) -> None:
    with host(tmp_path):
        assert signing_keys.own_anchors() == ""


def test_private_keys_are_sealed_and_say_under_which_secret(party: Party, tmp_path: Path) -> None:
    with host(tmp_path):
        signing_keys.keys_of(party.tenant)
    own = f"tenants/{party.id}/"
    stems = ["root", "signer", f"{own}issuer", f"{own}signer"]
    assert names() == sorted(f"{stem}.{kind}" for stem in stems for kind in ("key", "pem"))
    for row in InstallationSecret.objects.all():
        private = row.pk.endswith(".key")
        assert (b"PRIVATE" in bytes(row.content), len(row.key_id)) == (False, 16 if private else 0)
        assert row.tenant_id == (party.id if row.pk.startswith(own) else None)


def test_hosts_that_need_them_at_once_get_the_same(party: Party, tmp_path: Path) -> None:
    def ask(number: int) -> signing.Keys:
        try:
            return signing_keys.keys_of(party.tenant)
        finally:
            connection.close()

    with host(tmp_path), ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(4)))) == 1


def test_keys_of_an_old_data_directory_stay_valid(party: Party, stranger: Party, tmp_path: Path) -> None:
    old = signing.tenant_keys(tmp_path / "a/provenance", str(party.id), party.tenant.name)
    gone = "0b9f1f0e-0000-4000-8000-000000000001"
    signing.tenant_keys(tmp_path / "a/provenance", gone, "A tenant that is no more")
    with host(tmp_path / "a"):
        assert signing_keys.keys_of(party.tenant) == old
    assert not [name for name in names() if gone in name]
    with host(tmp_path / "b"):
        assert signing_keys.keys_of(party.tenant) == old
        assert signing_keys.keys_of(stranger.tenant).root == old.root


def test_a_second_hosts_own_root_stays_an_anchor(party: Party, tmp_path: Path) -> None:
    """Two hosts of a former release had keys each. One's become those of all, the other's signatures stay ours."""
    first, second = (
        signing.tenant_keys(tmp_path / name / "provenance", str(party.id), party.tenant.name) for name in "ab"
    )
    for name in "ab":
        with host(tmp_path / name):
            assert signing_keys.keys_of(party.tenant) == first
    with host(tmp_path / "c"):
        anchors = signing_keys.own_anchors()
    for keys in (first, second):
        assert examined(tmp_path, keys, own_anchors=anchors)["own"] is True
    assert anchors.count("BEGIN CERTIFICATE") == 2


def test_another_master_key_is_an_error_and_not_new_keys(party: Party, tmp_path: Path) -> None:
    with host(tmp_path):
        keys, before = signing_keys.keys_of(party.tenant), list(InstallationSecret.objects.values())
        assert signing_keys.unreadable() == ""
        with another_master_key(tmp_path):
            with pytest.raises(signing_keys.SealedElsewhere, match="sealed under another key"):
                signing_keys.keys_of(party.tenant)
            assert "under another key" in signing_keys.unreadable()
            # Certificates are no secret: what was signed is known all the same.
            assert examined(tmp_path, keys, own_anchors=signing_keys.own_anchors())["own"] is True
        assert list(InstallationSecret.objects.values()) == before
        assert signing_keys.keys_of(party.tenant) == keys


def test_a_folder_that_all_hosts_mount(party: Party, tmp_path: Path) -> None:
    with host(tmp_path, PROVENANCE_MOUNTED=True):
        keys = signing_keys.keys_of(party.tenant)
        assert names() == []
        assert signing_keys.own_anchors() == keys.root
        assert signing_keys.keys_of(party.tenant) == keys
        signing_keys.forget_tenant(party.id)
        assert not (tmp_path / "provenance/tenants" / str(party.id)).exists()


def test_a_forgotten_tenant_leaves_no_keys(party: Party, stranger: Party, tmp_path: Path) -> None:
    with host(tmp_path):
        kept = signing_keys.keys_of(stranger.tenant)
        signing_keys.keys_of(party.tenant)
        signing_keys.forget_tenant(party.id)
        assert not InstallationSecret.objects.filter(tenant=party.tenant).exists()
        assert signing_keys.keys_of(stranger.tenant) == kept


# --- Marks that cannot be made ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"GENERATION_ICON_TEXT": "生成"}, "The icon's letters"),
        ({"GENERATION_ICON_CORNER": "middle"}, "The icon's corner"),
        ({"GENERATION_ICON_FILE": "/no/where.png"}, "The icon's file /no/where.png cannot be read"),
        ({"GENERATION_NOTICE_FILE": "/no/where.wav"}, "The recording of a notice cannot be used"),
        ({"GENERATION_TSA_URL": "https://tsa.example", "GENERATION_TSA_CA": "/no/where.pem"}, "certificates"),
        ({"GENERATION_TSA_URL": "ftp://tsa.example", "GENERATION_TSA_CA": "-"}, "The URL starts with"),
        ({"GENERATION_TSA_URL": "https://tsa.example:9", "GENERATION_TSA_CA": "-"}, "port 9"),
    ],
)
def test_the_doctor_says_which_marks_cannot_be_made(
    wrong: dict[str, str], said: str, settings: Any, tmp_path: Path
) -> None:
    from standalone.doctor.database import marks

    assert marks(None).verdict == "ok"
    for name, value in wrong.items():
        if value == "-":
            value = str(tmp_path / "root.pem")
            (tmp_path / "root.pem").write_text(signing.load_keys(tmp_path / "keys").root)
        setattr(settings, name, value)
    found = marks(None)
    assert found.verdict == "fail" and said in found.what, found
