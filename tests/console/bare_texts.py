"""Finds what a template says without asking for its translation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from django.template.base import Lexer, Token, TokenType

# Names, units and codes that are the same in every language.
SAME = {"Crosslight", "UTC", "API", "JSON", "CSV", "Python", "curl", "ID", "URL", "SHA-256", "HTTP", "SQL"}
SAME |= {"SSE", "CEL", "PCA", "UMAP", "R@1", "R@5", "R@10", "R@K", "MRR", "C2PA", "CORS", "GPU", "CPU"}
SAME |= {"mAP", "ms", "POST", "GET", "webhook-id", "Ctrl", "Enter", "Esc", "LoRA", "PDQ", "CSP"}
SPOKEN = {"title", "alt", "aria-label", "placeholder", "data-name", "label", "aria-description", "data-empty"}
SILENT = {"script", "style", "code", "pre", "svg"}
WORD = re.compile(r"[A-Za-z]{2,}")
# A string in a tag or filter that reads as words, unless it stands in _( ).
STRING = re.compile(r"""(?<!_\()"([^"]*)\"""")
SENTENCE = re.compile(r"^[A-Za-z][a-z’']+( [A-Za-z’',.]+)+[.?!]?$")
EXAMPLE = re.compile(r'^{"|==|\b\w+\.\w+\.\w+')
# Values and comparisons are codes, and these tags say nothing.
NOT_SPOKEN = (
    "if",
    "elif",
    "url",
    "static",
    "load",
    "extends",
    "block",
    "icon",
    "cycle",
    "moment",
    "translate",
)


def bare_texts(source: str) -> Iterator[str]:
    """Words of the page itself, of its attributes, and of strings that are given to other templates."""
    page: list[str] = []
    inside = False
    for token in Lexer(source).tokenize():
        inside = _translating(token, inside)
        if token.token_type == TokenType.TEXT:
            page.append("" if inside else token.contents)
        elif not inside:
            page.append("\N{OBJECT REPLACEMENT CHARACTER}" if token.token_type == TokenType.VAR else "")
            yield from _bare_strings(token)
    reader = _Reader()
    reader.feed("".join(page))
    reader.close()
    yield from reader.found


def _translating(token: Token, inside: bool) -> bool:
    if token.token_type != TokenType.BLOCK:
        return inside
    name = token.contents.split()[0]
    if name in {"blocktranslate", "comment"}:
        return True
    return inside and name not in {"endblocktranslate", "endcomment"}


def _bare_strings(token: Token) -> Iterator[str]:
    if token.token_type not in {TokenType.BLOCK, TokenType.VAR}:
        return
    if token.token_type == TokenType.BLOCK and token.contents.split()[0] in NOT_SPOKEN:
        return
    if "|pluralize" in token.contents:
        yield token.contents
    for text in STRING.findall(token.contents):
        if SENTENCE.match(text):
            yield text


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in SILENT
        for name, value in attrs:
            # What is left between quotes where a tag of the template stood is no text of its own.
            if name in SPOKEN and value and _is_bare(value):
                self.found.append(f"{name}={value}")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in SILENT

    def handle_data(self, data: str) -> None:
        if not self._silent and _is_bare(data):
            self.found.append(" ".join(data.split()))


def _is_bare(text: str) -> bool:
    # Examples of what can be written, such as JSON or an expression, are the same everywhere.
    return not EXAMPLE.search(text) and any(word not in SAME for word in WORD.findall(_without_names(text)))


def _without_names(text: str) -> str:
    for name in sorted(SAME, key=len, reverse=True):
        text = text.replace(name, " ")
    return text
