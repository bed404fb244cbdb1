"""The parts of backup and restore, where each can be cut off or raced on purpose."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.storage import default_storage

from ml.provenance import signing
from standalone import datadir
from standalone.backup import manifest, signing_keys
from standalone.backup.create import BackupWriter, clear_leftovers, exclusively, prune, retention_days
from standalone.backup.database import Snapshot, snapshot, view
from standalone.backup.encryption import Contents
from standalone.backup.manifest import FILES, Manifest
from standalone.backup.stored_files import CopyReport, StorageCopier, restore_files
from standalone.backup.swap import PLACED, StagingArea
from standalone.errors import StackError
from standalone.processes import Spawner
from tenants.datasets import storage
from tenants.datasets.models import Asset, Blob
from tenants.datasets.services import REMOVING_FILES, collect_blobs, create_dataset
from tenants.pipeline.assets.services import add_asset, delete_asset
from tenants.retrieval.index import generation_files
from tenants.scope import tenant_scope
from tests.waiting import until


@pytest.fixture(autouse=True)
def _a_storage_of_its_own(tmp_path_factory: pytest.TempPathFactory, settings: Any) -> None:
    """A backup copies every tenant's files: those of all tests before would be gigabytes."""
    default = settings.STORAGES["default"]
    inner = default["OPTIONS"]["inner"]
    options = {**inner["OPTIONS"], "location": str(tmp_path_factory.mktemp("storage"))}
    wrapped = {**default, "OPTIONS": {"inner": {**inner, "OPTIONS": options}}}
    settings.STORAGES = {**settings.STORAGES, "default": wrapped}


@contextmanager
def opened() -> Iterator[Snapshot]:
    with snapshot(os.environ["OPERATOR_DATABASE_URL"], REMOVING_FILES) as seen:
        yield seen


def added(party, text: str) -> tuple[Asset, str]:
    """An asset of a new dataset, and where its text is stored."""
    with tenant_scope(party.id):
        dataset = create_dataset(name=f"d-{text[:20]}")
        asset = add_asset(dataset_id=dataset.id, text=text).asset
        return asset, storage.path_of(party.id, asset.blob.sha256)


def copied(
    seen: Snapshot, target: Path, previous: Path | None = None, known: dict[str, str] | None = None
) -> CopyReport:
    target.mkdir(parents=True, exist_ok=True)
    return StorageCopier(seen, target, previous, known or {}).run()


def test_archived_indexes_are_left_out(party, tmp_path: Path) -> None:
    """They are made again from the database, which is in the backup."""
    _, kept = added(party, "kept")
    path = generation_files.path_of(party.id, party.id, "vectors.f32")
    storage.put(path, b"derived")
    with opened() as seen:
        done = copied(seen, tmp_path / "files")
    assert f"{FILES}/{kept}" in done.sums
    assert not [name for name in done.sums if generation_files.KIND in name.split("/")]
    default_storage.delete(path)


def test_a_snapshot_sees_every_tenant_and_no_later_row(party, stranger) -> None:
    for each in (party, stranger):
        added(each, "before")
    with opened() as seen:
        added(party, "after")
        for each in (party, stranger):
            assert len(seen.blobs(str(each.id))) == 1
        before = seen.digests()
    with view(os.environ["OPERATOR_DATABASE_URL"]) as now:
        after = now.digests()
    assert after["asset"]["rows"] == before["asset"]["rows"] + 1
    assert after["asset"]["sha256"] != before["asset"]["sha256"]
    assert after["plan"] == before["plan"]


def test_files_stay_while_a_backup_copies_and_go_afterwards(party, tmp_path: Path) -> None:
    asset, path = added(party, "deleted during the backup")
    with opened() as seen:
        with tenant_scope(party.id):
            delete_asset(asset_id=asset.id)
            assert collect_blobs() == 0
        assert default_storage.exists(path)
        done = copied(seen, tmp_path / FILES)
        assert done.sums[f"{FILES}/{path}"] == asset.blob.sha256
        assert path not in done.missing

    # The database notices a moment later that the backup's connection is closed.
    def collected() -> int:
        with tenant_scope(party.id):
            return collect_blobs()

    assert until(collected) == 1
    with tenant_scope(party.id):
        assert not Blob.objects.exists()
    assert not default_storage.exists(path)


