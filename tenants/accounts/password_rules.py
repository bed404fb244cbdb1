"""Passwords that are guessed first, although they are long: common ones in disguise, keyboard walks, names at hand.

What is common stands in Django's list of 20,000 (most shorter than what may be chosen) and, for long ones, in
`common_passwords.txt`. A password is looked up in the forms that guessing programs derive: small letters, without
separators, digits and signs around it taken away, signs that stand for letters read as such, a unit that is repeated,
two common words side by side. NIST SP 800-63B, 3.1.1.2, asks for such a comparison, and for no rules of composition.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from django.contrib.auth.password_validation import CommonPasswordValidator
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from ml.normalization import normalize

PRODUCT = "crosslight"
# Shorter parts of names and of what is put together stand in too many good passwords.
LEAST_NAME, LEAST_WORD, LEAST_REST = 4, 4, 5
# Characters of a walk, or of a sequence, at a time: `qwe`, `789`.
LEAST_RUN = 3
# Signs that stand for letters, and digits that stand for either of two.
_LEET = str.maketrans("@4830$5!7+2", "aabeossittz")
_ROWS = ("1234567890-=", "qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./")
_KEYS = {key: (row, place) for row, keys in enumerate(_ROWS) for place, key in enumerate(keys)}
_SEPARATORS = re.compile(r"[\W_]+")
_EDGES = re.compile(r"\A[\d\W_]+|[\d\W_]+\Z")

COMMON = gettext_noop(
    "This password is among the first that are tried: a common one, or one with digits or signs added. Take several "
    "words that do not belong together."
)
NAMED = gettext_noop(
    "This password is little more than a name: yours, your workspace’s or the product’s. Take several words that do "
    "not belong together."
)


class GuessablePasswordValidator:
    """For AUTH_PASSWORD_VALIDATORS: knows the person's names and those of the workspaces that they belong to."""

    def validate(self, password: str, user: Any = None) -> None:
        names = [] if user is None else [user.name, user.email, *_workspaces(user)]
        if reason := why_guessable(password, names):
            raise ValidationError(_(reason), code="password_guessable")

    def get_help_text(self) -> str:
        return _("Not a common password in disguise, and not a name.")


def _workspaces(user: Any) -> Iterator[str]:
    for name, slug in user.memberships.values_list("tenant__name", "tenant__slug"):
        yield from (name, slug)


def why_guessable(password: str, names: Iterable[str] = ()) -> str:
    """The reason for refusing a password, in English and to be translated; "" for one that is not easily guessed."""
    forms = _forms(password)
    if any(_is_common(form) for form in forms):
        return COMMON
    parts = _parts_of([PRODUCT, *names])
    return NAMED if any(_is_name(form, parts) for form in forms) else ""


def _forms(password: str) -> set[str]:
    """Spellings under which it is looked up; letters and digits only, and without digits around them."""
    folded = normalize("NFKC", password).casefold()
    core = _EDGES.sub("", folded)
    read = {core, *(core.replace("1", one).replace("|", one).translate(_LEET) for one in "il")}
    whole = {folded, *(folded.replace("1", one).translate(_LEET) for one in "il")}
    return {_SEPARATORS.sub("", form) for form in read | whole}


def _is_common(form: str) -> bool:
    known = common_passwords()
    unit = _repeated_unit(form)
    return (
        form in known or unit in known or len(unit) <= LEAST_WORD or _is_walk(form) or _is_pair(form, known)
    )


def _repeated_unit(form: str) -> str:
    """The shortest text of whose repetition it consists, the last one perhaps cut: `abc` of `abcabcab`."""
    for size in range(1, len(form) // 2 + 1):
        unit = form[:size]
        if (unit * (len(form) // size + 1))[: len(form)] == form:
            return unit
    return form


def _is_walk(form: str) -> bool:
    """Whether it consists of runs of neighbouring keys, or of the alphabet or the digits, of LEAST_RUN or more each."""
    return any(_runs(form, near) * LEAST_RUN <= len(form) for near in (_neighbours, _successors))


def _runs(form: str, near: Any) -> int:
    return 1 + sum(not near(before, after) for before, after in pairwise(form))


def _neighbours(one: str, other: str) -> bool:
    if one not in _KEYS or other not in _KEYS:
        return False
    (row, place), (other_row, other_place) = _KEYS[one], _KEYS[other]
    return abs(row - other_row) <= 1 and abs(place - other_place) <= 1


def _successors(one: str, other: str) -> bool:
    return abs(ord(one) - ord(other)) <= 1


def _is_pair(form: str, known: frozenset[str]) -> bool:
    cuts = range(LEAST_WORD, len(form) - LEAST_WORD + 1)
    return any(form[:cut] in known and form[cut:] in known for cut in cuts)


def _parts_of(names: Iterable[str]) -> list[str]:
    """Names as wholes and by their words, the longest first."""
    found = set()
    for name in names:
        folded = normalize("NFKC", name).casefold()
        found |= {_SEPARATORS.sub("", folded), *_SEPARATORS.split(folded)}
    return sorted((part for part in found if len(part) >= LEAST_NAME), key=len, reverse=True)


def _is_name(form: str, parts: list[str]) -> bool:
    rest = form
    for part in parts:
        rest = rest.replace(part, "")
    rest = _EDGES.sub("", rest)
    return rest != _EDGES.sub("", form) and (len(rest) < LEAST_REST or rest in common_passwords())


@cache
def common_passwords() -> frozenset[str]:
    """Django's list and ours, letters and digits only; what is longer than a word stands in ours."""
    known = set(CommonPasswordValidator().passwords)
    own = Path(__file__).with_name("common_passwords.txt").read_text(encoding="utf-8").splitlines()
    known.update(line for line in own if line and not line.startswith("#"))
    return frozenset(_SEPARATORS.sub("", one) for one in known) - {""}
