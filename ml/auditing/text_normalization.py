"""Text as it is read, whatever characters it was typed with, and the way back to where each character stood.

People hide words from filters with look-alike letters, invisible characters, accents, dots between letters and digits
for letters. ``normalise`` gives two readings. ``plain`` undoes what no honest text needs; models read it. ``folded``
also guesses (``sh1t``, ``f u c k``, ``shiiit``), which is right about insults and wrong about ``4x4``: what looks only
for bad words reads both. Every character knows its place in the original, so that evidence points there.

Linear in the text's length, at most ``MAX_CHARS`` of it. Chinese stays as it is, in both readings, apart from forms
that Unicode itself calls the same (NFKC) and, in ``folded``, signs between single characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# --- Confusables -----------------------------------------------------------------------------------------
# Characters that are drawn like Latin letters, compactly: what people really use to slip past a filter.
#
# After the idea of Unicode's confusables (UTS #39), hand-picked; each pair is a character and its letter. Fullwidth
# forms, mathematical alphanumerics, circled letters and ligatures are not here: NFKC knows them.


#: Letters of scripts in which people also write whole texts: mapped only in words that pretend to be Latin.
_WORDS = """
аa бb вb сc ԁd еe ёe єe ғf ԍg һh нh іi їi јj кk ӏl мm пn оo рp ԛq гr ѕs тt цu уy ѵv шw щw ԝw хx үy зz
АA ВB СC ԀD ЕE ЁE ЄE ҒF ԌG НH ІI ЇI ЈJ КK ӀI МM ОO РP ԚQ ЅS ТT ԜW ХX УY ҮY ЗZ
αa βb ςc δd εe ζz ηn ιi κk νv οo ρp σo τt υu χx γy ωw ϲc ϳj
ΑA ΒB ϹC ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΣE ΤT ΥY ΧX ϒY
օo սu ոn հh ցg զq յj քp տs ՏS ՍU ԼL ՕO
ᎪA ᏴB ᏟC ᎠD ᎬE ᎮF ᏀG ᎻH ᎥI ᎫJ ᏦK ᏞL ᎷM ᏢP ᎡR ᏚS ᎢT ᏙV ᎳW ᎩY ᏃZ
"""

#: Rare letters: phonetic signs, small capitals, letters with a stroke.
_ALWAYS = """
ɑa ᴀa ɐa ƀb ɓb ʙb ƈc ᴄc đd ɖd ɗd ᴅd ɘe əe ɛe ᴇe ǝe ƒf ꜰf ɠg ɡg ɢg ʜh ħh ɥh ıi ɩi ɪi ɨi ʝj ᴊj ƙk ᴋk ʞk łl ƚl ʟl ɭl
ᴍm ɱm ɯm ŋn ɲn ɴn øo ɔo ᴏo ɵo ƥp ᴘp ʠq ʀr ɾr ɍr ɹr ꜱs ʂs ƭt ᴛt ŧt ʇt ʉu ᴜu ʋv ᴠv ʌv ᴡw ʍw ʏy ƴy ɏy ƶz ᴢz ʐz
ØO ĐD ŁL ƎE ℮e ∨v ∪u ∩n ∂d ℂC
"""


def _table(pairs: str) -> dict[str, str]:
    return {pair[0]: pair[1] for pair in pairs.split()}


#: Cyrillic, Greek, Armenian and Cherokee letters to Latin ones.
IN_WORDS = _table(_WORDS)

#: Single characters to what they stand for: the rare letters, and letters in black squares and flags.
ALWAYS = _table(_ALWAYS) | {
    chr(first + at): chr(0x41 + at) for first in (0x1F150, 0x1F170, 0x1F1E6) for at in range(26)
}

#: Digits and signs that stand for letters, in the second reading and only inside words.
LEET = str.maketrans("@4310!|$57+€£(", "aaeioiissttelc")

#: Emoji that say something in a threat or an insult. All others only part words.
EMOJI = {
    "🖕": "middle finger", "🐒": "monkey", "🐵": "monkey", "🙈": "monkey", "🦍": "gorilla", "🐷": "pig", "🐖": "pig",
    "🐽": "pig", "🐀": "rat", "🐁": "rat", "🐍": "snake", "🐕": "dog", "🐶": "dog", "🐩": "dog", "🪳": "cockroach",
    "💩": "shit", "🤡": "clown", "🔫": "gun", "🔪": "knife", "🗡": "knife", "💣": "bomb", "🧨": "bomb", "💉": "syringe",
    "💊": "pills", "☠": "death", "⚰": "coffin", "🪦": "grave", "🩸": "blood", "🍆": "penis", "🍑": "ass", "💦": "cum",
    "🤮": "vomit", "🤢": "disgusting", "👊": "punch", "🗑": "trash", "🚮": "trash",
}  # fmt: skip


# --- Readings --------------------------------------------------------------------------------------------


MAX_CHARS = 100_000
#: More marks than this on one letter are decoration (Unicode's own stream-safe limit).
MAX_MARKS = 30

Offsets = NDArray[np.int32]


@dataclass(frozen=True)
class Reading:
    """A text, and for each of its characters where its source starts and ends in the original: int32 [len(text)]."""

    text: str
    starts: Offsets
    ends: Offsets

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The characters ``start`` to ``end`` (exclusive, at least one) of ``text`` as a span of the original."""
        return int(self.starts[start]), int(self.ends[end - 1])


