"""Recovery to a point in time: the archive of the log, base backups that build on each other, and a moment restored."""

from __future__ import annotations

import gzip
import os
import secrets
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pyrage
import pytest

from standalone.backup import manifest, point_in_time, wal
from standalone.backup.point_in_time import BASE, BASE_NOTE
from standalone.doctor import surroundings
from standalone.doctor.findings import Options
from standalone.errors import StackError
from standalone.stack import Stack, embedded_services
from tests.flows.client import Client
from tests.standalone.test_backup import done, key_of, name_now, refused, rows
from tests.waiting import until

SEGMENT = "000000010000000000000003"
CONTENT = os.urandom(1 << 16) + bytes(1 << 20)
KEPT = "SELECT 'asset', blob.sha256 FROM asset JOIN blob ON blob.id = asset.blob_id"


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> wal.Archive:
    monkeypatch.setenv(wal.VARIABLE, str(tmp_path))
    return wal.open_archive(str(tmp_path))


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    """As Postgres calls it."""
    command = [sys.executable, "-I", str(Path(wal.__file__)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_segment_comes_back_as_it_was_put(archive: wal.Archive, tmp_path: Path) -> None:
    (tmp_path / "segment").write_bytes(CONTENT)
    for _again in range(2):
        assert call("put", str(tmp_path / "segment"), SEGMENT).returncode == 0
    [stored] = archive.segments()
    assert stored.startswith(f"{SEGMENT}.")
    assert (tmp_path / stored).stat().st_size < len(CONTENT) / 8
    assert call("fetch", SEGMENT, str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == CONTENT
    assert call("fetch", "000000010000000000000004", str(tmp_path / "none")).returncode == wal.ABSENT
    assert not (tmp_path / "none").exists()


def test_another_content_under_a_taken_name_is_refused(archive: wal.Archive, tmp_path: Path) -> None:
    archive.put(SEGMENT, CONTENT)
    (tmp_path / "segment").write_bytes(CONTENT[::-1])
    answer = call("put", str(tmp_path / "segment"), SEGMENT)
    # Not above 125: Postgres would count no failure.
    assert answer.returncode == 1
    assert "do two clusters write to it?" in answer.stderr
    assert archive.fetch(SEGMENT) == CONTENT


@pytest.mark.parametrize("name", ["../etc/passwd", "00000001", f"{SEGMENT}.gz", SEGMENT.lower() + "x"])
def test_a_name_that_is_no_segment_is_refused(archive: wal.Archive, name: str) -> None:
    with pytest.raises(wal.ArchiveError, match="no name of a segment"):
        archive.put(name, CONTENT)


@pytest.mark.parametrize("damage", [b"", b"\x1f\x8b", gzip.compress(b"something else", mtime=0)])
def test_a_damaged_segment_is_not_replayed(archive: wal.Archive, tmp_path: Path, damage: bytes) -> None:
    archive.put(SEGMENT, CONTENT)
    (tmp_path / archive.segments()[0]).write_bytes(damage)
    answer = call("fetch", SEGMENT, str(tmp_path / "back"))
    assert (answer.returncode, (tmp_path / "back").exists()) == (wal.BROKEN, False)
    assert "is damaged" in answer.stderr


def test_segments_are_encrypted_for_those_of_the_backups(
    archive: wal.Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    monkeypatch.setenv(wal.RECIPIENTS_VARIABLE, str(one.to_public()))
    archive.put(SEGMENT, CONTENT)
    # Put again: encrypted anew it would differ, and is the same segment.
    archive.put(SEGMENT, CONTENT)
    [stored] = archive.segments()
    assert stored.endswith(".gz.age")
    assert gzip.decompress(pyrage.decrypt((tmp_path / stored).read_bytes(), [one])) == CONTENT
    for identity in ("", str(other)):
        monkeypatch.setenv(wal.IDENTITIES_VARIABLE, identity)
        with pytest.raises(wal.ArchiveError, match="BACKUP_IDENTITY"):
            archive.fetch(SEGMENT)
    monkeypatch.setenv(wal.IDENTITIES_VARIABLE, f"{other},{one}")
    assert archive.fetch(SEGMENT) == CONTENT


def test_what_no_base_backup_needs_goes_and_histories_stay(archive: wal.Archive) -> None:
    before, first, after = (f"00000001000000000000000{n}" for n in (1, 2, 3))
    for name in (before, f"{before}.00000028.backup", first, after, "00000002.history"):
        archive.put(name, name.encode())
    # Another timeline counts by its place in the log, too.
    assert archive.remove_before(f"00000002{first[8:]}") == 2
    left = [name.partition(".")[0] for name in archive.segments()]
    assert left == [first, after, "00000002"]


@pytest.mark.parametrize("url", ["wal", "s3:///wal", "https://host/wal", "file://host/wal", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(wal.ArchiveError, match=r"absolute path of a folder or s3://"):
        wal.open_archive(url)


def backup_of(folder: Path, name: str, ended: datetime, builds_on: str = "") -> Path:
    (folder / name).mkdir()
    (folder / name / manifest.MANIFEST).write_text("{}")
    note = point_in_time.Base(ended.isoformat(), SEGMENT, builds_on)
    point_in_time.write_json(folder / name / BASE_NOTE, point_in_time.asdict(note))
    return folder / name


def test_the_newest_backup_before_the_moment_is_chosen_with_what_it_builds_on(tmp_path: Path) -> None:
    noon = datetime(2026, 11, 30, 12, tzinfo=UTC)
    hours = [noon + timedelta(hours=n) for n in range(4)]
    one = backup_of(tmp_path, "1", hours[0])
    two = backup_of(tmp_path, "2", hours[1], "1")
    three = backup_of(tmp_path, "3", hours[2], "2")
    minute = timedelta(minutes=1)
    assert point_in_time.choose(tmp_path, hours[1] + minute) == two
    assert point_in_time.choose(tmp_path, None) == three
    assert point_in_time.chain_of(three) == [one, two, three]
    with pytest.raises(StackError, match=r"The oldest base backup in .* ended at 2026-11-30T12:00:00"):
        point_in_time.choose(tmp_path, hours[0] - minute)
    # Without the middle one the last is good for nothing.
    shutil.rmtree(two)
    assert point_in_time.choose(tmp_path, hours[3]) == one
    shutil.rmtree(one)
    with pytest.raises(StackError, match=r"No backup in .* has a base backup"):
        point_in_time.choose(tmp_path, None)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("yesterday", "TO_TIME is a time such as"),
        ("2126-01-01", "has not come yet"),
        ("", "TO_TIME is a time"),
    ],
)
def test_a_moment_that_cannot_be_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(StackError, match=complaint):
        point_in_time.moment(text)


def test_a_moment_without_a_zone_is_utc() -> None:
    assert point_in_time.moment("2026-11-29 10:00:05") == datetime(2026, 11, 29, 10, 0, 5, tzinfo=UTC)
    assert point_in_time.moment("latest") is None


@pytest.mark.slow
@pytest.mark.stack
def test_a_moment_is_restored_to_the_second(stack: Stack, tmp_path: Path) -> None:
    """Rows as they were then, from an incremental base backup and the log, encrypted; files from a later backup."""
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "identity").write_text(str(identity))
    env = {"BACKUP_RECIPIENTS": str(identity.to_public())}
    folder, wanted = tmp_path / "backups", tmp_path / "new"
    client = Client(stack.base_url, key_of(stack))
    dataset = client.dataset(secrets.token_hex(8))

    def put() -> dict[str, str]:
        return client.put(dataset, text=f"the words of {secrets.token_hex(8)}")

    put_before = []
    for _night in range(2):
        put_before.append(put())
        done(stack.data_dir, "backup", "--to", str(folder), **env)
        tick()
    put_before.append(third := put())
    moment = now_in(stack)
    put()
    client.json("DELETE", f"/assets/{third['id']}", 204)
    done(stack.data_dir, "backup", "--to", str(folder), **env)
    finish_segment(stack)
    bases = [point_in_time.read_base(backup) for backup in manifest.complete_backups(folder)]
    assert [bool(base and base.builds_on) for base in bases] == [False, True, True]
    full, small = (
        (backup / f"{BASE}.age").stat().st_size for backup in manifest.complete_backups(folder)[:2]
    )
    assert small < full / 4

    given = {
        "WAL_ARCHIVE": stack.env["WAL_ARCHIVE"],
        "BACKUP_IDENTITY": str(tmp_path / "identity"),
    }
    later = (moment + timedelta(days=-300)).isoformat()
    assert "The oldest base backup in" in refused(wanted, "restore", str(folder), "--to-time", later, **given)
    assert not (wanted / "postgres").exists()
    printed = done(wanted, "restore", str(folder), "--to-time", moment.isoformat(), **given)
    assert f" as of {moment.isoformat()} to {wanted}" in printed
    with embedded_services(wanted, throwaway=False, migrated=False):
        held = rows(wanted, f"{KEPT} WHERE dataset_id = '{dataset}'")
        known = set(rows(wanted, "SELECT 'blob', sha256 FROM blob")["blob"])
        version = rows(wanted, "SELECT 'timeline', timeline_id::text FROM pg_control_checkpoint()")
    assert held["asset"] == sorted(asset["sha256"] for asset in put_before)
    assert version["timeline"] == ["2"]
    originals = {path.name for path in (wanted / "blobs").glob("*/original/*/*")}
    # The one that was deleted later is gone for good, and told.
    assert known - originals <= {third["sha256"]}


def tick() -> None:
    """Backups are named by the second."""
    made = name_now()
    until(lambda: name_now() > made, 5, "the clock stands")


def now_in(stack: Stack) -> datetime:
    with psycopg2.connect(point_in_time.superuser_url(stack.data_dir)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT clock_timestamp()")
        found: datetime = cursor.fetchone()[0]
        return found.astimezone(UTC)


def finish_segment(stack: Stack) -> None:
    point_in_time.await_archive(point_in_time.superuser_url(stack.data_dir))


def test_doctor_tells_that_nothing_is_archived_and_that_the_archive_does_not_take_the_log(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WAL_ARCHIVE = ""
    assert surroundings.wal_archive(Options()).verdict == "warn"
    settings.WAL_ARCHIVE = "/mnt/wal"
    early, late = (datetime(2026, 11, 30, hour, tzinfo=UTC) for hour in (10, 11))
    for row, verdict, said in (
        ((None, None, None, None), "ok", "nothing to archive yet"),
        ((None, None, SEGMENT, early), "ok", f"{SEGMENT} at 2026-11-30 10:00"),
        ((SEGMENT, early, SEGMENT, late), "ok", f"{SEGMENT} at 2026-11-30 11:00"),
        ((SEGMENT, late, SEGMENT, early), "fail", f"/mnt/wal does not take {SEGMENT}"),
        ((SEGMENT, late, None, None), "fail", f"/mnt/wal does not take {SEGMENT}"),
    ):
        monkeypatch.setattr(surroundings, "archiver", lambda row=row: row)
        finding = surroundings.wal_archive(Options())
        assert (finding.verdict, said in finding.what) == (verdict, True)


def test_a_bucket_takes_the_log_too(
    s3_endpoint: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the environment that Postgres gives: STORAGE_URL's credentials, and an endpoint of one's own."""
    given = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**given, "AWS_ENDPOINT_URL": s3_endpoint, wal.VARIABLE: f"s3://{bucket}/wal"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "segment").write_bytes(CONTENT)
    for _again in range(2):
        answer = call("put", str(tmp_path / "segment"), SEGMENT)
        assert (answer.returncode, answer.stderr) == (0, "")
    assert call("fetch", SEGMENT, str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == CONTENT
    assert call("fetch", SEGMENT[:-1] + "9", str(tmp_path / "none")).returncode == wal.ABSENT
    archive = wal.open_archive(f"s3://{bucket}/wal")
    assert len(archive.segments()) == 1
    assert wal.open_archive(f"s3://{bucket}/other").segments() == []
    assert archive.remove_before(SEGMENT[:-1] + "4") == 1
    assert archive.segments() == []
    # Away is not absent: Postgres stops instead of ending the recovery here.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert call("fetch", SEGMENT, str(tmp_path / "none")).returncode == wal.BROKEN
    assert call("put", str(tmp_path / "segment"), SEGMENT).returncode == 1
