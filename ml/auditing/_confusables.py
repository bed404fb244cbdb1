"""Characters that are drawn like Latin letters, compactly: what people really use to slip past a filter.

After the idea of Unicode's confusables (UTS #39), hand-picked; each pair is a character and its letter. Fullwidth
forms, mathematical alphanumerics, circled letters and ligatures are not here: NFKC knows them.
"""

from __future__ import annotations

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
