"""Exports that somebody damaged or forged do not come in, and the refusal says why."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import CommandError, call_command
from django.utils import timezone

from tenants.accounts import services
from tenants.accounts.models import Tenant
from tenants.datasets.services import create_dataset
from tenants.errors import Invalid, ServiceError
from tenants.learning.dataset_versions import make_version
from tenants.moderation.record import signatures
from tenants.pipeline.assets import services as pipeline
from tenants.pipeline.transfer import tenant_import
from tenants.pipeline.transfer.export_reading import open_export
from tenants.retrieval.query import encoding
from tenants.scope import tenant_scope
from tests.api.conftest import picture
from tests.tenants.test_export import admit, export, ready, rows

NOBODY = "01939393-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def template(tmp_path_factory: Any) -> Path:
    """A small export, made once; each test damages a copy."""
    slug = f"t-{secrets.token_hex(6)}"
    tenant = services.create_tenant(slug=slug, name=slug, plan="demo")
    with tenant_scope(tenant.id):
        dataset = create_dataset(name="d")
        asset = pipeline.add_asset(dataset_id=dataset.id, text="text", values={"a": 1}, external_id="e").asset
        ready(asset, encoding.model_id(), "text")
        pipeline.add_asset(dataset_id=dataset.id, file=io.BytesIO(picture()))
        make_version(dataset_id=dataset.id, name="v1")
    folder = tmp_path_factory.mktemp("export") / "x"
    export(tenant, folder)
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "x"))


def sign(folder: Path) -> None:
    """Make manifest and header fit what is there, as whoever forges an export would."""
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    lines = []
    for name in files:
        if name not in ("export.json", "export.sig", "manifest.jsonl"):
            body = (folder / name).read_bytes()
            lines.append({"path": name, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()})
    seal(folder, "".join(json.dumps(line) + "\n" for line in lines).encode())


def seal(folder: Path, manifest: bytes) -> None:
    (folder / "manifest.jsonl").write_bytes(manifest)
    header = json.loads((folder / "export.json").read_text())
    header["counts"] |= {p.name: p.read_bytes().count(b"\n") for p in folder.glob("*s.jsonl")}
    header["manifest"] = {"bytes": len(manifest), "sha256": hashlib.sha256(manifest).hexdigest()}
    signed_anew(folder, header)


def signed_anew(folder: Path, header: dict[str, Any]) -> None:
    """By a key of the forger's own, as only the public key that one knows tells."""
    key = Ed25519PrivateKey.generate()
    pem = signatures.PublicKey(key.public_key().public_bytes_raw(), timezone.now()).pem
    raw = json.dumps({**header, "signed_by": {"id": "x", "public_key": pem}})
    (folder / "export.json").write_text(raw)
    (folder / "export.sig").write_bytes(key.sign(raw.encode()))


def change(folder: Path, name: str, /, **changes: Any) -> None:
    lines = rows(folder, name)
    lines[0] |= changes
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    sign(folder)


def refused(path: Path, words: str) -> None:
    """The command says why, and leaves no tenant that works."""
    slug = f"t-{secrets.token_hex(6)}"
    with pytest.raises(CommandError, match=words):
        call_command("import_tenant", str(path), "--slug", slug, "--plan", "demo")
    assert not Tenant.objects.filter(slug=slug, state="active").exists()


def test_the_template_itself_comes_in(folder) -> None:
    sign(folder)
    assert admit(folder).state == "active"


@pytest.mark.parametrize(
    "name",
    [
        "assets.jsonl",
        "vectors.parquet",
        "manifest.jsonl",
        "README.txt",
        "original",
        "export.json",
        "export.sig",
    ],
)
def test_one_flipped_byte_anywhere_is_seen_before_anything_is_made(folder, name) -> None:
    path = next(folder.glob("files/original/*/*")) if name == "original" else folder / name
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    slug = f"t-{secrets.token_hex(6)}"
    with pytest.raises(
        CommandError, match=r"damaged or changed|one of them was changed|not a JSON|does not say"
    ):
        call_command("import_tenant", str(folder), "--slug", slug)
    assert not Tenant.objects.filter(slug=slug).exists()


Damage = Callable[[Path], None]


