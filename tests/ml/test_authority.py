"""A certificate for each tenant: the examining side sees who signed, and nobody signs for somebody else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from ml.detectors.base import Item, load_detector
from ml.provenance import signing
from ml.provenance.signing import Keys, forget_tenant, load_keys, sign, tenant_keys
from tests.ml.provenance_files import picture

ALPHA, BETA = "0b9f1f0e-0000-4000-8000-000000000001", "0b9f1f0e-0000-4000-8000-000000000002"


def examined(tmp_path: Path, keys: Keys, **options: str) -> dict:
    path = tmp_path / "signed.png"
    path.write_bytes(sign(keys, picture("PNG"), "image/png"))
    found = load_detector("c2pa").examine(Item("image", "image/png", path=path, options=options))
    return dict(found.fields["c2pa"])


def certificates(keys: Keys) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(keys.chain)


def test_a_tenants_files_are_trusted_own_and_name_it(tmp_path: Path) -> None:
    keys = tenant_keys(tmp_path / "keys", ALPHA, "Alpha Museum")
    found = examined(tmp_path, keys, own_anchors=load_keys(tmp_path / "keys").root)
    assert (found["state"], found["own"]) == ("trusted", True)
    assert found["signer"]["organisation"] == "Alpha Museum"
    assert ALPHA in found["signer"]["name"]


def test_another_installation_only_finds_it_valid(tmp_path: Path) -> None:
    keys = tenant_keys(tmp_path / "keys", ALPHA, "Alpha Museum")
    other = load_keys(tmp_path / "other").root
    found = examined(tmp_path, keys, own_anchors=other)
    assert (found["state"], found["own"]) == ("valid", False)
    trusting = examined(tmp_path, keys, own_anchors=other, trust_anchors=keys.root)
    assert (trusting["state"], trusting["own"]) == ("trusted", False)


def test_the_chain_is_signer_authority_root(tmp_path: Path) -> None:
    leaf, issuer, root = certificates(tenant_keys(tmp_path, ALPHA, "Alpha"))
    limits = [
        one.extensions.get_extension_for_class(x509.BasicConstraints).value for one in (leaf, issuer, root)
    ]
    assert [(limit.ca, limit.path_length) for limit in limits] == [(False, None), (True, 0), (True, 1)]
    assert leaf.not_valid_after_utc <= issuer.not_valid_after_utc <= root.not_valid_after_utc


def test_tenants_share_the_root_and_nothing_else(tmp_path: Path) -> None:
    first, second = tenant_keys(tmp_path, ALPHA, "Alpha"), tenant_keys(tmp_path, BETA, "Beta")
    assert first.root == second.root == load_keys(tmp_path).root
    assert first.key != second.key
    assert certificates(first)[1].public_key() != certificates(second)[1].public_key()


def key_of(path: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


@pytest.mark.parametrize("stem", ["signer", "issuer"])
def test_a_tenant_cannot_make_itself_an_authority(tmp_path: Path, stem: str) -> None:
    """A certificate in the name of Beta, issued by Alpha's signer, and by an authority below that of Alpha."""
    keys = tenant_keys(tmp_path / "keys", ALPHA, "Alpha")
    above = certificates(keys)[0 if stem == "signer" else 1 :]
    forging = key_of(tmp_path / "keys/tenants" / ALPHA / f"{stem}.key")
    if stem == "issuer":
        below = ec.generate_private_key(ec.SECP256R1())
        name = signing.subject_name("Alpha", "an authority more")
        above.insert(0, signing.issue_certificate(name, below.public_key(), above[0], forging, issues=True))
        forging = below
    key = ec.generate_private_key(ec.SECP256R1())
    name = signing.subject_name("Beta", f"Crosslight tenant {BETA}")
    leaf = signing.issue_certificate(name, key.public_key(), above[0], forging, issues=False)
    chain = b"".join(one.public_bytes(Encoding.PEM) for one in (leaf, *above))
    found = examined(tmp_path, Keys(keys.root, chain, signing.private_pem(key)), own_anchors=keys.root)
    assert (found["state"], found["own"]) == ("valid", False)


def test_keys_are_made_once_and_readable_by_their_owner_only(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: tenant_keys(tmp_path, ALPHA, "Alpha"), range(8)))
    assert len(set(made)) == 1
    own = tmp_path / "tenants" / ALPHA
    assert own.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in own.iterdir()} == {
        "issuer.key": 0o600, "issuer.pem": 0o600, "signer.key": 0o600, "signer.pem": 0o600,
    }  # fmt: skip


