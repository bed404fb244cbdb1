"""Backups encrypted with age and signed: what is on the disk, what opens it, and what is refused before any change."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyrage
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from standalone.__main__ import main
from standalone.backup import encryption, manifest, signature
from standalone.backup.create import make_backup
from standalone.backup.encryption import Contents, Encryption
from standalone.errors import StackError
from tenants import age
from tenants.datasets import storage
from tenants.moderation.record import signatures
from tests.conftest import Party
from tests.standalone.test_backup_keys import standalone

SECRET = b"what only this workspace may read " * 50_000


def pair() -> tuple[str, str]:
    """A private key, and its public one."""
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


class Endless:
    """So many bytes, which nobody has in memory."""

    def __init__(self, length: int) -> None:
        self.left = length

    def read(self, size: int) -> bytes:
        given = min(size, self.left)
        self.left -= given
        return b"x" * given


class Measured:
    def __init__(self) -> None:
        self.length, self.largest = 0, 0

    def write(self, data: bytes) -> None:
        self.length += len(data)
        self.largest = max(self.largest, len(data))


@pytest.mark.parametrize("length", [0, 1, 65_535, 65_536, 65_537, 3 << 20])
def test_a_file_comes_back_and_its_length_is_known_without_a_key(tmp_path: Path, length: int) -> None:
    private, public = pair()
    (tmp_path / "identity").write_text(private)
    content = os.urandom(length)
    with (tmp_path / "a.age").open("wb") as sink:
        copied = Encryption((public,)).copy(io.BytesIO(content), sink)
    held = (tmp_path / "a.age").read_bytes()
    assert copied.sha256 == hashlib.sha256(held).hexdigest()
    assert (copied.content_sha256, copied.length) == (hashlib.sha256(content).hexdigest(), length)
    assert age.content_length(tmp_path / "a.age") == length
    described = manifest.Manifest("", "1", "18", {}, {}, {}, "", recipients=[public])
    opened = Contents(tmp_path, described, str(tmp_path / "identity"))
    back = io.BytesIO()
    opened.copy("a", back)
    assert (back.getvalue(), opened.length("a")) == (content, length)
    # Any other tool that knows age opens it.
    assert pyrage.decrypt(held, [pyrage.x25519.Identity.from_str(private)]) == content


def test_a_long_file_is_written_in_segments() -> None:
    sink = Measured()
    copied = Encryption((pair()[1],)).copy(Endless(64 << 20), sink)  # type: ignore[arg-type]
    assert copied.length == 64 << 20
    assert sink.largest == (64 << 10) + 16


class Full:
    """A disk without room, from so many bytes on."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, data: bytes) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return len(data)


@pytest.mark.parametrize("room", [0, 400, 70_000])
def test_a_full_disk_is_an_error_wherever_it_is_met(room: int) -> None:
    """pyrage itself keeps silent about the last write."""
    with pytest.raises(OSError, match="No space left"):
        Encryption((pair()[1],)).copy(io.BytesIO(bytes(100_000)), Full(room))  # type: ignore[arg-type]


def test_a_file_that_goes_while_it_is_read_keeps_its_error() -> None:
    class Gone:
        def read(self, size: int) -> bytes:
            raise FileNotFoundError(2, "gone")

    with pytest.raises(FileNotFoundError):
        Encryption((pair()[1],)).copy(Gone(), io.BytesIO())  # type: ignore[arg-type]


def test_recipients_are_a_list_or_a_file(tmp_path: Path) -> None:
    (_, one), (_, two) = pair(), pair()
    path = tmp_path / "recipients"
    path.write_text(f"# two people\n{one}\n\n{two} # the second\n{one}\n")
    for text in (f"{one},{two}", f"{one} {two}", str(path)):
        assert encryption.encryption_of({"BACKUP_RECIPIENTS": text}).recipients == (one, two)
    assert encryption.encryption_of({}) == Encryption()


