"""Query words in results: where they stand, what is shown around them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenants.retrieval.query import lexical
from tenants.retrieval.query.lexical import (
    MAX_HIGHLIGHTS,
    MOST_MARKS,
    WIDTH,
    Highlight,
    fields_of_metadata,
    highlight,
    query_words,
)
from tests.speed import LINEAR, growth


def marked(query: str, text: str) -> list[str]:
    """The pieces that are marked."""
    found = highlight(query_words(query), [("caption", text)])
    return [one.text[start:end] for one in found for start, end in one.marks]


@pytest.mark.parametrize(
    ("query", "text", "expected"),
    [
        ("red apples", "A red apple beside Apples", ["red", "apple", "Apples"]),
        ("berry", "Berries, BERRY and strawberries", ["Berries", "BERRY"]),
        ("cafe", "Le Café, the cafe\u0301s", ["Café", "cafe\u0301s"]),
        ("CAFÉ", "a cafe", ["cafe"]),
        ("苹果", "我有一个红苹果和服务", ["苹果"]),
        ("和服", "产品和服务", []),
        ("中华人民共和国", "中华人民共和国成立", ["中华人民共和国"]),
        ("寿司 レストラン", "寿司のレストラン", ["寿司", "レストラン"]),
        ("apple", "ＡＰＰＬＥ", ["ＡＰＰＬＥ"]),
        ("the of", "the end of the day", []),
        ("straße", "STRASSE und Straße", ["STRASSE", "Straße"]),
        ("apple", "pineapple", []),
        ("apple", "", []),
        ("", "apple", []),
    ],
)
def test_words_are_marked_as_search_by_words_finds_them(query: str, text: str, expected: list[str]) -> None:
    assert marked(query, text) == expected


def test_places_count_characters_beyond_the_basic_plane_once() -> None:
    [found] = highlight({"apple"}, [("caption", "😀😀 apple <b>&amp;")])
    assert (found.text, found.marks) == ("😀😀 apple <b>&amp;", [(3, 8)])
    assert found == Highlight("caption", "😀😀 apple <b>&amp;", [(3, 8)])


def test_the_piece_with_most_different_words_is_shown() -> None:
    text = "apple " + "x " * 300 + "a red apple on a green table " + "y " * 300
    [found] = highlight(query_words("red apple green"), [("passage", text)])
    assert [found.text[a:b] for a, b in found.marks] == ["red", "apple", "green"]
    assert found.text.startswith("…")
    assert found.text.endswith("…")
    assert len(found.text) <= WIDTH + 2


def test_a_cut_is_at_a_space_where_there_is_one_near() -> None:
    text = "abcdefgh " * 50 + "apple " + "abcdefgh " * 50
    [found] = highlight({"apple"}, [("passage", text)])
    assert set(found.text.strip("…").split()) == {"abcdefgh", "apple"}


def test_marks_and_highlights_are_bounded() -> None:
    [found] = highlight({"a1"}, [("caption", "a1 " * 500)])
    assert len(found.marks) <= MOST_MARKS
    many = [("metadata.x", "apple")] * (MAX_HIGHLIGHTS + 5)
    assert len(highlight({"apple"}, many)) == MAX_HIGHLIGHTS


def test_only_texts_of_metadata_are_looked_at() -> None:
    metadata = {"label": "Apple", "price": 3, "tags": ["apple", 5, "pear"], "deep": {"a": "apple"}}
    assert list(fields_of_metadata(metadata)) == [
        ("metadata.label", "Apple"),
        ("metadata.tags", "apple"),
        ("metadata.tags", "pear"),
    ]


ODD = st.sampled_from("eE\u0301\u0327\u0345ßﬁςΣſｶﾞﾊﾟ가각\u1100\u1161\u11a8苹果的\U00020000 .ไทย\u09c7\u09beâ")
TEXTS = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), ODD, st.characters(max_codepoint=0x1200)),
    max_size=40,
)


@settings(max_examples=500, deadline=None)
@given(TEXTS)
def test_located_words_are_the_words_that_are_indexed(text: str) -> None:
    found = list(lexical.located(text))
    assert [word for word, _, _ in found if word not in lexical.STOP_WORDS] == lexical.tokens(text)
    assert all(0 <= start < end <= len(text) for _, start, end in found)


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS)
def test_marks_lie_in_the_text_in_order_and_apart(query: str, text: str) -> None:
    for found in highlight(query_words(query), [("caption", text)]):
        flat = [place for mark in found.marks for place in mark]
        assert flat == sorted(set(flat))
        assert flat[0] >= 0
        assert flat[-1] <= len(found.text)


def test_hostile_texts_take_bounded_time() -> None:
    wanted = query_words(" ".join(f"w{n}" for n in range(16)))
    for unit in ("w1 ", "é", "w1\u0301", "苹"):
        grown = growth(lambda size, unit=unit: highlight(wanted, [("passage", unit * size + "w1")]), 100_000)
        assert grown < LINEAR, unit