def _link(folder: Path) -> None:
    path = next(folder.glob("files/original/*/*"))
    body = path.read_bytes()
    path.unlink()
    (folder.parent / "outside").write_bytes(body)
    path.symlink_to(folder.parent / "outside")


def _link_folder(folder: Path) -> None:
    (folder / "files").rename(folder.parent / "elsewhere")
    (folder / "files").symlink_to(folder.parent / "elsewhere")


def _name(name: str) -> Damage:
    def forge(folder: Path) -> None:
        line = json.dumps({"path": name, "bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()})
        seal(folder, (folder / "manifest.jsonl").read_bytes() + line.encode() + b"\n")

    return forge


def _twice(folder: Path) -> None:
    manifest = (folder / "manifest.jsonl").read_bytes()
    seal(folder, manifest.splitlines(keepends=True)[0] + manifest)


def _without(name: str) -> Damage:
    def forge(folder: Path) -> None:
        (folder / name).unlink()
        sign(folder)

    return forge


def _append(name: str, line: bytes) -> Damage:
    def forge(folder: Path) -> None:
        with (folder / name).open("ab") as stream:
            stream.write(line)
        sign(folder)

    return forge


def _row(name: str, /, **changes: Any) -> Damage:
    return lambda folder: change(folder, name, **changes)


def _header(**changes: Any) -> Damage:
    def forge(folder: Path) -> None:
        header = json.loads((folder / "export.json").read_text())
        signed_anew(folder, {**header, **changes})

    return forge


def _other_content(folder: Path) -> None:
    next(folder.glob("files/original/*/*")).write_bytes(b"something else")
    sign(folder)


def _table(**columns: Any) -> Damage:
    def forge(folder: Path) -> None:
        table = pq.read_table(folder / "vectors.parquet")
        for name, values in columns.items():
            table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)
        pq.write_table(table, folder / "vectors.parquet")
        sign(folder)

    return forge


def _other_columns(folder: Path) -> None:
    pq.write_table(pa.table({"asset_id": ["x"]}), folder / "vectors.parquet")
    sign(folder)


NAN = pa.FixedSizeListArray.from_arrays(pa.array([float("nan")] * 256, pa.float32()), 256)
ZERO = pa.FixedSizeListArray.from_arrays(pa.array([0.0] * 256, pa.float32()), 256)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(_link, "not a plain file", id="link to a file"),
        pytest.param(_link_folder, "not a plain file", id="link to a folder"),
        pytest.param(_name("zz/../../etc/passwd"), "no file of an export", id="path traversal"),
        pytest.param(_name("/etc/passwd"), "no file of an export", id="absolute path"),
        pytest.param(_name("files/original/zz/" + "z" * 64), "no file of an export", id="no hash"),
        pytest.param(_name("vectors.parquet"), "names it twice", id="named twice"),
        pytest.param(_twice, "not sorted", id="not sorted"),
        pytest.param(_without("assets.jsonl"), "lacks assets.jsonl", id="no assets"),
        pytest.param(_append("assets.jsonl", b"[1]\n"), "line 3: .*JSON object", id="no object"),
        pytest.param(_append("assets.jsonl", b"{\n"), "line 3: .*JSON object", id="no JSON"),
        pytest.param(_append("assets.jsonl", b"\xff\n"), "line 3: .*UTF-8", id="no UTF-8"),
        pytest.param(_append("assets.jsonl", b"[" * 200_000), "line 3: .*JSON object", id="deep"),
        pytest.param(_append("assets.jsonl", b"x" * (9 << 20)), "more than 8 MiB", id="long line"),
        pytest.param(_header(version=2), "version 1", id="other version"),
        pytest.param(_header(tenant=[]), "lacks the tenant", id="no tenant"),
        pytest.param(_header(counts={"a": -1}), "counts", id="negative count"),
        pytest.param(_header(counts={}), "as many as export.json counts", id="other count"),
        pytest.param(_header(manifest={}), "not given", id="no digest"),
        pytest.param(_row("assets.jsonl", modality="smell"), "modality is one of", id="modality"),
        pytest.param(_row("assets.jsonl", revision=True), "revision has a value", id="bool for int"),
        pytest.param(_row("assets.jsonl", revision=2**40), "revision is a number", id="huge int"),
        pytest.param(_row("assets.jsonl", extra=1), "The fields are", id="unknown field"),
        pytest.param(_row("assets.jsonl", id="../x"), "An id is a UUID", id="bad id"),
        pytest.param(_row("assets.jsonl", created_at="2020-01-01"), "with its zone", id="no zone"),
        pytest.param(_row("assets.jsonl", caption="\x00"), "NUL", id="NUL"),
        pytest.param(_row("assets.jsonl", caption="x" * 10_001), "at most 10000", id="long caption"),
        pytest.param(_row("assets.jsonl", metadata={"a": {"b": "\ud800"}}), "surrogates", id="surrogate"),
        pytest.param(
            _row("assets.jsonl", dataset_id="01939393-0000-7000-8000-000000000000"),
            "not there",
            id="no dataset",
        ),
        pytest.param(_row("blobs.jsonl", bytes=1), "another length", id="quota evasion"),
        pytest.param(_row("blobs.jsonl", media_type="image/svg+xml"), "which no file", id="active type"),
        pytest.param(
            _row("blobs.jsonl", media_type="text/html"), "is text/plain, not text/html", id="no page"
        ),
        pytest.param(_row("blobs.jsonl", document={}), "missing", id="nothing was read"),
        pytest.param(_row("blobs.jsonl", has_thumbnail=True), "missing", id="no thumbnail"),
        pytest.param(_row("blobs.jsonl", details={}), "details lack", id="details"),
        pytest.param(_row("datasets.jsonl", name=""), "A name has", id="no name"),
        pytest.param(_row("datasets.jsonl", retention_days=0), "from 1 to", id="retention"),
        pytest.param(_row("datasets.jsonl", metadata_schema={"a": 1}), "maps to", id="schema"),
        pytest.param(_row("dataset_versions.jsonl", name=""), "at most 100", id="version without a name"),
        pytest.param(_row("dataset_versions.jsonl", digest="0" * 64), "its count or digest", id="digest"),
        pytest.param(_row("dataset_versions.jsonl", asset_count=1), "its count or digest", id="count"),
        pytest.param(_row("dataset_versions.jsonl", digest="x"), "SHA-256 in hex", id="no digest"),
        pytest.param(_row("dataset_versions.jsonl", kinds={"smell": 1}), "by modality", id="kinds"),
        pytest.param(
            _row("dataset_versions.jsonl", dataset_id=NOBODY), "dataset that is not", id="no dataset"
        ),
        pytest.param(
            _row("dataset_version_assets.jsonl", version_id=NOBODY), "version that is", id="no version"
        ),
        pytest.param(_row("dataset_version_assets.jsonl", digest="0" * 64), "count or digest", id="line"),
        pytest.param(_other_content, "content that its name says", id="other content"),
        pytest.param(_other_columns, "other columns", id="columns"),
        pytest.param(_table(vector=NAN), "no unit vector", id="NaN"),
        pytest.param(_table(vector=ZERO), "no unit vector", id="zero"),
        pytest.param(_table(asset_id=pa.array(["x"])), "cannot be read", id="vector of nothing"),
        pytest.param(_table(modality=pa.array(["smell"])), "unknown modality", id="vector's modality"),
        pytest.param(_table(segment=pa.array(["[" * 100_000])), "cannot be read", id="deep segment"),
    ],
)
def test_a_forged_export_is_refused_and_says_why(folder, damage, words) -> None:
    damage(folder)
    refused(folder, words)