def test_what_is_no_public_key_is_refused_and_a_private_one_not_repeated(tmp_path: Path) -> None:
    private, public = pair()
    (tmp_path / "empty").write_text("# nobody\n")
    for text, complaint in (
        ("age1nonsense", "'age1nonsense' is no public key of age"),
        (f"{public}x", "is no public key"),
        (str(tmp_path / "nowhere"), "cannot be read"),
        (str(tmp_path / "empty"), "without a public key"),
        (private, "holds a private key"),
        (f"{public},{private}", "holds a private key"),
    ):
        with pytest.raises(StackError, match=complaint) as refused:
            encryption.encryption_of({"BACKUP_RECIPIENTS": text})
        assert private not in str(refused.value)


def test_a_pair_of_keys_is_made_and_never_over_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "identity.txt"
    assert main(["backup-identity", str(path)]) == 0
    public = capsys.readouterr().out.strip()
    assert encryption.encryption_of({"BACKUP_RECIPIENTS": public}).recipients == (public,)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    assert main(["backup-identity", str(path)]) == 1
    assert "exists" in capsys.readouterr().err
    assert path.read_bytes() == before


class Made:
    """A backup of the services of this test, encrypted."""

    def __init__(self, folder: Path, party: Party) -> None:
        from django.conf import settings

        self.folder, self.data_dir, self.party = folder, settings.DATA_DIR, party
        self.private, self.public = pair()
        self.identity = folder / "identity.txt"
        self.identity.write_text(self.private)
        self.path = f"{party.id}/export/{party.id}"
        storage.put(self.path, SECRET)
        self.backup = self.make(self.public)

    def make(self, recipients: str) -> Path:
        env = {**os.environ, "BACKUP_RECIPIENTS": recipients}
        return make_backup(self.folder / "backups", env, self.data_dir, 30, lambda line: None)[0]


@pytest.fixture
def made(party: Party, tmp_path: Path) -> Made:
    return Made(tmp_path, party)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


@pytest.mark.slow
def test_every_file_is_encrypted_and_the_restored_installation_reads_it(made: Made, tmp_path: Path) -> None:
    plain = {"manifest.json", "manifest.sig", "SHA256SUMS"}
    assert {name for name in names(made.backup) if not name.endswith(".age")} == plain
    for path in (each for each in made.backup.rglob("*") if each.is_file() and each.name not in plain):
        assert path.read_bytes().startswith(b"age-encryption.org/v1\n")
    held = b"".join(path.read_bytes() for path in made.backup.rglob("*") if path.is_file())
    assert SECRET[:34] not in held
    note = json.loads((made.data_dir / "last-backup.json").read_text())
    assert (note["encrypted"], note["signed"]) == (True, True)
    ring = tmp_path / "signer.pem"
    ring.write_text("".join(f"{key.id}\n{key.pem}" for key in signatures.key_ring().public))

    restored = tmp_path / "restored"
    env = {"BACKUP_IDENTITY": str(made.identity), "BACKUP_SIGNER": str(ring)}
    done = standalone(restored, "restore", str(made.backup), **env)
    assert done.returncode == 0, done.stderr
    # The restore itself has compared every row with the manifest.
    assert (restored / "blobs" / made.path).read_bytes() == SECRET
    assert json.loads((restored / "secrets.json").read_text())["secret_key"] == os.environ["SECRET_KEY"]


@pytest.mark.slow
def test_the_next_backup_links_what_the_same_keys_open_and_nothing_else(made: Made) -> None:
    shutil.move(made.backup, made.folder / "backups" / "20200101T000000Z")
    first = made.folder / "backups" / "20200101T000000Z" / "files" / f"{made.path}.age"
    same = made.make(made.public)
    assert (same / "files" / f"{made.path}.age").samefile(first)
    assert manifest.verify(same).storage["new_files"] == 0
    shutil.rmtree(same)
    _, another = pair()
    for recipients in (f"{made.public},{another}", another):
        fresh = made.make(recipients)
        assert not (fresh / "files" / f"{made.path}.age").samefile(first)
        assert manifest.verify(fresh).storage["new_files"] == manifest.verify(fresh).storage["files"]
        shutil.rmtree(fresh)
    plain = made.make("")
    assert (plain / "files" / made.path).read_bytes() == SECRET
    assert (plain / "secrets.json").is_file()