def test_files_of_later_uploads_and_of_nobody_are_left_out(party, tmp_path: Path) -> None:
    _, early = added(party, "early")
    nobody = storage.path_of(party.id, "ab" * 32)
    storage.put(nobody, b"left by a crash")
    source = f"{party.id}/import/9"
    storage.put(source, b"the source of an import")
    with opened() as seen:
        _, late = added(party, "late")
        mine = {path for path in copied(seen, tmp_path).sums if str(party.id) in path}
    assert mine == {f"{FILES}/{early}", f"{FILES}/{source}"}
    assert default_storage.exists(late)


def test_a_file_that_goes_all_the_same_starts_the_backup_anew(party, tmp_path: Path) -> None:
    asset, path = added(party, "removed by somebody who did not wait")
    maker = BackupWriter(tmp_path, os.environ, settings.DATA_DIR, Spawner(), print)
    with opened() as seen:
        default_storage.delete(path)
        done = copied(seen, tmp_path)
        assert path in done.missing
        # As long as the row is there it is damage, told in the backup; without it the snapshot is of the past.
        assert maker._gone_since([path]) == 0
        with tenant_scope(party.id):
            Asset.objects.filter(pk=asset.pk).delete()
            Blob.objects.filter(pk=asset.blob_id).delete()
        assert maker._gone_since([path]) == 1


def test_only_what_changed_is_copied_again(party, tmp_path: Path) -> None:
    asset, path = added(party, "the original")
    thumbnail = storage.path_of(party.id, asset.blob.sha256, "thumbnail")
    storage.put(thumbnail, b"first")
    with opened() as seen:
        first = copied(seen, tmp_path / "1" / FILES)
        known = {name.removeprefix(f"{FILES}/"): digest for name, digest in first.sums.items()}
        same = copied(seen, tmp_path / "2" / FILES, tmp_path / "1", known)
        assert (same.files, same.new_files, same.sums) == (first.files, 0, first.sums)
        default_storage.delete(thumbnail)
        storage.put(thumbnail, b"other")
        changed = copied(seen, tmp_path / "3" / FILES, tmp_path / "1", known)
        (tmp_path / "2" / FILES / path).unlink()
        lost = copied(seen, tmp_path / "4" / FILES, tmp_path / "2", known)
    assert (changed.new_files, changed.missing) == (1, same.missing)
    # What the earlier backup has lost is taken from the storage (and the thumbnail changed).
    assert (lost.new_files, lost.missing) == (2, same.missing)
    assert (tmp_path / "3" / FILES / thumbnail).read_bytes() == b"other"
    assert (tmp_path / "3" / FILES / path).samefile(tmp_path / "1" / FILES / path)


def test_a_damaged_original_is_named_and_not_taken_over_by_the_next_backup(party, tmp_path: Path) -> None:
    _, path = added(party, "whole")
    whole = storage.open_blob(path).read()
    default_storage.delete(path)
    storage.put(path, b"dirty")
    with opened() as seen:
        first = copied(seen, tmp_path / "1" / FILES)
        assert first.damaged == [path]
        default_storage.delete(path)
        storage.put(path, whole)
        known = {name.removeprefix(f"{FILES}/"): digest for name, digest in first.sums.items()}
        second = copied(seen, tmp_path / "2" / FILES, tmp_path / "1", known)
    assert (second.damaged, second.new_files) == ([], 1)
    assert (tmp_path / "2" / FILES / path).read_bytes() == whole


def test_files_of_a_bucket_are_saved_and_put_back(bucket: str, party, tmp_path: Path) -> None:
    asset, path = added(party, "in a bucket")
    with opened() as seen:
        done = copied(seen, tmp_path / FILES)
    assert done.sums[f"{FILES}/{path}"] == asset.blob.sha256
    default_storage.delete(path)
    contents = Contents(tmp_path, Manifest("", "1", "18", {}, {}, {}, ""))
    assert restore_files(contents, iter([path]), tmp_path) == 1
    assert storage.open_blob(path).read() == b"in a bucket"
    assert restore_files(contents, iter([path]), tmp_path) == 1


def complete(folder: Path, created: datetime) -> Path:
    made = folder / created.strftime("%Y%m%dT%H%M%SZ")
    made.mkdir()
    described = Manifest(created.isoformat(), "1", "18", {}, {}, {}, "")
    (made / "manifest.json").write_text(described.to_json())
    return made