def test_whose_export_it_is_is_told_by_the_key_that_one_knows(folder, tmp_path) -> None:
    ring, slug = signatures.key_ring(), f"t-{secrets.token_hex(6)}"
    (tmp_path / "ours.txt").write_text("".join(f"{key.id}\n{key.pem}" for key in ring.public))
    (tmp_path / "none.txt").write_text("no key")
    out = io.StringIO()
    call_command("verify_export", str(folder), "--key", str(tmp_path / "ours.txt"), stdout=out)
    assert out.getvalue().splitlines()[1] == f"signed by a key in {tmp_path}/ours.txt"
    with pytest.raises(CommandError, match="holds no public key"):
        call_command("verify_export", str(folder), "--key", str(tmp_path / "none.txt"))
    # Somebody changes a caption, and makes all of it fit again.
    change(folder, "assets.jsonl", caption="forged")
    call_command("verify_export", str(folder), stdout=out)
    for command in (["verify_export", str(folder)], ["import_tenant", str(folder), "--slug", slug]):
        with pytest.raises(CommandError, match="somebody else made it"):
            call_command(*command, "--key", str(tmp_path / "ours.txt"))
    # The signature taken away: as an export of 0.2, and no more than that.
    header = json.loads((folder / "export.json").read_text())
    header.pop("signed_by")
    (folder / "export.json").write_text(json.dumps(header))
    out = io.StringIO()
    call_command("verify_export", str(folder), stdout=out)
    assert "not signed" in out.getvalue()
    with pytest.raises(CommandError, match="is not signed"):
        call_command("verify_export", str(folder), "--key", str(tmp_path / "ours.txt"))
    assert not Tenant.objects.filter(slug=slug).exists()


