"""Identifiers of people in text: where they stand, and of which kind each is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ml.auditing._identifier_kinds import KINDS, Kind

__all__ = ["KINDS", "IdentifierMatch", "Kind", "found_in"]

#: How far before and behind a number the word may stand that says what it is.
BEFORE, BEHIND = 40, 15


@dataclass(frozen=True)
class IdentifierMatch:
    """One identifier: its place in the text that was searched."""

    kind: Kind
    span: tuple[int, int]
    value: str


def found_in(text: str) -> list[IdentifierMatch]:
    """All identifiers, in order, none overlapping another: earlier kinds go first. Linear in the text's length."""
    taken = bytearray(len(text))
    found = []
    for kind in KINDS:
        for each in _of_kind(kind, text):
            first, last = each.span
            if not any(taken[first:last]):
                taken[first:last] = b"\x01" * (last - first)
                found.append(each)
    return sorted(found, key=lambda each: each.span)


def _of_kind(kind: Kind, text: str) -> Iterator[IdentifierMatch]:
    for match in kind.pattern.finditer(text):
        first, last = match.span()
        before = text[max(0, first - BEFORE) : first]
        if kind.unless and kind.unless.search(before):
            continue
        if kind.context and not (
            kind.context.search(before) or kind.context.search(text[last : last + BEHIND])
        ):
            continue
        if kind.check is None or kind.check(match.group()):
            yield IdentifierMatch(kind, match.span(), match.group())
