"""Which language a short text is in, as far as the text models care: English, Chinese, or one that they cannot read.

By the share of scripts, and among Latin texts by function words: no statistics, so it says "unknown" rather than guess.
"""

from __future__ import annotations

import re
from typing import Literal

Language = Literal["en", "zh", "other", "unknown"]

#: Short words that are frequent in one language and, as far as possible, none in English.
_OTHERS = {
    "de": "und der das ist nicht ich du sie wir ihr ein eine zu mit auf für dem den von wie aber auch sind bist dich",
    "fr": "le la les des et est pas je tu vous nous que qui dans pour une sur avec ce cette mais sont c'est du au",
    "es": "el los las que de y en es no un una por con para como pero más mi tu te lo muy eres está del todo son",
    "pt": "o os as que de e é não um uma por com para como mas mais meu você se muito está do da em são isso",
    "it": "il lo gli che di e è non un una per con come ma più mio sei sono questo della nel anche mi ti",
    "nl": "de het een en is niet ik je wij zij van dat met voor op te zijn maar ook jij hij deze wordt bent",
    "pl": "i w na nie się z do to jest że jak ale czy ja ty co po za od tak mnie jesteś",
    "tr": "bir ve bu da de ne için çok ben sen o mi ama gibi daha var yok değil kadar siz",
    "id": "yang dan di itu ini dengan untuk tidak dari dalam akan pada juga saya kamu ke karena ada bisa",
    "vi": "và là của có không được cho một trong người này với các những tôi bạn đã để",
    "sv": "och är det att jag du inte en ett på som med för av till den har vi de men om",
    "ro": "și este nu o un de la cu pe care mai ce sunt eu tu din pentru dar ești",
}
_COMMON = (
    "the a an and or but if of to in on at by for with from as is are was were be been am i you he she it we they me"
    " him her us them my your his its our their this that these those not no so do does did don't dont can can't will"
    " would should could have has had what who how why when where which there here all just like get got out up about"
    " than then too very im i'm it's u ur yo lol please thanks hi hello go know think want need make one some any more"
)
_ENGLISH = frozenset(_COMMON.split())
#: Single letters are no sign of a language: spaced-out English is full of them.
_WORDS = {
    name: frozenset(word for word in words.split() if len(word) > 1) - _ENGLISH
    for name, words in _OTHERS.items()
}

_TOKEN = re.compile(r"[a-zß-žảạấầẩẫậắằẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]+(?:'[a-z]+)?")
_HAN = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]")
_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")
_KANA = re.compile(r"[\u3040-\u30ff]")
_FOREIGN = re.compile(r"[\u0370-\u052f\u0530-\u1cff\u3040-\u30ff\uac00-\ud7af]")
_ACCENTED = re.compile(r"[À-ɏ\u1ea0-\u1eff]")
#: A character of Chinese says about as much as this many Latin letters.
HAN_WEIGHT = 3
READ = 2_000


def language_of(text: str, written: str | None = None) -> Language:
    """The language of a text: ``unknown`` is too little to tell.

    The first 2,000 characters count. ``written``: the same text before disguises and accents were taken off, which
    tells languages in Latin letters apart. A Latin text without function words of any language counts as English:
    insults are short. What is written in two languages is what the larger half says.
    """
    head = text[:READ]
    han, latin, foreign = (len(pattern.findall(head)) for pattern in (_HAN, _LATIN, _FOREIGN))
    if not han + latin + foreign:
        return "unknown"
    if len(_KANA.findall(head)) > han / 5 and han + foreign > latin / HAN_WEIGHT:
        return "other"
    if foreign > (han * HAN_WEIGHT + latin) / 2:
        return "other"
    return (
        "zh" if han * HAN_WEIGHT >= latin else _of_latin(text if written is None else written[:READ], latin)
    )


def _of_latin(text: str, letters: int) -> Language:
    tokens = _TOKEN.findall(text.lower())
    english = sum(token in _ENGLISH for token in tokens)
    other = max(sum(token in words for token in tokens) for words in _WORDS.values())
    if other > english and (other >= 2 or len(tokens) <= 4):
        return "other"
    # A look-alike here and there is evasion; several in a hundred letters are another alphabet.
    accented = len(_ACCENTED.findall(text))
    return "other" if english == 0 and accented > 0.08 * letters and accented >= 3 else "en"
