"""Folders of this machine, and what kind of source a file is."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tenants.datasets.importers import FORMATS, detect, limits, open_items, preview
from tenants.errors import Invalid, UnsupportedMedia
from tests.tenants.importing import JPEG, packed, read, read_files, tarred


def filled(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_a_folder_is_walked_in_order(tmp_path) -> None:
    root = filled(
        tmp_path / "source",
        {
            "b/2.jpg": JPEG,
            "b/2.txt": b"caption",
            "a.txt": b"text",
            "b/10.jpg": JPEG,
            "c/.x": b"",
            "b.json": b"{}",
        },
    )
    items = read(root, "files")
    assert [(item.row, item.name, item.text) for item in items] == [
        (1, "a.txt", "text"),
        (2, "b/10.jpg", ""),
        (3, "b/2.jpg", "caption"),
        (4, "b.json", ""),
    ]
    assert items[3].error == 'JSON with no file beside it and no "text" or "caption" inside.'
    assert read_files(root, "files", tmp_path)[1:3] == [("b/10.jpg", JPEG), ("b/2.jpg", JPEG)]
    assert [item.row for item in read(root, "files", after=2)] == [3, 4]


def test_links_are_reported_and_never_followed(tmp_path) -> None:
    secret = filled(tmp_path / "secret", {"key.txt": b"secret"})
    root = filled(tmp_path / "source", {"a.txt": b"a"})
    (root / "file.txt").symlink_to(secret / "key.txt")
    (root / "folder").symlink_to(secret)
    (root / "pipe").mkdir()
    os.mkfifo(root / "pipe" / "p.txt")
    assert [(item.name, item.text, item.error) for item in read(root, "files")] == [
        ("a.txt", "a", None),
        ("file.txt", "", "A symbolic link; links are not followed."),
        ("folder", "", "A symbolic link; links are not followed."),
        ("pipe/p.txt", "", "Not a regular file."),
    ]
    (root / "manifest.csv").write_text("file\nfile.txt\nfolder/key.txt\n../secret/key.txt\npipe/p.txt\n")
    errors = [item.error for item in read(root, "files")]
    assert errors[:2] == ["A symbolic link; links are not followed."] * 2
    assert errors[2] is not None and errors[2].startswith("The path leads out")
    assert errors[3] == "Not a regular file."


def test_a_folder_with_a_manifest(tmp_path) -> None:
    files = {"top/metadata.csv": b"file_name,text\n1.jpg,one\n2.jpg,two\n", "top/1.jpg": JPEG}
    items = read(filled(tmp_path / "source", files), "files")
    assert [(item.file_name, item.text, item.error) for item in items] == [
        ("top/1.jpg", "one", None),
        ("", "", 'There is no file "top/2.jpg".'),
    ]


def test_limits_of_folders(tmp_path, monkeypatch) -> None:
    root = filled(tmp_path / "source", {"a/b/c.txt": b"c", "d.txt": b"d", "e.txt": b"e"})
    monkeypatch.setattr(limits, "DEPTH", 1)
    monkeypatch.setattr(limits, "ENTRIES", 2)
    first, second, last = read(root, "files")
    assert (first.name, first.error) == ("a/b", "More than 1 folders deep.")
    assert second.text == "d"
    assert last.error is not None and last.error.startswith("More than 2 files")


def test_what_a_tenant_wrote_is_never_a_path(tmp_path) -> None:
    root = filled(tmp_path / "source", {"a.txt": b"a"})
    for location in (
        str(root),
        f"file://{root}",
        "/etc",
        "s3://../etc",
        "S3://bucket/x",
        "s3://a_b/x",
        "s3://ab",
    ):
        with pytest.raises(Invalid) as caught, open_items(location, "files"):
            pass
        assert caught.value.errors[0]["pointer"] == "/location"
    with pytest.raises(Invalid):
        read(tmp_path / "none", "files")


def test_reading_after_the_source_is_closed_fails(tmp_path) -> None:
    """The descriptor's number may stand for somebody else's file by then."""
    with open_items(packed(tmp_path, {"a.jpg": JPEG}), "zip") as items:
        (item,) = items
    assert item.save is not None
    with pytest.raises(OSError, match="Bad file descriptor"):
        item.save(tmp_path / "saved", 1000)


def test_formats_are_told_by_content(tmp_path) -> None:
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "p")
    assert detect(packed(tmp_path, {"a": b"x"}), "photo.csv") == "zip"
    assert detect(packed(tmp_path, {}), "x.zip") == "zip"
    assert detect(tarred(tmp_path, {"a": b"x"}), "x.zip") == "tar"
    assert detect(tmp_path / "p", "x.tar") == "parquet"
    assert set(FORMATS) == {"zip", "tar", "csv", "jsonl", "parquet", "files"}


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (b"a,b\n1,2\n", "x.csv", "csv"),
        (b"one\ntwo\n", "x.csv", "csv"),
        (b"a\tb\n", "x.tsv", "csv"),
        (b"a,b\n", "x", "csv"),
        (b"a;b\n", "x.txt", "csv"),
        ("a,é\n".encode("cp1252"), "x.CSV", "csv"),
        ("a,b\n".encode("utf-16"), "x", "csv"),
        (b'{"a": 1}\n', "x.jsonl", "jsonl"),
        (b'\xef\xbb\xbf{"a": 1}\n', "x", "jsonl"),
        (b'{"a": 1}', "x.json", "jsonl"),
        (b'{"a",b}\n', "x.csv", "csv"),
        (b"not json", "x.ndjson", "jsonl"),
    ],
)
def test_kinds_of_text(tmp_path, content, name, expected) -> None:
    (tmp_path / "x").write_bytes(content)
    assert detect(tmp_path / "x", name) == expected


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"\x1f\x8b\x08", "x.tar.gz", "compressed with gzip: unpack it"),
        (b"BZh9\x00\xff", "x.tar.bz2", "compressed with bzip2"),
        (b"\x28\xb5\x2f\xfd", "x.tar.zst", "compressed with Zstandard"),
        (b"7z\xbc\xaf\x27\x1c", "x.7z", "7z archives: pack the files as .zip"),
        (b"Rar!\x1a\x07\x00", "x.rar", "RAR archives"),
        (b"PK\x03\x04" + b"\0" * 26 + b"[Content_Types].xml", "x.xlsx", "save the sheet as CSV"),
        (b"PK\x03\x04" + b"\0" * 26 + b"[Content_Types].xml", "x.zip", "save the sheet as CSV"),
        (b"PK\x03\x04", "x.docx", ".docx files"),
        (b"\xd0\xcf\x11\xe0\xa1", "x.xls", "old Office files"),
        (b"ARROW1\0\0", "x.arrow", "write Parquet instead"),
        (b"SQLite format 3\x00", "x.csv", "export the table as CSV"),
        (b"[1, 2]", "x.json", "Use JSON Lines, one object a line"),
        (b"[1, 2]", "x", "Use JSON Lines"),
        (b"{\n}", "x.json", "JSON over several lines"),
        (JPEG, "x.csv", "single files (image/jpeg)"),
        (b"just words", "x.txt", "plain texts"),
        (b"<html>", "x.csv", "text/html files"),
        (b"%PDF-1.7", "x.pdf", "application/pdf files"),
        (b"\x01\x02\x03", "x.bin", "this unknown kind"),
    ],
)
def test_what_is_not_taken_and_what_to_do_instead(tmp_path, content, name, words) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UnsupportedMedia) as caught:
        detect(tmp_path / "x", name)
    assert words in caught.value.detail
    assert "Accepted are .zip" in caught.value.detail or "JSON" in words


def test_an_unknown_format_and_an_empty_file(tmp_path) -> None:
    (tmp_path / "x").write_bytes(b"")
    for call in (lambda: detect(tmp_path / "x", "x.csv"), lambda: preview(tmp_path / "x", "xlsx")):
        with pytest.raises(Invalid):
            call()