@dataclass(frozen=True)
class Normalised:
    """Both readings, and ``exact``: ``plain`` before repeated letters were shortened, which numbers and names need.

    ``truncated``: the original is longer than ``MAX_CHARS``, and its rest was not read.
    """

    exact: Reading
    plain: Reading
    folded: Reading
    truncated: bool


def normalise(text: str) -> Normalised:
    """Read ``text``; any string is accepted, lone surrogates and control characters included."""
    raw = text[:MAX_CHARS]
    decoded = _decode(raw)
    exact = _latinise(_with_emoji(decoded, words=True))
    apart = _latinise(_with_emoji(decoded, words=False)) if _EMOJI.search(raw) else exact
    return Normalised(exact, _squeeze(exact), _fold(apart), len(text) > MAX_CHARS)


# --- Characters --------------------------------------------------------------------------------------------


def _decode(raw: str) -> Reading:
    """NFKC without invisible characters and accents; all white space is a space or a line's end."""
    if raw.isascii():
        offsets = np.arange(len(raw), dtype=np.int32)
        reading = Reading(raw, offsets, offsets + 1)
        return _replace(reading, _CONTROL, lambda found: " " if found.group() in "\t\v\f\r" else "")
    pieces, starts, ends = [], [], []
    for start, end in _clusters(raw):
        piece = _CLUSTERS.get(raw[start:end])
        if piece is None:
            piece = _remember(raw[start:end])
        pieces.append(piece)
        starts.extend([start] * len(piece))
        ends.extend([end] * len(piece))
    return Reading("".join(pieces), np.array(starts, np.int32), np.array(ends, np.int32))


def _clusters(raw: str) -> list[tuple[int, int]]:
    """Each character with the combining marks behind it."""
    if not _MARK.search(raw):
        return [(at, at + 1) for at in range(len(raw))]
    return [found.span() for found in _CLUSTER.finditer(raw)]


def _remember(cluster: str) -> str:
    read = _read(cluster)
    if len(_CLUSTERS) < 50_000:
        _CLUSTERS[cluster] = read
    return read


def _read(cluster: str) -> str:
    text = unicodedata.normalize("NFKC", cluster[: MAX_MARKS + 1])
    # Accents are decoration on Latin letters, digits and signs; in Hindi or Thai they are vowels.
    if unicodedata.normalize("NFKD", text)[:1].isascii():
        text = unicodedata.normalize("NFKD", text)
    if text < "\u0530" or "\u1e00" <= text < "\u2000":
        text = "".join(part for part in text if unicodedata.category(part) not in ("Mn", "Me"))
    return "".join(_character(character) for character in text)


def _character(character: str) -> str:
    if character in ALWAYS:
        return ALWAYS[character]
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.digit(character))
    if category.startswith("Z"):
        return "\n" if category in ("Zl", "Zp") else " "
    if category == "Cc":
        return {"\n": "\n", "\x85": "\n"}.get(character, " " if character in "\t\v\f\r" else "")
    # Format characters (zero width, bidi, tags), surrogates, private use, fillers that are drawn as nothing.
    return "" if category in ("Cf", "Cs", "Co", "Cn") or character in _INVISIBLE else character


_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5\ufe0e\ufe0f\u20e3")
_CLUSTERS: dict[str, str] = {}
_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0900-\u0903\u093a-\u094f\u0e31\u0e34-\u0e3a"
    "\u0e47-\u0e4e\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u3099\u309a\ufe00-\ufe0f\ufe20-\ufe2f"
)
_MARK = re.compile(f"[{_MARKS}]")
_CLUSTER = re.compile(f"(?s).[{_MARKS}]*")


# --- Words -------------------------------------------------------------------------------------------------


