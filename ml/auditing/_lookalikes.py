"""Characters that are drawn like Latin letters, compactly: what people really use to slip past a filter.

After the idea of Unicode's confusables (UTS #39), hand-picked: every entry is one character for one letter. Fullwidth
forms, mathematical alphanumerics, circled letters and ligatures are not here, since NFKC knows them.
"""

from __future__ import annotations

#: Letters of scripts in which people also write whole texts: only mapped within words that pretend to be Latin.
_CYRILLIC = (
    "аaбbвbсcԁdеeёeєeғfԍgһhнhіiїiјjкkӏlмmпnоoрpԛqгrѕsтtцuцuѵvшwщwԝwхxуyүyзz"
    "АAВBСCԀDЕEЁEЄEҒFԌGНHІIЇIЈJКKМMОOРPԚQЅSТTԜWХXУYҮYЗZ"
)
_GREEK = "αaβbςcδdεeζzηnιiκkνvοoρpσoτtυuχxγyωwϲcϳjΑAΒBϹCΕEΖZΗHΙIΚKΜMΝNΟOΡPΤTΥYΧXϒY"
_ARMENIAN = "օoսuոnհhցgգqզqյjքpտsՏSՍUԼLՕO"
_CHEROKEE = "ᎪAᏴBᏟCᎠDᎬEᎮFᏀGᎻHᎥiᎫJᏦKᏞLᎷMᏢPᎡRᏚSᎢTᏙVᎳWᎩYᏃZ"

#: Letters that stand for nothing else in the texts that the models read: mapped everywhere.
_ALWAYS = (
    "ɑaæaɐaƀbɓbʙbƈcᴄcƊDđdɖdɗdᴅdɘeəeɛeᴇeǝeƒfꜰfɠgɡgɢgʜhħhıiɩiɪiɨiʝjᴊjƙkᴋkłlƚlʟlɭlᴍmɱmŋnɲnɴnøoɔoᴏoɵoƥpᴘpʠqʀrɾrɍr"
    "ꜱsʂsƭtᴛtŧtʇtʉuᴜuʋvᴠvʌvᴡwʍwɯwʏyƴyƶzᴢzʐzØOĐDŁLƎE"
    "ⅼlⅽcⅾdⅿm∨v∪u∩n∂dℓl℮e"
)

#: In the second reading only: digits and signs that stand for letters inside words.
LEET = str.maketrans("@4380135$679!|+€£¢", "aaebolesstgijtelc"[:0] or "aaeboiessgtgiiteec"[:18])


def _pairs(packed: str) -> dict[str, str]:
    return dict(zip(packed[::2], packed[1::2], strict=True))
