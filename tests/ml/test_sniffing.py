"""Media types come from bytes alone."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from PIL import Image

from ml.media import sniff
from ml.media.sniffing import HEAD_BYTES
from tests.speed import LINEAR, TIMES, growth


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    body = major + b"\0\0\0\0" + b"".join(compatible)
    return (len(body) + 8).to_bytes(4, "big") + b"ftyp" + body + b"\0" * 8


def ebml(doctype: bytes, codec: bytes) -> bytes:
    return b"\x1a\x45\xdf\xa3\x42\x82" + doctype + b"\0" * 40 + codec


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_pictures_that_pillow_writes(name: str) -> None:
    target = io.BytesIO()
    Image.new("RGB", (20, 10)).save(target, name)
    assert sniff(target.getvalue()) == f"image/{name.lower()}"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"", None),
        (b"\x00", None),
        (b"hello", "text/plain"),
        ("消防车 🙂".encode(), "text/plain"),
        ("消防车".encode() * 1000, "text/plain"),
        (("ab" + "消" * 2000).encode()[:4096], "text/plain"),  # cut inside a character
        ("消防车".encode()[:-1], None),  # a whole file that ends inside one
        (b"\xef\xbb\xbfbom", "text/plain"),
        (b"a,b\r\n1,2\r\n", "text/plain"),
        (b'{"a": 1}', "text/plain"),
        (b"BMW and MZ are makes of car", "text/plain"),
        (b"II* notes", "text/plain"),
        (b"ID3 is a tag format", "text/plain"),
        (b"a < b and <b>bold</b>", "text/plain"),
        (b"text with \x00 byte", None),
        (b"text with \x1b[31m escape", None),
        (b"\xff\xfeh\x00i\x00", None),  # UTF-16
        (b"caf\xe9", None),  # Latin-1
        (b"  <!DOCTYPE html><p>", "text/html"),
        (b"<script>alert(1)</script>", "text/html"),
        (b"<!-- c --><html>", "text/html"),
        (b" <?xml version='1.0'?>\n<!-- a --> <!-- b -->\n<HTML>", "text/html"),
        (b"<!-- a --> b --> <html>", "text/plain"),  # a comment ends at its first -->
        (b"<!-- a <html>", "text/plain"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        (b"<?xml version='1.0'?><!-- c -->\n<svg onload='x()'>", "image/svg+xml"),
        (b"<?xml version='1.0'?><rss/>", "application/xml"),
        (b"%PDF-1.7", "application/pdf"),
        (b"PK\x03\x04rest", "application/zip"),
        (b"\x1f\x8b\x08", "application/gzip"),
        (b"\x7fELF\x02", "application/x-elf"),
        (b"\0" * 257 + b"ustar\x0000", "application/x-tar"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "audio/wav"),
        (b"RIFF\x10\0\0\0AVI LIST", "video/x-msvideo"),
        (b"ID3\x04\x00\x00\x00\x00\x00\x00", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "audio/mpeg"),
        (b"\xff\xff\xff\xff", None),
        (b"\xff\xf1\x50\x80", "audio/aac"),
        (b"fLaC\0\0\0\x22", "audio/flac"),
        (b"OggS\0\x02" + b"\0" * 22 + b"OpusHead", "audio/ogg"),
        (b"OggS\0\x02" + b"\0" * 22 + b"\x80theora", "video/ogg"),
        (ftyp(b"M4A "), "audio/mp4"),
        (ftyp(b"isom", b"mp42"), "video/mp4"),
        (ftyp(b"M4B "), "audio/mp4"),
        (ftyp(b"M4V "), "video/mp4"),
        (ftyp(b"3gp5"), "video/mp4"),
        (ftyp(b"crx "), "image/x-canon-cr3"),
        (ftyp(b"qt  "), "video/quicktime"),
        (b"\0\0\0\x08wide\0\0\x10\0mdat", "video/quicktime"),  # old QuickTime: no brand
        (b"\0\0\x10\0moov\0\0\0\x6cmvhd", "video/quicktime"),
        (b"The moov atom", "text/plain"),
        (b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + b"\0" * 4086, "audio/mpeg"),  # a tag longer than the head
        (b"\xff\xf9\x50\x80", "audio/aac"),
        (ftyp(b"heic", b"mif1"), "image/heic"),
        (ftyp(b"mif1", b"avif"), "image/avif"),
        (ebml(b"webm", b"A_OPUS"), "audio/webm"),
        (ebml(b"webm", b"V_VP9 A_OPUS"), "video/webm"),
        (ebml(b"matroska", b"V_VP9"), "video/x-matroska"),
    ],
)
def test_head(head: bytes, expected: str | None) -> None:
    assert sniff(head) == expected


@contextmanager
def at_most_cpu_s(seconds: float) -> Iterator[None]:
    """Break off what takes more processor time, which a regular expression allows."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} CPU seconds")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.mark.parametrize(
    "unit",
    [
        b"<!---->",
        b"<!-- --> ",
        b"<?xml?>",
        b"<?xml?><!---->\n",
        b"<!--",
        b"<?xml",
        b"-->",
        b" ",
        b"<svg",
        b"<a:",
        b"<!--><?xml-->?>",
    ],
    ids=repr,
)
@pytest.mark.parametrize("end", [b"", b"x", b"<", b"<svg"], ids=repr)
def test_hostile_heads_take_no_time(unit: bytes, end: bytes) -> None:
    with at_most_cpu_s(30):
        assert (
            growth(lambda size: sniff((unit * size)[: size - len(end)] + end), HEAD_BYTES // TIMES) < LINEAR
        )
