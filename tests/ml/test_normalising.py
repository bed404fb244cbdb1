"""Adversarial text is read as people read it, and evidence still points into what was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.auditing.text_normalization import MAX_CHARS, Normalised, normalise
from tests.speed import LINEAR, TIMES, growth

PLAIN = {
    "fullwidth": ("ｙｏｕ ａｒｅ ｓｈｉｔ", "you are shit"),
    "mathematical": ("𝓯𝓾𝓬𝓴 𝕪𝕠𝕦", "fuck you"),
    "circled and squared": ("Ⓕⓤⓒⓚ 🅵🆄🅲🅺", "Fuck FUCK"),
    "Cyrillic in a word": ("fuсk yоu", "fuck you"),
    "Cyrillic words in an English text": ("you are а сор, ѕтuріd", "you are a cop, stupid"),
    "Greek": ("yοu are αn idiοτ", "you are an idiot"),
    "small capitals": ("ɪᴅɪᴏᴛ", "idiot"),
    "zero width": ("f\u200bu\u200dc\u2060k\ufeff", "fuck"),
    "bidirectional controls": ("\u202efuck\u202c", "fuck"),
    "tag characters": ("fu\U000e0063ck", "fuck"),
    "soft hyphen": ("fu\u00adck", "fuck"),
    "control characters": ("fu\x00c\x08k", "fuck"),
    "many marks": ("f" + "\u0335\u0489" * 200 + "u\u0301ck", "fuck"),
    "accents": ("fúçķ", "fuck"),
    "long letters": ("fuuuuuck", "fuuck"),
    "an emoji that says something": ("you 🐒", "you  monkey "),
    "an emoji that does not": ("a🌻b", "a b"),
    "digits of another script": ("٠١٢ ०१२", "012 012"),
    "lone surrogate": ("a\ud800b", "ab"),
    "white space": ("a\u3000b\u00a0c\td\u2028e", "a b c d\ne"),
}
FOLDED = {
    "leet": ("sh1t a$$ b!tch ki11", "shit ass bitch kill"),
    "spaces": ("f u c k you", "fuck you"),
    "dots": ("f.u.c.k off", "fuck off"),
    "dashes and stars": ("f-u-c-k s*h*i*t", "fuck shit"),
    "emoji between": ("f🔥u🔥c🔥k", "fuck"),
    "signs between Chinese characters": ("你是傻 * 逼", "你是傻逼"),
    "long letters": ("fuuuuuck", "fuck"),
    "the end of a sentence": ("go!", "go!"),
    "numbers": ("call 110 or 3.5", "call 110 or 3.5"),
}
KEPT = [
    "Ты сорока, вот и всё",
    "Το σπίτι μου",
    "你好，世界！"[:2] + "世界",
    "कि ताब हिन्दी",
    "สวัสดีครับ",
    "한국어 텍스트",
    "日本語のテキスト",
]


def originals(text: str, read: Normalised) -> None:
    for reading in (read.exact, read.plain, read.folded):
        assert len(reading.text) == len(reading.starts) == len(reading.ends)
        assert (reading.starts >= 0).all() and (reading.ends <= len(text)).all()
        assert (reading.starts < reading.ends).all()
        assert (reading.starts[1:] >= reading.starts[:-1]).all()


@pytest.mark.parametrize("name", PLAIN)
def test_plain_reading(name: str) -> None:
    written, read = PLAIN[name]
    assert normalise(written).plain.text == read


@pytest.mark.parametrize("name", FOLDED)
def test_folded_reading(name: str) -> None:
    written, read = FOLDED[name]
    assert normalise(written).folded.text.strip() == read


@pytest.mark.parametrize("text", KEPT)
def test_other_scripts_stay_as_they_are(text: str) -> None:
    read = normalise(text)
    assert read.plain.text == text
    assert read.folded.text == text


def test_spans_point_into_the_original() -> None:
    written = "Hi, you ｓ\u200bh１ｔ and f.u.c.k!"
    read = normalise(written)
    at = read.plain.text.index("sh1t")
    assert written[slice(*read.plain.span(at, at + 4))] == "ｓ\u200bh１ｔ"
    at = read.folded.text.index("shit")
    assert written[slice(*read.folded.span(at, at + 4))] == "ｓ\u200bh１ｔ"
    at = read.folded.text.index("fuck")
    assert written[slice(*read.folded.span(at, at + 4))] == "f.u.c.k"


@given(st.text(max_size=200))
def test_any_string_is_read_and_every_character_has_a_place(text: str) -> None:
    read = normalise(text)
    originals(text, read)
    assert not read.truncated


@pytest.mark.parametrize(
    "unit",
    ["a", "a ", "a1", "а", "e\u0301", "\u0301", "🔥a", "你", "a.b ", "傻 ", "\u200b", "@", "aA1!", "ﷺ"],
)
@pytest.mark.slow
def test_time_is_linear_and_the_rest_is_left(unit: str) -> None:
    assert growth(lambda chars: normalise(unit * (chars // len(unit))), MAX_CHARS // TIMES) < LINEAR
    text = unit * (2 * MAX_CHARS // len(unit))
    read = normalise(text)
    assert read.truncated
    originals(text[:MAX_CHARS], read)
