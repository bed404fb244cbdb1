"""Zip: what is inside becomes items, what lies is refused."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants.datasets.importers import limits, open_items, preview
from tenants.errors import Invalid, ServiceError
from tests.tenants.importing import JPEG, packed, read, read_files, tarred


def entry(name: str, **fields: Any) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def packed_as(tmp_path: Path, *files: tuple[zipfile.ZipInfo, bytes]) -> Path:
    path = tmp_path / "files.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in files:
            archive.writestr(info, content)
    return path


ZIP64 = struct.pack("<2HQ", 1, 8, len(JPEG))

# --- Zip without a manifest --------------------------------------------------------------------------------


def test_each_file_is_a_row_with_what_lies_beside_it(tmp_path) -> None:
    path = packed(
        tmp_path,
        {
            "b/": b"",
            "b/2.jpg": JPEG,
            "b/2.txt": "a caption ",
            "b/2.json": '{"k": [1]}',
            "a/1.jpg": JPEG,
            "a/1.JSON": "{}",
            "notes.txt": "\ufeffa text",
            "alone.json": '{"text": "inside", "k": 2}',
            "__MACOSX/b/._2.jpg": b"x",
            ".DS_Store": b"x",
            "b/Thumbs.db": b"x",
            "b/.hidden/x.jpg": b"x",
        },
    )
    items = read(path, "zip")
    assert [(item.row, item.external_id, item.text, item.metadata) for item in items] == [
        (1, "b/2.jpg", "a caption", {"k": [1]}),
        (2, "a/1.jpg", "", {}),
        (3, "notes.txt", "a text", {}),
        (4, "alone.json", "inside", {"text": "inside", "k": 2}),
    ]
    assert [value for _, value in read_files(path, "zip", tmp_path)] == [JPEG, JPEG, None, None]
    assert (preview(path, "zip").total, preview(path, "zip").columns) == (4, [])
    assert [item.external_id for item in read(path, "zip", after=2)] == ["notes.txt", "alone.json"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../up.jpg", "The path leads out of the archive"),
        ("a/../../up.jpg", "The path leads out of the archive"),
        ("/etc/passwd", "The path leads out of the archive"),
        ("a//b.jpg", "The path leads out of the archive"),
        ("./a.jpg", "The path leads out of the archive"),
        ("C:/a.jpg", "The path has a backslash or a drive letter"),
        ("a\\b.jpg", "The path has a backslash or a drive letter"),
        ("a\x07.jpg", "The path holds control characters"),
        ("a/" * 600 + "b.jpg", "The path has more than 1024 characters."),
        ("a" * 201 + ".jpg", "The path serves as id and has more than 200 characters"),
        ("inner.zip", "An archive inside the source"),
        ("inner.tar.GZ", "An archive inside the source"),
        ("inner.7z", "An archive inside the source"),
    ],
)
def test_names_that_are_refused(tmp_path, name, words) -> None:
    info = entry("x.jpg")
    info.filename = name  # the constructor would already mend it
    bad, good = read_files(packed_as(tmp_path, (info, JPEG), (entry("good.jpg"), JPEG)), "zip", tmp_path)
    assert bad[1].startswith(words)
    assert good == ("good.jpg", JPEG)


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (entry("l.jpg", external_attr=0o120777 << 16), "A symbolic link"),
        (entry("f.jpg", external_attr=0o010644 << 16), "Not a regular file."),
        (entry("b.jpg", compress_type=zipfile.ZIP_BZIP2), "Compressed with bzip2"),
        (entry("x.jpg", compress_type=zipfile.ZIP_LZMA), "Compressed with LZMA"),
    ],
)
def test_kinds_of_entries_that_are_refused(tmp_path, info, words) -> None:
    bad, good = read_files(packed_as(tmp_path, (info, JPEG), (entry("good.jpg"), JPEG)), "zip", tmp_path)
    assert bad[1].startswith(words)
    assert good[1] == JPEG


@pytest.mark.parametrize(
    "inner",
    [
        b"PK\x03\x04rest",
        b"\x1f\x8b\x08rest",
        b"7z\xbc\xaf\x27\x1c",
        b"Rar!\x1a\x07\x00",
        b"\0" * 257 + b"ustar\x0000",
    ],
)
def test_archives_under_another_name_are_refused(tmp_path, inner) -> None:
    ((_, words),) = read_files(packed(tmp_path, {"photo.jpg": inner}), "zip", tmp_path)
    assert words == "An archive inside the source; unpack it, or import it separately."


def patched(path: Path, patch: Callable[[bytearray, int, int], None]) -> Path:
    """``patch(content, local, central)`` with the places of the first entry's headers."""
    content = bytearray(path.read_bytes())
    patch(content, content.index(b"PK\x03\x04"), content.index(b"PK\x01\x02"))
    path.write_bytes(content)
    return path


def put(
    form: str, local: int | None, central: int | None, value: Any
) -> Callable[[bytearray, int, int], None]:
    def patch(content: bytearray, local_at: int, central_at: int) -> None:
        for base, offset in ((local_at, local), (central_at, central)):
            if offset is not None:
                struct.pack_into(form, content, base + offset, value)

    return patch


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        (put("<H", 6, 8, 1), "Encrypted; make the archive without a password."),
        (put("<L", 14, 16, 12345), "The entry is damaged: its checksum does not match."),
        (put("<L", 22, 24, 7), "The entry is damaged: its checksum does not match."),
        (put("<L", 22, 24, 1 << 30), "The file is larger than 1 MiB."),
        (put("<L", 18, 20, 10), "The entry is damaged: it ends too early."),
        (put("<L", None, 42, 1 << 20), "The entry is damaged: it does not begin where the directory says."),
        (put("<5s", 30, None, b"x.png"), "The entry has two names."),
        (put("<8s", 35, None, b"\xff" * 8), "The entry is damaged: it cannot be inflated."),
        (put("<H", None, 10, 95), "Compressed with xz"),
    ],
)
def test_headers_that_lie(tmp_path, patch, words) -> None:
    path = patched(packed(tmp_path, {"a.jpg": JPEG, "good.jpg": JPEG}), patch)
    (_, bad), good = read_files(path, "zip", tmp_path)
    assert bad.startswith(words)
    assert good == ("good.jpg", JPEG)