def _latinise(reading: Reading) -> Reading:
    """Cyrillic or Greek look-alikes to Latin, in words that mix scripts or stand alone in a Latin text."""
    if reading.text.isascii():
        return reading
    words = _WORD.findall(reading.text)
    latin = sum(1 for word in words if _LATIN.search(word)) * 2 > len(words)

    def mapped(found: re.Match[str]) -> str:
        word = found.group()
        lookalikes = [IN_WORDS.get(letter, "") for letter in word if not letter.isascii()]
        if not lookalikes or not all(lookalikes) or not (latin or _LATIN.search(word)):
            return word
        return "".join(IN_WORDS.get(letter, letter) for letter in word)

    return _replace(reading, _WORD, mapped)


def _with_emoji(reading: Reading, *, words: bool) -> Reading:
    """Pictures part words; those that say something become English words, or all become spaces."""
    if reading.text.isascii():
        return reading

    def named(found: re.Match[str]) -> str:
        word = EMOJI.get(found.group(), "") if words else ""
        return f" {word} " if word else " "

    return _replace(reading, _EMOJI, named)


def _squeeze(reading: Reading) -> Reading:
    """A letter more than twice in a row is written twice."""
    return _replace(reading, _REPEATED, lambda found: found.group(1) * 2)


_LATIN = re.compile(r"[A-Za-z]")
_WORD = re.compile(r"[^\W\d_]+")
_EMOJI = re.compile(r"[\u2190-\u21ff\u2300-\u27bf\u2900-\u297f\u2b00-\u2bff\U0001f000-\U0001faff]")
_REPEATED = re.compile(r"([^\W\d_])\1{2,}")


# --- Guesses -----------------------------------------------------------------------------------------------


def _fold(reading: Reading) -> Reading:
    """The second reading: digits and signs in words are letters, letters with signs between them are a word, and what
    was written three times or more is written once."""
    reading = _replace(reading, _TOKEN, _unleet)
    reading = _replace(reading, _SPACED, lambda found: _SEPARATORS.sub("", found.group()))
    reading = _replace(reading, _SPACED_HAN, lambda found: _SEPARATORS.sub("", found.group()))
    reading = _replace(reading, _PARTED_HAN, lambda found: "")
    return _replace(reading, _REPEATED, lambda found: found.group(1))


def _unleet(found: re.Match[str]) -> str:
    token = found.group()
    if token.isalpha() or not _LATIN.search(token) or _NAME.match(token):
        return token
    # What closes a sentence closes it still, and numbers at a word's ends are numbers: "go!", "2nd", "area51".
    first, last = (0, len(token)) if (edges := _EDGES.fullmatch(token)) is None else edges.span(1)
    return token[:first] + token[first:last].replace("11", "ll").translate(LEET) + token[last:]


_NAME = re.compile(r"@(?!ss)[A-Za-z0-9]{2}")
_EDGES = re.compile(r"[0-9]*+(.*?[A-Za-z@$€£](?:11|55)?)[0-9!+|(]*")
_TOKEN = re.compile(r"[A-Za-z0-9@$!|+€£(]+")
_SEPARATORS = re.compile(r"[ .\-_*·,/|~]+")
#: Three single letters or more with the same signs between them.
_SPACED = re.compile(r"(?<![^\W_])[^\W\d_]([ .\-_*·,/|~]{1,3})[^\W\d_](?:\1[^\W\d_])+(?![^\W_])")
_HAN = "[\u4e00-\u9fff]"
_SPACED_HAN = re.compile(rf"(?<!{_HAN}){_HAN}(?:[ .\-_*·,/|~]{{1,3}}{_HAN})+(?!{_HAN})")
#: Signs that no sentence has between two characters; spaces and stops it may have.
_PARTED_HAN = re.compile(rf"(?<={_HAN}) ?[\-_*·/|~]{{1,3}} ?(?={_HAN})")


def _replace(reading: Reading, pattern: re.Pattern[str], change: Callable[[re.Match[str]], str]) -> Reading:
    """Like ``re.sub``, with offsets: what keeps its length keeps each character's, else all have the whole match's."""
    pieces, starts, ends, at = [], [], [], 0
    for found in pattern.finditer(reading.text):
        new = change(found)
        if new == found.group():
            continue
        first, last = found.span()
        pieces += [reading.text[at:first], new]
        starts.append(reading.starts[at:first])
        ends.append(reading.ends[at:first])
        if len(new) == last - first:
            starts.append(reading.starts[first:last])
            ends.append(reading.ends[first:last])
        else:
            starts.append(np.full(len(new), reading.starts[first], np.int32))
            ends.append(np.full(len(new), reading.ends[last - 1], np.int32))
        at = last
    if not pieces:
        return reading
    return Reading(
        "".join([*pieces, reading.text[at:]]),
        np.concatenate([*starts, reading.starts[at:]]),
        np.concatenate([*ends, reading.ends[at:]]),
    )