def test_a_signature_is_checked_by_another_program(folder, tmp_path) -> None:
    """As README.txt says."""
    (tmp_path / "key.pem").write_text(signatures.key_ring().public[0].pem)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(tmp_path / "key.pem"), "-rawin"]
    command += ["-in", str(folder / "export.json"), "-sigfile", str(folder / "export.sig")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    with (folder / "export.json").open("a") as stream:
        stream.write(" ")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_ids_that_stand_twice_are_refused(folder) -> None:
    line = (folder / "assets.jsonl").read_bytes().splitlines(keepends=True)[0]
    _append("assets.jsonl", line)(folder)
    refused(folder, "twice")


def test_a_plan_that_is_too_small_is_said(folder, monkeypatch) -> None:
    plan = services.ensure_plan("demo")
    tiny = type(plan).objects.create(slug=f"p-{secrets.token_hex(4)}", name="tiny", limits={"assets": 1})
    slug = f"t-{secrets.token_hex(6)}"
    with pytest.raises(CommandError, match="allows 1 assets"):
        call_command("import_tenant", str(folder), "--slug", slug, "--plan", tiny.slug)
    assert Tenant.objects.get(slug=slug).state == "suspended"
    call_command("erase_tenant", slug, "--yes", stdout=io.StringIO())
    assert not Tenant.objects.filter(slug=slug).exists()


def test_a_bomb_is_not_unpacked(folder, tmp_path) -> None:
    """A kilobyte of zip that says it holds one line and unpacks to a gigabyte is read for as long as it said."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "assets.jsonl":
                archive.write(path, str(path.relative_to(folder)))
        with archive.open("assets.jsonl", "w") as stream:
            for _ in range(300):
                stream.write(bytes(1 << 20))
    before = timezone.now()
    refused(tmp_path / "x.zip", "assets.jsonl is not what the manifest says")
    assert (timezone.now() - before).total_seconds() < 5


def zipped(folder: Path, path: Path, packed: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packed) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, str(file.relative_to(folder)))
    return path


def test_a_zip_that_cannot_be_unpacked_is_damaged(folder, tmp_path) -> None:
    sign(folder)
    path = zipped(folder, tmp_path / "x.zip")
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("assets.jsonl")
    start = entry.header_offset + 30 + len(entry.filename)
    body = bytearray(path.read_bytes())
    body[start : start + 8] = b"\xff" * 8
    path.write_bytes(body)
    refused(path, "is damaged")
    refused(zipped(folder, tmp_path / "y.zip", zipfile.ZIP_LZMA), "packed in an unknown way")


@pytest.mark.parametrize("body", [b"", b"PK\x03\x04 but no zip", b"x" * 1000])
def test_what_is_no_export_is_said(tmp_path, body) -> None:
    (tmp_path / "x").write_bytes(body)
    refused(tmp_path / "x", "neither a folder nor a zip")
    refused(tmp_path / "nothing", "neither a folder nor a zip")


def test_errors_are_of_the_family_that_everything_shows(folder) -> None:
    _row("assets.jsonl", modality="smell")(folder)
    with open_export(folder) as opened, pytest.raises(ServiceError):
        tenant_import.import_tenant(opened, slug=f"t-{secrets.token_hex(6)}")
    with pytest.raises(Invalid), open_export(folder / "nothing"):
        pass
