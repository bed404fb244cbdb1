"""Lists match words however they are spelt, not parts of other words; calls for help are no offence."""

from __future__ import annotations

from typing import Any

import pytest

from ml.detectors.base import Category, Finding, Item, Words
from ml.detectors.keywords import SHIPPED, Terms, Text, load, sections, shipped_lists
from tests.speed import LINEAR, growth

SPELLINGS = [
    "fuck you", "FUCK you", "f.u.c.k you", "f u c k you", "fuuuuck you", "f*ck you", "fυck you", "ｆｕｃｋ you",
    "f\u200buck you", "fuсk you", "fucking hell", "you stupid fücker",
]  # fmt: skip
INNOCENT = ["Scunthorpe and Essex", "a class of assassins", "shiitake mushrooms", "the cockpit", "Dickens wrote it",
            "passport assessment", "this is analysis", "他妈妈来了"]  # fmt: skip


def examine(text: str, **options: Any) -> Finding:
    return load("").examine(Item("text", "text/plain", words=[Words(text, "text")], options=options))


def category(text: str, name: str, **options: Any) -> Category:
    return examine(text, **options).categories[name]


@pytest.mark.parametrize("text", SPELLINGS)
def test_profanity_in_any_spelling(text: str) -> None:
    found = category(text, "profanity")
    assert found.score == 0.7
    assert not found.calibrated
    evidence = found.evidence[0]
    assert evidence["kind"] == "list-match"
    assert (evidence["start"], evidence["end"]) != (0, 0)
    assert "c" in text[evidence["start"] : evidence["end"]].lower() or "ｃ" in text or "с" in text


@pytest.mark.parametrize("text", INNOCENT)
def test_parts_of_words_do_not_match(text: str) -> None:
    assert category(text, "profanity").score == 0.0


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("你这个傻*逼", "profanity"), ("傻 逼", "profanity"), ("专业代开发票，加微信", "spam"), ("约炮加我", "sexual"),
        ("我要杀了你", "violence"), ("去死吧", "self_harm"), ("double your money today", "spam"),
        ("I’ll kill you", "violence"), ("send nudes", "sexual"), ("go kill yourself", "self_harm"),
    ],
)  # fmt: skip
def test_categories_in_both_languages(text: str, name: str) -> None:
    found = category(text, name)
    assert found.score == 0.7
    assert found.evidence[0]["meaning"] == "offence"


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("I want to die", 0.3), ("我想自杀", 0.3), ("I keep cutting myself and feel suicidal", 0.3),
        ("I want to die, please help me", 0.1), ("suicide prevention hotline: 988", 0.1), ("我不想活了，求助", 0.1),
    ],
)  # fmt: skip
def test_people_at_risk_are_not_accused(text: str, score: float) -> None:
    found = category(text, "self_harm")
    assert found.score == score
    assert {each["meaning"] for each in found.evidence} <= {"person_at_risk", "support"}


def test_words_of_help_alone_say_nothing() -> None:
    found = category("my therapist recommends talking about recovery", "self_harm")
    assert (found.score, list(found.evidence)) == (0.0, [])


def test_urging_counts_also_beside_words_of_help() -> None:
    assert category("forget the hotline, kill yourself", "self_harm").score == 0.7


def test_weak_words_add_up() -> None:
    assert category("click here", "spam").score == 0.3
    assert category("click here, limited time offer, act now", "spam").score == 0.9
    assert category("click here click here click here", "spam").score == 0.3


def test_a_tenants_own_lists() -> None:
    own = {"rivals": ["blue widget", "代购", "acme*"], "spam": ["hello there"]}
    assert category("The BLUE  widget rocks", "rivals", keywords=own).score == 0.7
    assert category("小红书代购", "rivals", keywords=own).evidence[0]["meaning"] == "listed"
    assert category("acmecorp", "rivals", keywords=own).score == 0.7
    assert category("bluewidgets", "rivals", keywords=own).score == 0.0
    assert category("Hello there!", "spam", keywords=own).score == 0.7


@pytest.mark.parametrize(
    ("given", "refused"),
    [({"a": ["", 5, "ok"]}, 2), ({"a": "no list"}, 1), ({"a": ["x" * 101]}, 1), ({"a": ["***", "!"]}, 2)],
)
def test_what_is_no_term_is_counted_not_fatal(given: Any, refused: int) -> None:
    assert [note["count"] for note in examine("ok", keywords=given).evidence] == [refused]


def test_settings_that_are_none_are_said() -> None:
    assert examine("ok", keywords=["a"]).evidence[0]["kind"] == "setting-refused"


def test_every_category_is_always_there() -> None:
    assert set(examine("hello").categories) == set(SHIPPED)
    assert examine("").state == "not_applicable"


def test_shipped_lists_are_in_both_languages_and_whole() -> None:
    names = {each.name for each in shipped_lists()}
    assert names == {f"{category}.{language}" for category in SHIPPED for language in ("en", "zh")}
    assert all(each.terms.refused == 0 for each in shipped_lists())


@pytest.mark.parametrize("content", ["word", "[wrong]\nword"])
def test_a_damaged_list_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        sections(content)


def test_phrases_and_offsets() -> None:
    terms = Terms.compile(["kill you", "ass"])
    assert list(terms.find(Text("I will KILL  you, asses!"))) == [(7, 16, "kill you"), (18, 23, "ass")]
    assert list(terms.find(Text("as kil you"))) == []


@pytest.mark.parametrize("unit", ["f*ck shit ", "damn", "去死吧", "a*", "kill ", "\u0130 "])
@pytest.mark.slow
def test_hostile_texts_take_no_longer(unit: str) -> None:
    assert growth(lambda chars: examine(unit * (chars // len(unit))), 25_000) < LINEAR


@pytest.mark.parametrize("unit", ["f*ck shit ", "damn", "去死吧"])
def test_of_many_hits_the_first_are_shown(unit: str) -> None:
    found = examine(unit * (10_000 // len(unit)))
    assert all(len(each.evidence) <= 55 for each in found.categories.values())
