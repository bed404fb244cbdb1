"""How fast documents are read, and how much of them rightly (`make bench-documents`).

Pages are written here, so that each word and its place in the order are known: two columns, titles across both, tables
with and without rules between cells, captions, headers of odd and even pages, page numbers, text that nobody sees, in
English and Chinese. The same pages as pictures go through OCR. Other formats are made by their libraries.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _report import Line, Report, at_least, at_most, sized

from ml.documents import MARGINS, Document, Reader
from ml.documents.sniffing import EPUB, HTML, MARKDOWN, PDF, SHEETS, SLIDES, WORD
from ml.media import FairQueue

DOCUMENTS, PAGES, SCANS = sized(20, 2), sized(50, 21), sized(6, 1)
WORKERS = 2


@dataclass
class Score:
    """Counts over all pages: what was right, of how many."""

    characters: int = 0
    characters_right: int = 0
    pairs: int = 0
    pairs_right: int = 0
    margins: int = 0
    margins_right: int = 0
    body_lost: int = 0
    tables: int = 0
    tables_right: int = 0
    hidden: int = 0
    hidden_told: int = 0
    hidden_read: int = 0
    told_in_vain: int = 0

    def add(self, other: Score) -> None:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


def scored(document: Document, known: Sequence[Any]) -> Score:
    score = Score()
    margins = " ".join(document.text_of(block) for block in document.blocks if block.kind in MARGINS)
    for number, page in enumerate(known, 1):
        blocks = [block for block in document.body() if block.page == number]
        text = "\n\n".join(document.text_of(block) for block in blocks)
        tables = {document.text_of(block) for block in blocks if block.kind == "table"}
        places = []
        for kind, words in page.body:
            at = text.find(words)
            score.characters += len(words)
            score.characters_right += len(words) * (at >= 0)
            score.body_lost += words in margins
            places.append(at)
            if kind == "table":
                score.tables += 1
                score.tables_right += words in tables
        score.pairs += len(places) - 1
        score.pairs_right += sum(0 <= first < second for first, second in pairwise(places))
        lines = set(text.splitlines())
        score.margins += 2
        score.margins_right += (page.header not in text) + (page.footer not in lines)
        told = " ".join(f.detail for f in document.findings if f.page == number and f.kind == "hidden_text")
        score.hidden += len(page.hidden)
        score.hidden_told += sum(secret in told for secret in page.hidden)
        score.hidden_read += sum(secret in document.text for secret in page.hidden)
        score.told_in_vain += bool(told) and not page.hidden
    return score


def text_layers(folder: Path, reader: Reader) -> tuple[list[Line], dict[str, Any]]:
    from _document_pages import pages

    from tests.ml.documents.pdf_files import pdf

    documents = [pages(seed, PAGES) for seed in range(DOCUMENTS)]
    paths = []
    for number, known in enumerate(documents):
        paths.append(folder / f"{number}.pdf")
        paths[-1].write_bytes(pdf([page.page for page in known]))
    start = time.monotonic()
    with ThreadPoolExecutor(WORKERS) as threads:
        read = list(threads.map(lambda path: reader.read(path, PDF), paths))
    took = time.monotonic() - start
    count = DOCUMENTS * PAGES
    cpu_s = sum(document.cpu_s for document in read)
    score = Score()
    for document, known in zip(read, documents, strict=True):
        score.add(scored(document, known))
    shares = {
        "characters": score.characters_right / score.characters,
        "order": score.pairs_right / score.pairs,
        "margins": score.margins_right / score.margins,
        "tables": score.tables_right / score.tables,
        "hidden": score.hidden_told / score.hidden,
    }
    lines = [
        Line("pages, characters", f"{count:,}, {score.characters:,}"),
        at_most("1,000 pages on two cores", took * 1000 / count, 300, "s"),
        Line("CPU seconds for 1,000 pages", round(cpu_s * 1000 / count, 2), "s"),
        at_least("characters in blocks read exactly", shares["characters"], 0.98),
        at_least("neighbouring blocks in the right order", shares["order"], 0.98),
        at_least("headers and page numbers kept out of the text", shares["margins"], 0.99),
        at_most("blocks of the text taken for headers or footers", score.body_lost, 0, ""),
        at_least("tables read exactly, as one block", shares["tables"], 0.95),
        at_least("hidden texts told", shares["hidden"], 0.99),
        at_most("hidden texts in the text", score.hidden_read, 0, ""),
        at_most("pages told of hidden text that have none", score.told_in_vain, 0, ""),
    ]
    return lines, {"pages": count, "wall_s": took, "cpu_s": cpu_s, **shares}


def scans(folder: Path, reader: Reader) -> tuple[list[Line], dict[str, Any]]:
    from _document_pages import pages
    from PIL import Image

    from tests.ml.documents.pdf_files import Page, pdf

    known = [pages(seed, 1)[0] for seed in range(SCANS)]
    path = folder / "written.pdf"
    path.write_bytes(pdf([page.page for page in known]))
    pictures, sheets = [], []
    for number in range(1, SCANS + 1):
        picture = Image.open(io.BytesIO(reader.page(path, PDF, number, 1_240))).convert("L")
        packed = io.BytesIO()
        picture.save(packed, "JPEG", quality=80)
        pictures.append(
            b"<< /Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray /BitsPerComponent 8"
            b" /Filter /DCTDecode /Length %d >>\nstream\n%s\nendstream"
            % (*picture.size, len(packed.getvalue()), packed.getvalue())
        )
        sheet = Page(resources=b"/XObject << /I %d 0 R >>" % (10_000 + number - 1))
        sheets.append(sheet.draw("612 0 0 792 0 0 cm /I Do"))
    scanned = folder / "scanned.pdf"
    scanned.write_bytes(pdf(sheets, objects=pictures))
    document = reader.read(scanned, PDF)
    wrong = of = 0
    for number, page in enumerate(known, 1):
        text = "".join(document.text_of(block) for block in document.blocks if block.page == number)
        truth = page.header + "".join(words for _, words in page.body) + page.footer
        plain, found = ("".join(c for c in part if c.isalnum()) for part in (truth, text))
        wrong, of = wrong + distance(plain, found), of + len(plain)
    each = document.cpu_s / SCANS
    lines = [
        at_most("CPU seconds of OCR a page (150 dpi)", each, 10, "s"),
        at_least("letters that OCR reads rightly, in order", 1 - wrong / of, 0.9),
    ]
    return lines, {"ocr_cpu_s": each, "ocr_letters": 1 - wrong / of}


def distance(one: str, other: str) -> int:
    """Letters to put in, take out or change (Levenshtein)."""
    codes = np.frombuffer(other.encode("utf-32-le"), np.uint32)
    row = np.arange(len(other) + 1)
    steps = np.arange(1, len(other) + 1)
    for number, letter in enumerate(one, 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (codes != ord(letter)))
        row = np.concatenate([[number], best])
        # Letters put in: the least of what stands before, one more for each step.
        row[1:] = np.minimum(
            best, np.minimum.accumulate(np.concatenate([[number], best - steps]))[1:] + steps
        )
        row[1:] = np.minimum(row[1:], number + steps)
    return int(row[-1])


def other_formats(folder: Path, reader: Reader) -> tuple[list[Line], dict[str, Any]]:
    import random

    from _document_pages import paragraph

    from tests.ml.documents import office_files

    chance = random.Random(4)
    texts = [paragraph(chance, number % 2 == 1) for number in range(sized(1_000, 20))]

    def slides(presentation: Any) -> None:
        for text in texts:
            slide = presentation.slides.add_slide(presentation.slide_layouts[1])
            slide.placeholders[1].text = text

    html = "".join(f"<p>{text}</p>" for text in texts)
    made = {
        WORD: office_files.word(lambda document: [document.add_paragraph(text) for text in texts]),
        SLIDES: office_files.slides(slides),
        SHEETS: office_files.sheets(lambda book: [book.active.append([text, 1.5, 2]) for text in texts]),
        EPUB: office_files.book({f"c{number}.xhtml": html for number in range(3)}),
        HTML: f"<!doctype html><html><body>{html}".encode(),
        MARKDOWN: "\n\n".join(texts).encode(),
    }
    lines, figures = [], {}
    for media_type, content in made.items():
        path = folder / "other"
        path.write_bytes(content)
        document = reader.read(path, media_type)
        # The child has started, and imported what it needs.
        again = reader.read(path, media_type)
        share = sum(len(text) * (text in document.text) for text in texts) / sum(map(len, texts))
        cost = again.cpu_s * 100_000 / len(again.text)
        figures[document.format] = {"cpu_s_of_100,000_characters": round(cost, 3), "exact": share}
        lines.append(Line(f"{document.format}: CPU seconds for 100,000 characters", round(cost, 3), "s"))
        lines.append(at_least(f"{document.format}: paragraphs read exactly", share, 1))
    return lines, figures


def main() -> int:
    report = Report("documents")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, Reader(turns=lambda: FairQueue(WORKERS)) as reader:
        for title, section in (("text", text_layers), ("ocr", scans), ("formats", other_formats)):
            found = report.run(title, lambda section=section: section(Path(folder), reader))
            if found:
                print(f"\n{title}")
                print("\n".join(f"  {line.shown()}" for line in found[0]))
                report.judge(title, found[0])
                figures |= found[1]
    return report.finish(figures)


if __name__ == "__main__":
    sys.exit(main())
