from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from standalone import datadir
from standalone.errors import StackError


def test_secrets_are_private_and_kept(tmp_path: Path) -> None:
    first = datadir.load_secrets(tmp_path)
    assert set(first) == set(datadir.SECRET_NAMES)
    assert len(set(first.values())) == len(first)
    assert min(map(len, first.values())) >= 40
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert datadir.load_secrets(tmp_path) == first


def test_a_release_that_needs_another_secret_keeps_the_old_ones(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text(json.dumps({"secret_key": "old"}))
    secrets = datadir.load_secrets(tmp_path)
    assert secrets["secret_key"] == "old"
    assert set(secrets) == set(datadir.SECRET_NAMES)


def test_one_stack_at_a_time(tmp_path: Path) -> None:
    with (
        datadir.claimed(tmp_path),
        pytest.raises(StackError, match=r"Another stack \(process \d+\) is running on"),
        datadir.claimed(tmp_path),
    ):
        pass
    with datadir.claimed(tmp_path):
        pass


def test_a_new_directory_notes_its_versions(tmp_path: Path) -> None:
    with datadir.claimed(tmp_path / "new"):
        pass
    written = json.loads((tmp_path / "new" / "version.json").read_text())
    assert written == {"layout": datadir.LAYOUT, "postgres": datadir.POSTGRES_MAJOR}


def test_data_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    written = json.dumps({"layout": datadir.LAYOUT + 1, "postgres": datadir.POSTGRES_MAJOR})
    (tmp_path / "version.json").write_text(written)
    with pytest.raises(StackError, match="written by a newer release"), datadir.claimed(tmp_path):
        pass
    assert (tmp_path / "version.json").read_text() == written


def test_a_cluster_of_another_postgres_is_refused(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("17\n")
    with pytest.raises(StackError, match="Postgres 17"):
        datadir.check_cluster_version(tmp_path)


def test_too_little_space_is_said_before_anything_is_written(tmp_path: Path) -> None:
    megabyte = 1024 * 1024
    datadir.check_space(tmp_path, 10, free_bytes=lambda path: 10 * megabyte)
    with pytest.raises(StackError, match="9 MB free, 10 MB needed"):
        datadir.check_space(tmp_path, 10, free_bytes=lambda path: 10 * megabyte - 1)


def test_a_write_to_a_full_disk_is_explained(tmp_path: Path) -> None:
    with (
        pytest.raises(StackError, match="not enough space on the disk"),
        datadir.disk_full_explained(tmp_path),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")


def test_a_child_that_met_a_full_disk_is_explained(tmp_path: Path) -> None:
    with (
        pytest.raises(StackError, match="not enough space on the disk"),
        datadir.disk_full_explained(tmp_path),
    ):
        raise StackError("initdb failed:\nFATAL: could not extend file: No space left on device")


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"^web does not start$"), datadir.disk_full_explained(tmp_path):
        raise StackError("web does not start")


def test_a_new_directory_gets_a_master_key_and_an_old_one_none(tmp_path: Path) -> None:
    datadir.make_master_key(tmp_path, {})
    path = tmp_path / "master.key"
    assert (stat.S_IMODE(path.stat().st_mode), len(path.read_text())) == (0o600, 45)
    held = path.read_text()
    datadir.load_secrets(tmp_path)
    datadir.make_master_key(tmp_path, {})
    assert path.read_text() == held
    assert datadir.master_key(tmp_path, {}) == {"MASTER_KEY_FILE": str(path)}
    assert datadir.master_key(tmp_path, {"KMS_URL": "aws-kms:///a"}) == {"KMS_URL": "aws-kms:///a"}
    (tmp_path / "old").mkdir()
    datadir.load_secrets(tmp_path / "old")
    datadir.make_master_key(tmp_path / "old", {})
    assert datadir.master_key(tmp_path / "old", {}) == {}


def test_a_new_secret_key_keeps_the_former_ones(tmp_path: Path) -> None:
    first = datadir.load_secrets(tmp_path)
    datadir.new_secret_key(tmp_path)
    second = datadir.load_secrets(tmp_path)
    datadir.new_secret_key(tmp_path)
    third = datadir.load_secrets(tmp_path)
    assert third[datadir.FORMER] == f"{second['secret_key']},{first['secret_key']}"
    assert len({each["secret_key"] for each in (first, second, third)}) == 3
