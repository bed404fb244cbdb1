"""Tar as WebDataset writes it, and as nobody should."""

from __future__ import annotations

import io
import tarfile
import zlib

import pytest

from tenants.errors import Invalid
from tests.tenants.importing import JPEG, read, read_files, tarred


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_samples_of_webdataset(tmp_path, form) -> None:
    files = {
        "./a/0001.jpg": JPEG,
        "./a/0001.txt": b"caption",
        "./a/0001.json": b'{"k": 1, "caption": "no"}',
        "./a/0002.cls": b"7\n",
        "./a/0002.seg.png": b"png",
        "./a/0002.mp3": b"mp3",
        "./a/0003.json": b'{"text": "only json"}',
        "./a/0004.txt": b"only text",
        "./a/._0004.txt": b"x",
    }
    path = tarred(tmp_path, files, form)
    items = read(path, "tar")
    assert [(item.row, item.name, item.external_id, item.text, item.metadata) for item in items] == [
        (1, "a/0001.jpg", "a/0001", "caption", {"k": 1, "caption": "no"}),
        (2, "a/0002.seg.png", "a/0002", "", {"cls": 7}),
        (3, "a/0002.mp3", "a/0002.mp3", "", {"cls": 7}),
        (4, "a/0003.json", "a/0003", "only json", {"text": "only json"}),
        (5, "a/0004.txt", "a/0004", "only text", {}),
    ]
    assert [value for _, value in read_files(path, "tar", tmp_path)] == [JPEG, b"png", b"mp3", None, None]
    assert [item.row for item in read(path, "tar", after=3)] == [4, 5]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names(tmp_path, form) -> None:
    name = "föl/" * 30 + "a.jpg"
    assert read_files(tarred(tmp_path, {name: JPEG, "b.jpg": b"b"}, form), "tar", tmp_path) == [
        (name, JPEG),
        ("b.jpg", b"b"),
    ]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "A symbolic link"),
        (tarfile.LNKTYPE, "A hard link"),
        (tarfile.CHRTYPE, "A device"),
        (tarfile.BLKTYPE, "A device"),
        (tarfile.FIFOTYPE, "A pipe"),
        (tarfile.GNUTYPE_SPARSE, "A sparse file"),
        (b"Z", "Not a regular file."),
    ],
)
def test_members_that_are_refused(tmp_path, kind, words) -> None:
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("odd.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
        good = tarfile.TarInfo("good.jpg")
        good.size = len(JPEG)
        archive.addfile(good, io.BytesIO(JPEG))
    bad, kept = read_files(path, "tar", tmp_path)
    assert bad[1].startswith(words)
    assert kept == ("good.jpg", JPEG)


def test_names_in_a_tar_are_refused_as_in_a_zip(tmp_path) -> None:
    files = {
        "../up.jpg": b"1",
        "/abs.jpg": b"2",
        "in.zip": b"3",
        "a\\b.jpg": b"4",
        "ok.jpg": JPEG,
        "z.jpg": b"PK\x03\x04",
    }
    outcomes = dict(read_files(tarred(tmp_path, files), "tar", tmp_path))
    assert outcomes.pop("ok.jpg") == JPEG
    assert len(outcomes) == 5
    assert all(
        isinstance(words, str) and words[:8] in ("The path", "An archi") for words in outcomes.values()
    )


def test_a_sparse_file_by_pax_is_refused(tmp_path) -> None:
    path = tmp_path / "sparse.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("GNUSparseFile.0/a.jpg")
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 50)}
        archive.addfile(info)
    assert read(path, "tar")[0].error == "A sparse file; make the archive without --sparse."


def test_a_tar_that_ends_early_or_breaks_says_where(tmp_path) -> None:
    path = tarred(tmp_path, {"a.jpg": JPEG, "b.jpg": JPEG * 100})
    content = path.read_bytes()
    path.write_bytes(content[:2500])
    assert read_files(path, "tar", tmp_path) == [
        ("a.jpg", JPEG),
        ("b.jpg", "The archive ends inside this file."),
    ]
    path.write_bytes(content[:1024] + b"\xff" * 512 + content[1536:])
    first, last = read_files(path, "tar", tmp_path)
    assert first == ("a.jpg", JPEG)
    assert last[1].startswith("The archive is damaged: no valid header at this place.")


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A header block with any size field, and a right checksum."""
    block = bytearray(name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size + b"00000000000\0")
    block += b" " * 8 + kind + b"\0" * 100 + b"ustar\x0000"
    block += b"\0" * (512 - len(block))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "members",
    [
        header(b"a.jpg", b"\xff" * 12),  # minus one in base 256, which sends tarfile round in circles
        header(b"x", b"77777777777\0", b"x"),  # an extended header of eight gigabytes
        header(b"x", b"00000001000\0", b"x") + b"9" * 512,
        header(b"x", b"00000000012\0", b"x")
        + b"10 size=-\n".ljust(512, b"\0")
        + header(b"a", b"0" * 11 + b"\0"),
        header(b"x", b"0" * 11 + b"\0", b"x") * 100,
    ],
)
def test_headers_of_a_tar_that_lie(tmp_path, members) -> None:
    path = tmp_path / "lies.tar"
    path.write_bytes(header(b"good.txt", b"00000000001\0") + b"g".ljust(512, b"\0") + members + b"\0" * 1024)
    good, bad = read(path, "tar")
    assert good.text == "g"
    assert bad.error is not None and bad.error.endswith("What follows cannot be read.")


def test_what_is_no_tar_is_refused(tmp_path) -> None:
    path = tmp_path / "no.tar"
    path.write_bytes(zlib.compress(b"x" * 5000) + b"y" * 600)
    with pytest.raises(Invalid, match="no valid header"):
        read(path, "tar")