@pytest.mark.slow
def test_what_does_not_open_or_fit_is_refused_before_anything_changes(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new"
    monkeypatch.setenv("DATA_DIR", str(target))
    stranger, public = pair()
    (tmp_path / "stranger").write_text(stranger)
    (tmp_path / "empty").write_text("# nothing\n")
    key = Ed25519PrivateKey.generate()
    pem = signatures.PublicKey(key.public_key().public_bytes_raw(), None).pem  # type: ignore[arg-type]
    (tmp_path / "another.pem").write_text(pem)

    def refused(complaint: str, backup: Path = made.backup, *options: str, **env: str) -> None:
        given = {"BACKUP_IDENTITY": str(made.identity), "BACKUP_SIGNER": "", **env}
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        assert main(["restore", str(backup), *options]) == 1
        assert complaint in capsys.readouterr().err.splitlines()[-1]
        assert not target.exists()

    refused(f"is encrypted for {made.public}: set BACKUP_IDENTITY", BACKUP_IDENTITY="")
    refused(f"has the private key of {public}", BACKUP_IDENTITY=str(tmp_path / "stranger"))
    refused("holds no private key", BACKUP_IDENTITY=str(tmp_path / "empty"))
    refused("cannot be read", BACKUP_IDENTITY=str(tmp_path / "nowhere"))
    refused("not by a key in", BACKUP_SIGNER=str(tmp_path / "another.pem"))
    refused("holds no public key", BACKUP_SIGNER=str(tmp_path / "empty"))

    copy = tmp_path / "copy"
    for damage, complaint in ((flipped, "was changed"), (cut, "was changed"), (Path.unlink, "is missing")):
        shutil.copytree(made.backup, copy)
        damage(copy / "files" / f"{made.path}.age")
        refused(complaint, copy)
        shutil.rmtree(copy)
    # Somebody makes it fit again, and signs it: only the key that one knows tells.
    shutil.copytree(made.backup, copy)
    signed = key.sign(signature.message_of((copy / "manifest.json").read_text()).encode())
    forged = signature.Signed("x", pem, base64.b64encode(signed).decode())
    (copy / "manifest.sig").write_text(forged.to_json())
    own = tmp_path / "own.pem"
    own.write_text(signatures.key_ring().public[0].pem)
    refused("was made by another installation, or by somebody else", copy, BACKUP_SIGNER=str(own))
    assert signature.check(copy, "", unsigned=False) == signature.id_of(key.public_key().public_bytes_raw())
    (copy / "manifest.sig").unlink()
    refused("is not signed", copy)
    refused("is not signed", copy, BACKUP_SIGNER=str(own))


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 20)


@pytest.mark.parametrize("damage", [flipped, cut])
def test_damage_that_the_sums_do_not_tell_is_told_by_the_cipher(tmp_path: Path, damage: Any) -> None:
    private, public = pair()
    (tmp_path / "identity").write_text(private)
    with (tmp_path / "a.age").open("wb") as sink:
        Encryption((public,)).copy(io.BytesIO(bytes(200_000)), sink)
    damage(tmp_path / "a.age")
    described = manifest.Manifest("", "1", "18", {}, {}, {}, "", recipients=[public])
    with pytest.raises(StackError, match="cannot be decrypted"):
        Contents(tmp_path, described, str(tmp_path / "identity")).text("a")


@pytest.mark.slow
def test_a_backup_of_the_release_before_is_taken_with_the_flag(made: Made, tmp_path: Path) -> None:
    """Format 1: neither encrypted nor signed, without the field that says so."""
    shutil.rmtree(made.backup)
    old = made.make("")
    body = json.loads((old / "manifest.json").read_text())
    body.pop("sha256")
    body.pop("recipients")
    body["format"] = 1
    (old / "manifest.json").write_text(json.dumps({**body, "sha256": manifest.digest_of(body)}))
    (old / "manifest.sig").unlink()
    assert "is not signed" in standalone(tmp_path / "restored", "restore", str(old)).stderr
    assert not (tmp_path / "restored").exists()
    done = standalone(tmp_path / "restored", "restore", str(old), "--unsigned")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "restored" / "blobs" / made.path).read_bytes() == SECRET