def test_bombs_are_stopped_while_they_grow(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "RATIO_FLOOR", 10_000)
    bomb = put("<L", 22, 24, 5000)  # and the headers say that it is small
    path = patched(packed(tmp_path, {"bomb.jpg": b"\0" * 500_000, "good.jpg": JPEG}), bomb)
    (_, bad), good = read_files(path, "zip", tmp_path)
    assert bad == "The entry grows more than 200-fold when inflated: a zip bomb."
    assert good == ("good.jpg", JPEG)


def test_all_that_is_inflated_has_a_limit(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "TOTAL", len(JPEG) + 10)
    (_, first), (_, second) = read_files(packed(tmp_path, {"a.jpg": JPEG, "b.jpg": JPEG}), "zip", tmp_path)
    assert first == JPEG
    assert second.startswith("The archive inflates to more than")


def test_overlapping_entries_are_refused(tmp_path) -> None:
    """As in a bomb without recursion: two entries of the directory share the same bytes."""
    path = packed(tmp_path, {"a.jpg": JPEG, "b.jpg": JPEG, "c.jpg": JPEG})
    content = bytearray(path.read_bytes())
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 4)
    struct.pack_into("<L", content, second + 42, struct.unpack_from("<L", content, first + 42)[0])
    path.write_bytes(content)
    outcomes = dict(read_files(path, "zip", tmp_path))
    assert outcomes["a.jpg"] == outcomes["b.jpg"] == "Its bytes overlap with another entry's."
    assert outcomes["c.jpg"] == JPEG


def test_too_many_entries_are_refused(tmp_path, monkeypatch) -> None:
    path = packed(tmp_path, {f"{n}.jpg": b"" for n in range(11)})
    monkeypatch.setattr(limits, "ENTRIES", 11)
    assert len(read(path, "zip")) == 11
    monkeypatch.setattr(limits, "ENTRIES", 10)
    with pytest.raises(Invalid, match="more than 10 entries"):
        read(path, "zip")


@pytest.mark.parametrize("cut", [0.3, 0.9, 0.99])
def test_a_cut_zip_is_refused(tmp_path, cut) -> None:
    content = packed(tmp_path, {f"{n}.jpg": JPEG for n in range(20)}).read_bytes()
    path = tmp_path / "cut.zip"
    path.write_bytes(content[: int(len(content) * cut)])
    with pytest.raises(Invalid, match="Not a complete zip file"):
        read(path, "zip")


def test_a_damaged_directory_is_refused(tmp_path) -> None:
    path = patched(packed(tmp_path, {"a.jpg": JPEG}), put("<4s", None, 0, b"PKXX"))
    with pytest.raises(Invalid, match="directory of the zip file is damaged"):
        read(path, "zip")


def test_large_zips_and_ones_with_a_preamble(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)  # writes the end record of large archives
    path = tmp_path / "big.zip"
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("a.jpg", "w", force_zip64=True) as stream:
            stream.write(JPEG)
        archive.writestr("b.txt", b"b")
    content = bytearray(path.read_bytes())
    struct.pack_into("<2H2L", content, len(content) - 14, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    for preamble in (b"", b"#!/bin/sh self-extracting\n"):
        path.write_bytes(preamble + content)
        assert preview(path, "zip").total == 2
        assert read_files(path, "zip", tmp_path) == [("a.jpg", JPEG), ("b.txt", None)]


def test_sizes_beyond_32_bits_are_read_from_the_extra_field(tmp_path) -> None:
    path = patched(packed_as(tmp_path, (entry("a.jpg", extra=ZIP64), JPEG)), put("<L", None, 24, 0xFFFFFFFF))
    assert read_files(path, "zip", tmp_path) == [("a.jpg", JPEG)]


def test_texts_have_limits(tmp_path) -> None:
    files = {
        "a.txt": b"x" * (limits.TEXT + 1),
        "b.txt": b"caf\xe9",
        "c.txt": b" \n",
        "d.json": b"[",
        "e.txt": b"e",
    }
    assert [item.error or item.text for item in read(packed(tmp_path, files), "zip")] == [
        "The file is larger than 400003 bytes.",
        "b.txt is not UTF-8.",
        "Empty text.",
        "d.json: Not valid JSON at character 2: Expecting value.",
        "e",
    ]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 255)), min_size=1, max_size=8))
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_flipped_bytes_never_raise_anything_else(tmp_path, kind, places) -> None:
    files = {"a.jpg": JPEG, "a.txt": b"t", "b/c.json": b"{}", "d.txt": b"text"}
    path = packed(tmp_path, files) if kind == "zip" else tarred(tmp_path, files)
    content = bytearray(path.read_bytes())
    content = content[:4096] if kind == "tar" else content
    for place, value in places:
        content[int(place * len(content))] = value
    path.write_bytes(content)
    try:
        with open_items(path, kind) as items:
            for item in items:
                if item.save:
                    item.save(tmp_path / "saved", 1 << 20)
    except ServiceError:
        pass
