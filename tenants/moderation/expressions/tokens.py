"""From text to tokens, and what numbers and texts in an expression mean."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from tenants.moderation.expressions.tree import ExpressionError

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\n\f\r]+|//[^\n]*)
    |(?P<number>0[xX][0-9a-fA-F]+|(?:[0-9]*\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![A-Za-z0-9_])
    |(?P<raw>[rR](?:"[^"\n\r]*"|'[^'\n\r]*'))
    |(?P<text>"(?:[^"\\\n\r]|\\.)*"|'(?:[^'\\\n\r]|\\.)*')
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>&&|\|\||==|!=|<=|>=|[-<>!+*/%?:.,()\[\]])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2}|.)", re.DOTALL)
_SIMPLE = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    **{c: c for c in "\\'\"`?"},
}


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    at: int


def tokens(text: str) -> list[Token]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(f"{text[at : at + 12]!r} cannot be read here.", at)
        kind = str(match.lastgroup)
        if kind != "blank":
            found.append(Token(kind, match.group(), at))
        at = match.end()
    return [*found, Token("end", "", len(text))]


def number(text: str, at: int) -> int | float:
    if "x" in text.lower():
        value: int | float = int(text, 16)
    elif any(sign in text for sign in ".eE"):
        value = float(text)
    else:
        value = int(text) if len(text) < 25 else 1 << 64
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ExpressionError("Whole numbers have 64 bits.", at)
    if not math.isfinite(value):
        raise ExpressionError("This number is too large.", at)
    return value


def unescaped(token: Token) -> str:
    def one(match: re.Match[str]) -> str:
        code = match.group()[1:]
        if len(code) == 1:
            if code not in _SIMPLE:
                raise ExpressionError(f"\\{code} is no escape; a backslash is written twice.", token.at)
            return _SIMPLE[code]
        number = int(code, 8) if code[0].isdigit() else int(code[1:], 16)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise ExpressionError(f"\\{code} is no character.", token.at)
        return chr(number)

    return _ESCAPE.sub(one, token.text[1:-1])
