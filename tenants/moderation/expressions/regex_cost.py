r"""What a regular expression of `matches()` may cost.

The engine is linear in the text, as it never backtracks, but it compiles the pattern anew at every evaluation, and
counted repetition and Unicode classes make that dear: `\w{100}` takes 26 ms before it looks at anything. So a pattern
is a literal, and its size after expanding is bounded here. Measured with cel 0.14 and regex 1.13;
benchmarks/_audit_policy.py measures it again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tenants.moderation.expressions.syntax import ExpressionError

MAX_PATTERN, MAX_WEIGHT = 200, 2_500

MAX_DEPTH = 20

# In microseconds, rounded up: a character, any character, a class; what an escape means.
CHARACTER, DOT, CLASS = 1.0, 8.0, 8.0

ESCAPES = {**dict.fromkeys("wWpP", 450.0), **dict.fromkeys("dDsSbB", 60.0)}

BASE, FOLDED = 50.0, 8.0

_REPEAT = re.compile(r"\{([0-9]{1,4})(,([0-9]{0,4}))?\}")

_NAMED = re.compile(r"\{[^}0-9][^}]*\}|\{[0-9A-Fa-f]+\}")

_FLAGS = re.compile(r"\?[ims]{1,3}(?=[:)])|\?:|\?P?<[A-Za-z_][A-Za-z0-9_]*>")


def regex_cost(pattern: str, at: int = 0) -> float:
    """Microseconds that compiling takes at most. Raises ExpressionError for a pattern that is too large, or is none."""
    if len(pattern) > MAX_PATTERN:
        raise ExpressionError(f"A pattern has at most {MAX_PATTERN} characters.", at)
    weight = BASE + _Scanner(pattern, at).whole()
    if weight > MAX_WEIGHT:
        raise ExpressionError(
            f"This pattern is too large to compile at every evaluation ({weight:,.0f} of {MAX_WEIGHT:,})."
            " Counted repetition and Unicode classes cost most: [0-9] is cheaper than \\d, [A-Za-z] than \\w.",
            at,
        )
    _compile(pattern, at)
    return weight


def _compile(pattern: str, at: int) -> None:
    import cel

    try:
        cel.compile("text.matches(pattern)").execute({"text": "", "pattern": pattern})
    except Exception as error:
        reason = str(error).partition("error: ")[2].partition("Check function")[0].strip(" .\n")
        raise ExpressionError(
            f"This is no pattern: {reason[-200:] or 'it cannot be compiled'}.", at
        ) from None


@dataclass
class _Scanner:
    """Adds up atoms times their repetition; what it does not understand it refuses."""

    pattern: str
    at: int
    place: int = 0
    folded: float = 1.0

    def whole(self) -> float:
        weight = self._alternatives(0)
        if self.place < len(self.pattern):
            raise ExpressionError("A bracket is closed that was not opened.", self.at)
        return weight * self.folded

    def _alternatives(self, depth: int) -> float:
        if depth > MAX_DEPTH:
            raise ExpressionError(f"Groups may stand {MAX_DEPTH} deep in each other at most.", self.at)
        weight = 0.0
        while self.place < len(self.pattern) and self.pattern[self.place] != ")":
            weight += self._repeated(self._atom(depth))
        return weight

    def _atom(self, depth: int) -> float:
        character = self.pattern[self.place]
        self.place += 1
        if character == "(":
            return self._group(depth)
        if character == "[":
            return CLASS + self._class()
        if character == "\\":
            return self._escape()
        if character == ".":
            return DOT
        return CHARACTER if character.isascii() else 10 * CHARACTER

    def _group(self, depth: int) -> float:
        if self.pattern[self.place : self.place + 1] == "?":
            flags = _FLAGS.match(self.pattern, self.place)
            if flags is None:
                raise ExpressionError(
                    "Of groups with a question mark there are (?:…), (?<name>…) and (?ims).", self.at
                )
            if "i" in flags.group().partition("<")[0]:
                self.folded = FOLDED
            self.place = flags.end()
        weight = self._alternatives(depth + 1)
        if self.pattern[self.place : self.place + 1] != ")":
            raise ExpressionError("A bracket is not closed.", self.at)
        self.place += 1
        return weight + CHARACTER

    def _class(self) -> float:
        weight, depth = 0.0, 1
        # A bracket that comes first stands for itself.
        if self.pattern[self.place : self.place + 1] == "^":
            self.place, weight = self.place + 1, DOT
        if self.pattern[self.place : self.place + 1] == "]":
            self.place += 1
        while depth:
            if self.place >= len(self.pattern):
                raise ExpressionError("A class is not closed.", self.at)
            character = self.pattern[self.place]
            self.place += 1
            depth += (character == "[") - (character == "]")
            weight += self._escape() if character == "\\" else CHARACTER
        return weight

    def _escape(self) -> float:
        character = self.pattern[self.place : self.place + 1]
        self.place += 1
        if character in ("p", "P", "x", "u", "U", "b", "B") and (
            named := _NAMED.match(self.pattern, self.place)
        ):
            self.place = named.end()
        elif character in ("p", "P"):
            self.place += 1
        return ESCAPES.get(character, CHARACTER)

    def _repeated(self, weight: float) -> float:
        """The atom with the repetitions that follow it, of which Rust allows several."""
        while self.place < len(self.pattern):
            if self.pattern[self.place] in "*+?":
                self.place += 1
                weight += 2 * CHARACTER
            elif found := _REPEAT.match(self.pattern, self.place):
                self.place = found.end()
                least, most = int(found[1]), int(found[3] or 0)
                weight *= max(least + bool(found[2]), most, 1)
            else:
                break
        return weight