def test_old_backups_expire_and_the_newest_never(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    oldest, old, recent = (complete(tmp_path, now - timedelta(days=days)) for days in (40, 31, 29))
    assert prune(tmp_path, 30) == [oldest, old]
    assert manifest.complete_backups(tmp_path) == [recent]
    assert prune(tmp_path, 0) == []
    assert list(tmp_path.iterdir()) == [recent]


def test_keeping_backups_longer_than_receipts_promise_is_said() -> None:
    said: list[str] = []
    assert retention_days(None, said.append) == settings.BACKUP_KEEP_DAYS
    assert retention_days(7, said.append) == 7
    assert said == []
    assert retention_days(365, said.append) == 365
    assert "erasure receipts promise" in said[0]


def test_leftovers_go_and_backups_stay(tmp_path: Path) -> None:
    kept = complete(tmp_path, datetime.now(UTC))
    for name in (".1.partial", ".2.old"):
        (tmp_path / name / "files").mkdir(parents=True)
    clear_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]


def test_two_backups_into_one_folder_take_turns(tmp_path: Path) -> None:
    with exclusively(tmp_path), pytest.raises(StackError, match="is being made"), exclusively(tmp_path):
        pass
    with exclusively(tmp_path):
        pass


@pytest.mark.parametrize("line", ["../secrets.json", "/etc/passwd", "files/../../x", ""])
def test_sums_name_only_files_of_the_backup(tmp_path: Path, line: str) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  {line}\n")
    with pytest.raises(StackError, match="a line that names no file"):
        list(manifest.read_sums(tmp_path))


def installation(folder: Path, word: str) -> None:
    for name in PLACED:
        if name.endswith(".json"):
            (folder / name).write_text(word)
        else:
            (folder / name).mkdir()
            (folder / name / "what").write_text(word)


def words(folder: Path) -> list[str]:
    found = (folder / name for name in PLACED)
    return [(path / "what" if path.is_dir() else path).read_text() for path in found]


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def test_placing_goes_on_wherever_it_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends before the n-th renaming, for every n."""
    rename, cuts = Path.rename, 0
    while True:
        home = tmp_path / str(cuts)
        home.mkdir()
        installation(home, "old")
        site = StagingArea(home)
        site.begin("backup")
        installation(site.folder, "new")
        left = cuts

        def cut(path: Path, target: Path) -> Path:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", cut)
        try:
            site.put_in_place()
            interrupted = False
        except Killed:
            interrupted = True
        monkeypatch.setattr(Path, "rename", rename)
        if not interrupted:
            break
        with pytest.raises(StackError, match="was interrupted"), datadir.claimed(home):
            pass
        StagingArea(home).finish()
        (aside,) = home.glob("replaced-*")
        assert (words(home), words(aside)) == (["new"] * len(PLACED), ["old"] * len(PLACED))
        assert not site.folder.exists()
        cuts += 1
    assert cuts == 2 * len(PLACED)


def test_signing_keys_are_saved_and_put_back_for_their_owner_only(tmp_path: Path) -> None:
    made = signing.tenant_keys(tmp_path / "here", "t1", "Ann's")
    signing_keys.write_keys(tmp_path / "there", signing_keys.read_keys(tmp_path / "here"))
    assert signing.tenant_keys(tmp_path / "there", "t1", "Ann's") == made
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "there").rglob("*.key")} == {"0o600"}
    assert signing_keys.read_keys(tmp_path / "nowhere") == {}
    for name in ("../root.key", "/root.key"):
        with pytest.raises(StackError, match="outside"):
            signing_keys.write_keys(tmp_path / "there", {name: "x"})


def test_another_backup_does_not_go_on_with_what_was_built(tmp_path: Path) -> None:
    site = StagingArea(tmp_path)
    site.begin("one")
    (site.folder / "blobs").mkdir()
    site.begin("one")
    assert (site.folder / "blobs").exists()
    site.begin("two")
    assert not (site.folder / "blobs").exists()
    assert json.loads(site.journal.read_text()) == {"backup": "two", "stage": "building"}


def test_a_full_disk_is_explained_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10 << 20))
    maker = BackupWriter(tmp_path, os.environ, settings.DATA_DIR, Spawner(), print)
    with pytest.raises(StackError, match="not enough space on the disk"):
        maker.make()
    assert list(tmp_path.iterdir()) == []
