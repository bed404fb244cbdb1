"""`python -m standalone messages`: every text of templates, Python and scripts, into the catalogues.

Translations are kept by their English text; a text that changed loses its translation, rather than keeping one that may
be wrong. What is missing is printed, and a test fails for it.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from django.utils.translation.template import templatize

from standalone import catalogue
from standalone.config import ROOT

PAGES = (ROOT / "platform" / "console", ROOT / "platform" / "backoffice")
MODULES = (*PAGES, ROOT / "tenants")
SCRIPTS = ROOT / "platform" / "console" / "frontend" / "src"
STARTERS = ROOT / "tenants" / "moderation" / "starters"
KEYWORDS: dict[str, tuple | None] = {
    "_": None,
    **dict.fromkeys(("gettext", "gettext_lazy", "gettext_noop")),
    **dict.fromkeys(("ngettext", "ngettext_lazy"), (1, 2)),
    **dict.fromkeys(("pgettext", "pgettext_lazy"), ((1, "c"), 2)),
    **dict.fromkeys(("npgettext", "npgettext_lazy"), ((1, "c"), 2, 3)),
}
_STRING = r'"(?:[^"\\\n]|\\.)*"'
# t("…") and nt("…", "…"), each text of one or more strings put together.
_TEXT = rf"{_STRING}(?:\s*\+\s*{_STRING})*"
_CALL = re.compile(rf"(?<![\w.])(?:t\(\s*({_TEXT})|nt\(\s*({_TEXT}),\s*({_TEXT}))")
_ANY_CALL = re.compile(r"(?<![\w.])n?t\((?!\w+: string)")


@dataclass(frozen=True)
class Text:
    """What is to be translated: with its plural, if it has one, and a context that tells it from its like."""

    place: str
    text: str
    plural: str = ""
    context: str | None = None


def collect() -> list[Text]:
    """All texts of templates and Python."""
    return [*_of_templates(), *_of_modules(), *_of_starters()]


def _of_templates() -> Iterator[Text]:
    for folder in PAGES:
        for path in sorted((folder / "templates").rglob("*.html")):
            # Made of calls, one on a line, between fillers; as Python it must not be indented by chance.
            calls = templatize(path.read_text(), origin=str(path)).splitlines()
            yield from _extracted(path, "\n".join(line.strip() for line in calls))


def _of_modules() -> Iterator[Text]:
    for folder in MODULES:
        for path in sorted(folder.rglob("*.py")):
            if not {"migrations", "node_modules"} & set(path.parts):
                yield from _extracted(path, path.read_text())


def _of_starters() -> Iterator[Text]:
    """Policies to begin with are JSON; what they are called is shown before anybody makes one's own of them."""
    for path in sorted(STARTERS.glob("*.json")):
        starter = json.loads(path.read_text())
        for name in ("title", "description"):
            yield Text(str(path.relative_to(ROOT)), starter[name])


def _extracted(path: Path, source: str) -> Iterator[Text]:
    place = str(path.relative_to(ROOT))
    if "gettext" not in source and "_(" not in source:
        return
    for _, found, _, context in extract("python", io.BytesIO(source.encode()), KEYWORDS):
        text, plural = found if isinstance(found, tuple) else (found, "")
        if text:
            yield Text(place, text, plural, context)


def script_texts() -> set[str]:
    """All texts of scripts; a call that names none is refused, as it could not be translated."""
    texts: set[str] = set()
    for path in sorted(SCRIPTS.rglob("*.ts")):
        source = path.read_text()
        if path.name == "words.ts":
            # Where t() and nt() are defined, from a text that is a variable there.
            source = source.partition("export function codeName")[2]
        calls = list(_CALL.finditer(source))
        if len(calls) != len(_ANY_CALL.findall(source)):
            raise ValueError(f"{path.relative_to(ROOT)}: t() and nt() take texts, not variables")
        texts |= {_joined(group) for call in calls for group in call.groups() if group}
    return texts


def _joined(expression: str) -> str:
    pieces = re.findall(_STRING, expression)
    return "".join(_unescaped(piece[1:-1]) for piece in pieces)


def _unescaped(text: str) -> str:
    return re.sub(
        r"\\(?:u([0-9a-fA-F]{4})|(.))",
        lambda m: chr(int(m[1], 16)) if m[1] else {"n": "\n", "t": "\t"}.get(m[2], m[2]),
        text,
    )


def update(language: str) -> list[str]:
    """Bring the language's catalogue and words up to date; the texts that still have no translation."""
    old = catalogue.read_catalogue(language)
    new = Catalog(locale=catalogue.LANGUAGES[language])
    for text in collect():
        identity = (text.text, text.plural) if text.plural else text.text
        new.add(identity, _earlier_translation(old, text), locations=[(text.place, 0)], context=text.context)
    catalogue.write_catalogue(language, new)
    words = catalogue.read_script_messages(language)
    scripts = {text: words.get(text, "") for text in script_texts()}
    catalogue.write_script_messages(language, scripts)
    return [*missing_of(new), *(text for text, word in scripts.items() if not word)]


def _earlier_translation(old: Catalog, text: Text) -> str | tuple[str, ...]:
    message = old.get(text.text, context=text.context)
    given = strings_of(message) if message else ("",)
    return given if text.plural else given[0]


def missing_of(found: Catalog) -> list[str]:
    return [str(message.id) for message in found if message.id and not all(strings_of(message))]


def strings_of(message: Message) -> tuple[str, ...]:
    """The translations of a text: one, or one for each plural form of the language."""
    given: Any = message.string
    return tuple(given) if isinstance(given, tuple | list) else (given or "",)


def main() -> None:
    for language in catalogue.LANGUAGES:
        missing = update(language)
        for text in missing:
            print(f"{language}: {text}")
        print(f"{language}: {len(missing)} texts without a translation")
    catalogue.compile_all()