def test_a_renamed_tenant_signs_with_its_new_name(tmp_path: Path) -> None:
    tenant_keys(tmp_path / "keys", ALPHA, "Old name")
    keys = tenant_keys(tmp_path / "keys", ALPHA, "New name")
    found = examined(tmp_path, keys, own_anchors=keys.root)
    assert (found["own"], found["signer"]["organisation"]) == (True, "New name")


@pytest.mark.parametrize(
    "name", ["", "  ", "\x00\n", "ß" * 300, "名" * 70, 'O="x", CN=Beta', "a" * 63 + " b"]
)
def test_any_name_of_an_organisation_does(tmp_path: Path, name: str) -> None:
    keys = tenant_keys(tmp_path / "keys", ALPHA, name)
    assert tenant_keys(tmp_path / "keys", ALPHA, name) == keys
    assert examined(tmp_path, keys, own_anchors=keys.root)["own"] is True


@pytest.mark.parametrize("tenant_id", ["", "..", "../x", "a/b", "a\x00", "x" * 99])
def test_an_id_that_names_no_folder_is_refused(tmp_path: Path, tenant_id: str) -> None:
    for act in (lambda: tenant_keys(tmp_path, tenant_id, "A"), lambda: forget_tenant(tmp_path, tenant_id)):
        with pytest.raises(ValueError, match="no id"):
            act()


def test_a_signer_is_renewed_when_half_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "LEAF_LIFE", timedelta(days=1000))
    old = tenant_keys(tmp_path / "keys", ALPHA, "Alpha")
    monkeypatch.undo()
    new = tenant_keys(tmp_path / "keys", ALPHA, "Alpha")
    assert new.key != old.key and certificates(new)[1] == certificates(old)[1]
    assert certificates(new)[0].not_valid_after_utc > datetime.now(UTC) + timedelta(days=3000)
    assert examined(tmp_path, old, own_anchors=old.root)["own"] is True


def test_an_authority_is_renewed_before_it_cannot_outlive_its_signers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "ISSUER_LIFE", timedelta(days=3000))
    old = tenant_keys(tmp_path / "keys", ALPHA, "Alpha")
    monkeypatch.undo()
    new = tenant_keys(tmp_path / "keys", ALPHA, "Alpha")
    assert certificates(new)[1] != certificates(old)[1]
    assert examined(tmp_path, new, own_anchors=new.root)["own"] is True


def test_files_left_by_a_killed_renewal_are_made_anew(tmp_path: Path) -> None:
    first = tenant_keys(tmp_path, ALPHA, "Alpha")
    (tmp_path / "tenants" / ALPHA / "signer.key").write_bytes(tenant_keys(tmp_path, BETA, "Beta").key)
    second = tenant_keys(tmp_path, ALPHA, "Alpha")
    assert second.chain != first.chain and second.root == first.root


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    tenant_keys(tmp_path, ALPHA, "Alpha")
    (tmp_path / "tenants" / ALPHA / "issuer.pem").write_bytes(b"-----BEGIN nonsense")
    with pytest.raises(ValueError, match=r"issuer\.pem or issuer\.key is damaged"):
        tenant_keys(tmp_path, ALPHA, "Alpha")
    assert tenant_keys(tmp_path, BETA, "Beta")


def test_a_forgotten_tenant_has_no_keys_and_its_files_stay_readable(tmp_path: Path) -> None:
    keys = tenant_keys(tmp_path / "keys", ALPHA, "Alpha")
    other = tenant_keys(tmp_path / "keys", BETA, "Beta")
    assert forget_tenant(tmp_path / "keys", ALPHA) is True
    assert forget_tenant(tmp_path / "keys", ALPHA) is False
    assert not (tmp_path / "keys/tenants" / ALPHA).exists()
    assert tenant_keys(tmp_path / "keys", BETA, "Beta") == other
    assert examined(tmp_path, keys, own_anchors=keys.root)["own"] is True


def test_a_root_of_before_tenants_keeps_name_and_key(tmp_path: Path) -> None:
    """Roots used to be for leaves alone (length 0)."""
    folder = tmp_path / "keys"
    old = load_keys(folder)
    key = load_pem_private_key((folder / "root.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    root = x509.load_pem_x509_certificate(old.root.encode())
    narrow = (
        signing._certificate(root.subject, root.subject, key.public_key(), signing.ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(signing._usage(signs=False, issues=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "root.pem").write_bytes(narrow.public_bytes(Encoding.PEM))
    before = Keys(narrow.public_bytes(Encoding.PEM).decode(), old.chain, old.key)

    keys = tenant_keys(folder, ALPHA, "Alpha")

    assert certificates(keys)[2].subject == root.subject
    assert examined(tmp_path, keys, own_anchors=keys.root)["own"] is True
    assert examined(tmp_path, before, own_anchors=keys.root)["own"] is True
