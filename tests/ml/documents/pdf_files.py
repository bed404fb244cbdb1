"""PDF files written by hand: pages of text at places, rules, fills, and any object beside."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 612.0, 792.0

LATIN, BOLD, CHINESE = "F1", "F2", "F3"
_FONTS = (
    b"<< /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    b" /F2 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>"
    b" /F3 << /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /UniGB-UCS2-H /DescendantFonts ["
    b" << /Type /Font /Subtype /CIDFontType0 /BaseFont /STSong-Light /CIDSystemInfo << /Registry (Adobe)"
    b" /Ordering (GB1) /Supplement 4 >> /DW 1000 /FontDescriptor << /Type /FontDescriptor /FontName /STSong-Light"
    b" /Flags 6 /FontBBox [0 -200 1000 900] /ItalicAngle 0 /Ascent 880 /Descent -120 /CapHeight 700 /StemV 80 >> >>"
    b" ] >> >>"
)


@dataclass
class Page:
    """Places are in points from the bottom left, as PDF has them."""

    width: float = WIDTH
    height: float = HEIGHT
    content: list[bytes] = field(default_factory=list)
    resources: bytes = b""
    #: Further entries of the page, such as /Rotate or /Annots.
    entries: bytes = b""

    def text(
        self, left: float, bottom: float, words: str, size: float = 10, font: str = "", before: str = ""
    ) -> Page:
        """One line; Chinese in its own font. ``before``: operators, such as a colour."""
        wide = any(ord(character) > 0x2E7F for character in words)
        font = font or (CHINESE if wide else LATIN)
        if font == CHINESE:
            shown = b"<" + words.encode("utf-16-be").hex().encode() + b">"
        else:
            code = words.encode("cp1252").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
            shown = b"(" + code + b")"
        self.content.append(
            f"q {before} BT /{font} {size:g} Tf 1 0 0 1 {left:g} {bottom:g} Tm ".encode()
            + shown
            + b" Tj ET Q"
        )
        return self

    def lines(
        self, left: float, top: float, words: Sequence[str], size: float = 10, leading: float = 12
    ) -> Page:
        """Lines below each other, the first with its foot at ``top``."""
        for number, line in enumerate(words):
            self.text(left, top - number * leading, line, size)
        return self

    def draw(self, operators: str) -> Page:
        self.content.append(f"q {operators} Q".encode())
        return self

    def grid(self, xs: Sequence[float], ys: Sequence[float]) -> Page:
        """Rules around cells."""
        lines = [f"{xs[0]:g} {y:g} m {xs[-1]:g} {y:g} l S" for y in ys]
        lines += [f"{x:g} {ys[0]:g} m {x:g} {ys[-1]:g} l S" for x in xs]
        return self.draw("0.5 w " + " ".join(lines))


def pdf(
    pages: Sequence[Page],
    *,
    catalog: bytes = b"",
    objects: Sequence[bytes] = (),
    info: bytes = b"",
    trailer: bytes = b"",
) -> bytes:
    """The file. ``objects`` get the numbers from 10,000 on, ``catalog`` and ``info`` are further entries."""
    bodies: dict[int, bytes] = {}
    kids = b" ".join(f"{10 + 2 * n} 0 R".encode() for n in range(len(pages)))
    bodies[1] = b"<< /Type /Catalog /Pages 2 0 R " + catalog + b" >>"
    bodies[2] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(pages), kids)
    bodies[3] = _FONTS
    bodies[4] = b"<< " + info + b" >>"
    for number, page in enumerate(pages):
        at = 10 + 2 * number
        packed = zlib.compress(b"\n".join(page.content))
        bodies[at] = (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %g %g] /Resources << /Font 3 0 R %s >> /Contents %d 0 R %s >>"
            % (page.width, page.height, page.resources, at + 1, page.entries)
        )
        bodies[at + 1] = b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (
            len(packed),
            packed,
        )
    bodies |= {max(10_000, 10 + 2 * len(pages)) + n: body for n, body in enumerate(objects)}
    return _file(bodies, trailer)


def _file(bodies: dict[int, bytes], trailer: bytes) -> bytes:
    parts, at, places = [b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"], 15, {}
    for number, body in sorted(bodies.items()):
        places[number] = at
        part = b"%d 0 obj\n%s\nendobj\n" % (number, body)
        parts.append(part)
        at += len(part)
    table = [b"xref\n0 1\n0000000000 65535 f \n"]
    for number, place in places.items():
        table.append(b"%d 1\n%010d 00000 n \n" % (number, place))
    end = b"trailer\n<< /Size %d /Root 1 0 R /Info 4 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (
        max(bodies) + 1,
        trailer,
        at,
    )
    return b"".join([*parts, *table, end])
