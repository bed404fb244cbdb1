"""Manifests in archives and folders: rows that name files."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest
from pyarrow import parquet

from tenants.datasets.importers import limits, preview
from tenants.errors import Invalid
from tests.tenants.importing import JPEG, packed, read, read_files


@pytest.mark.parametrize("top", ["", "photos/"])
@pytest.mark.parametrize("name", ["manifest.csv", "metadata.jsonl", "manifest.parquet"])
def test_a_manifest_names_the_files(tmp_path, top, name) -> None:
    columns = {"file_name": ["a.jpg", "sub/b.jpg"], "caption": ["x", "y"], "price": [1, 2]}
    parquet.write_table(pa.table(columns), buffer := io.BytesIO())
    table = {
        "manifest.csv": "file_name,caption,price\na.jpg,x,1\n./sub/b.jpg,y,2\n",
        "metadata.jsonl": '{"file_name": "a.jpg", "caption": "x", "price": 1}\n'
        '{"file_name": "sub/b.jpg", "caption": "y", "price": 2}\n',
        "manifest.parquet": buffer.getvalue(),
    }[name]
    path = packed(tmp_path, {f"{top}{name}": table, f"{top}a.jpg": JPEG, f"{top}sub/b.jpg": JPEG[:-1]})
    first, second = read(path, "zip")
    assert (first.text, first.file_name, first.metadata) == ("x", f"{top}a.jpg", {"price": 1})
    assert (second.text, second.file_name, second.metadata) == ("y", f"{top}sub/b.jpg", {"price": 2})
    assert [value for _, value in read_files(path, "zip", tmp_path)] == [JPEG, JPEG[:-1]]
    assert preview(path, "zip").mapping.roles == (None, "caption", "file_name")
    assert preview(path, "zip").warnings == []


def test_a_manifests_rows_fail_alone(tmp_path) -> None:
    manifest = (
        "file,text\na.jpg,x\nnone.jpg,y\n../a.jpg,z\n/etc/passwd,z\nhttp://example.com/a.jpg,z\nin.zip,z\n,only text\n"
        ",\nbad\na.jpg,again\n"
    )
    files = {
        "manifest.csv": manifest,
        "a.jpg": JPEG,
        "in.zip": b"PK\x03\x04",
        "left.jpg": JPEG,
        "out.jpg": JPEG,
    }
    path = packed(tmp_path, files)
    assert [(item.error or item.text)[:40] for item in read(path, "zip")] == [
        "x",
        'There is no file "none.jpg".',
        "The path leads out of the archive or is ",
        "The path leads out of the archive or is ",
        "The file is a web address; addresses are",
        "An archive inside the source; unpack it,",
        "only text",
        "The row has neither a text nor a file.",
        "Expected 2 cells as in the first line, f",
        "again",
    ]
    assert preview(path, "zip").warnings == [
        "Files that no row of manifest.csv names, and that are left out: 2."
    ]
    assert [item.row for item in read(path, "zip", after=9)] == [10]


def test_a_manifest_that_cannot_be_read_is_said_at_once(tmp_path, monkeypatch) -> None:
    with pytest.raises(Invalid, match=r"manifest\.jsonl is empty"):
        read(packed(tmp_path, {"manifest.jsonl": b""}), "zip")
    with pytest.raises(Invalid, match="one JSON array"):
        read(packed(tmp_path, {"manifest.jsonl": b"[1]"}), "zip")
    monkeypatch.setattr(limits, "MANIFEST", 100)
    with pytest.raises(Invalid, match="manifest is larger than 100 bytes"):
        read(packed(tmp_path, {"manifest.csv": b"text\n" + b"x\n" * 100}), "zip")
