"""Texts in other languages than English: where they are kept, and what gettext reads of them.

One catalogue for a language, in gettext's format, holds what templates and Python say; one small JSON file beside the
scripts holds what those say. gettext itself is not needed: Babel reads and writes its files.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from standalone.config import ROOT
from standalone.frontend import exclusively

CONSOLE = ROOT / "platform" / "console"
# Django's name of the language's folder, Babel's name of the language.
LANGUAGES = {"zh_Hans": "zh_Hans_CN"}
SCRIPT_WORDS = {"zh_Hans": CONSOLE / "frontend" / "src" / "words.zh.json"}
HEADER = "# Texts of pages and messages. Kept by `python -m standalone messages`; see docs/translating.md.\n"


def po_file(language: str) -> Path:
    return CONSOLE / "locale" / language / "LC_MESSAGES" / "django.po"


def read_catalogue(language: str) -> Catalog:
    path = po_file(language)
    if not path.exists():
        return Catalog(locale=LANGUAGES[language])
    with path.open("rb") as file:
        return read_po(file, locale=LANGUAGES[language])


def write_catalogue(language: str, catalogue: Catalog) -> None:
    """Without dates and line numbers: a file changes only where a text does."""
    text = io.BytesIO()
    write_po(text, catalogue, width=110, sort_by_file=True, include_lineno=False, ignore_obsolete=True)
    kept = [line for line in text.getvalue().decode().splitlines() if not line.startswith(_CHURNING)]
    body = "\n".join(kept)
    path = po_file(language)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + body[body.index('msgid ""') :].rstrip() + "\n")


_CHURNING = (
    *('"POT-Creation-Date', '"PO-Revision-Date', '"Generated-By', '"Last-Translator', '"Language-Team'),
    *('"Report-Msgid-Bugs-To', '"Project-Id-Version'),
)


def read_script_messages(language: str) -> dict[str, str]:
    path = SCRIPT_WORDS[language]
    return json.loads(path.read_text()) if path.exists() else {}


def write_script_messages(language: str, words: dict[str, str]) -> None:
    text = json.dumps(dict(sorted(words.items())), ensure_ascii=False, indent=2)
    SCRIPT_WORDS[language].write_text(f"{text}\n")


def compile_all() -> None:
    """What gettext reads, made anew where the texts have changed since; not under version control."""
    for language in LANGUAGES:
        source = po_file(language)
        if source.exists():
            with exclusively(source.parent):
                _compile(language, source)


def _compile(language: str, source: Path) -> None:
    target, stamp = source.with_suffix(".mo"), source.with_suffix(".stamp")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if target.exists() and stamp.exists() and stamp.read_text() == digest:
        return
    binary = io.BytesIO()
    write_mo(binary, read_catalogue(language))
    # Replaced at once: a running server may be reading it.
    partial = source.with_suffix(".part")
    partial.write_bytes(binary.getvalue())
    partial.replace(target)
    stamp.write_text(digest)
