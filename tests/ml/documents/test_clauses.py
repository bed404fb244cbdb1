"""Clauses, and two versions compared: what is found, in which order, and how long hostile texts may take."""

from __future__ import annotations

import random

import pytest

from ml.documents import Block, Document
from ml.documents.clauses import (
    MAX_CLAUSES,
    TooManyClauses,
    changed_words,
    clauses,
    compare,
    near_duplicates,
    of_text,
)


def document(*parts: str | tuple[str, str]) -> Document:
    """Of paragraphs, or (kind, words)."""
    text, blocks = "", []
    for part in parts:
        kind, words = ("paragraph", part) if isinstance(part, str) else part
        text += "\n\n" if text else ""
        blocks.append(Block(kind, 1, None, len(text), len(text) + len(words)))
        text += words
    return Document("markdown", "", 1, (), text, tuple(blocks), (), (), "")


def told(before: Document, after: Document) -> list[tuple[str, str | None, str | None]]:
    def words(one: Document, clause: object) -> str | None:
        return None if clause is None else one.text[clause.start : clause.end]

    return [(one.kind, words(before, one.before), words(after, one.after)) for one in compare(before, after)]


TERM = "2. Either party may terminate with 30 days' notice in writing."
LAW = "3. This agreement is governed by the laws of Norway."
PAY = "1. The customer pays each invoice within 30 days of its date."


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("7.2 Payment is due.", "7.2"),
        ("7. Payment", "7."),
        ("(a) the seller", "(a)"),
        ("iv) the buyer", "iv)"),
        ("§ 433a Kaufvertrag", "§ 433a"),
        ("Article 12 Definitions", "Article 12"),
        ("SECTION IV Remedies", "SECTION IV"),
        ("Schedule 2.1 Prices", "Schedule 2.1"),
        ("第十二条 违约责任", "第十二条"),
        ("（三）交货地点", "（三）"),
        ("二、付款", "二、"),
        ("2024 was a good year", ""),
        ("3.5% of the price", ""),
        ("Sections of the road", ""),
        ("i.e. what is meant", ""),
        ("A clause without one", ""),
    ],
)
def test_numbers_of_clauses(words: str, number: str) -> None:
    [found] = clauses(document(words))
    assert found.number == number


def test_what_has_no_number_belongs_to_what_has_one() -> None:
    read = document(
        ("header", "Draft"),
        "Between A and B.",
        "1. Scope",
        "It covers all.",
        ("heading", "Terms"),
        "2. Price",
    )
    found = [read.text[one.start : one.end] for one in clauses(read)]
    assert found == ["Between A and B.", "1. Scope\n\nIt covers all.", "Terms", "2. Price"]


def test_each_block_is_a_clause_where_nothing_is_numbered() -> None:
    assert len(clauses(document("One.", "Two.", ("footer", "Page 1")))) == 2


def test_an_inserted_clause_changes_no_other() -> None:
    added = "2. Interest of 8 % is owed on what is late."
    after = document(PAY, added, TERM.replace("2.", "3.", 1), LAW.replace("3.", "4.", 1))
    assert told(document(PAY, TERM, LAW), after) == [
        ("same", PAY, PAY),
        ("added", None, added),
        ("same", TERM, TERM.replace("2.", "3.", 1)),
        ("same", LAW, LAW.replace("3.", "4.", 1)),
    ]


def test_changed_removed_and_moved() -> None:
    changed = PAY.replace("30", "60")
    before, after = document(PAY, TERM, LAW, "4. Notices are sent by mail."), document(LAW, changed, TERM)
    assert told(before, after) == [
        ("moved", LAW, LAW),
        ("changed", PAY, changed),
        ("same", TERM, TERM),
        ("removed", "4. Notices are sent by mail.", None),
    ]


def test_chinese_clauses_are_compared() -> None:
    old, new = "第一条 买方应在三十日内付款。", "第一条 买方应在六十日内付款。"
    assert told(document(old, "第二条 交货"), document(new, "第二条 交货")) == [
        ("changed", old, new),
        ("same", "第二条 交货", "第二条 交货"),
    ]
    assert changed_words(old, new) == [
        ("same", "第一条 买方应在"),
        ("removed", "三"),
        ("added", "六"),
        ("same", "十日内付款。"),
    ]


def test_case_spaces_and_widths_change_nothing() -> None:
    [one] = compare(document("1. The  SELLER pays ３ %"), document("5) the seller pays 3 %"))
    assert (one.kind, one.alike) == ("same", 1.0)
    assert one.before is not None
    assert one.after is not None
    assert (one.before.number, one.after.number) == ("1.", "5)")


def test_words_of_a_change() -> None:
    assert changed_words("Pay within 30 days.", "Pay at once, within 60 days.") == [
        ("same", "Pay "),
        ("added", "at once, "),
        ("same", "within "),
        ("removed", "30"),
        ("added", "60"),
        ("same", " days."),
    ]
    assert changed_words("", "") == []
    assert changed_words("gone", "") == [("removed", "gone")]


def test_clauses_that_say_nearly_the_same_are_found() -> None:
    again = "9. The customer pays each invoice within 30 days of its receipt date."
    read = document(PAY, TERM, LAW, again, "10. Yes", "11. Yes")
    [(one, other, alike)] = near_duplicates(read)
    assert [read.text[each.start : each.end] for each in (one, other)] == [PAY, again]
    assert 0.8 <= alike < 1


def test_a_plain_text_has_a_block_each_line() -> None:
    read = of_text("1. Scope\r\n  It covers all.  \n\n2. Price\n")
    assert [read.text[one.start : one.end] for one in clauses(read)] == [
        "1. Scope\r\n  It covers all.",
        "2. Price",
    ]


def test_empty_documents() -> None:
    assert compare(document(), document()) == []
    assert told(document(), document(PAY)) == [("added", None, PAY)]
    assert told(document(PAY), document()) == [("removed", PAY, None)]
    assert near_duplicates(document()) == []


def test_too_many_clauses_are_refused() -> None:
    with pytest.raises(TooManyClauses):
        clauses(document(*(f"{number % 900}) a clause" for number in range(MAX_CLAUSES + 1))))


def test_what_is_kept_and_changed_adds_up_to_both_texts() -> None:
    drawn = random.Random(21)
    for _ in range(50):
        before = " ".join(drawn.choices("abcdefg", k=drawn.randrange(40)))
        after = " ".join(drawn.choices("abcdefg", k=drawn.randrange(40)))
        runs = changed_words(before, after)
        assert "".join(words for what, words in runs if what != "added") == before
        assert "".join(words for what, words in runs if what != "removed") == after


@pytest.mark.timeout(60)  # A comparison that is cubic in repeated words takes hours.
def test_repetition_is_compared_to_the_end() -> None:
    drawn = random.Random(21)
    changed_words(" ".join(drawn.choices("ab", k=700)), " ".join(drawn.choices("ab", k=700)))
    changed_words("a " * 200_000, "b " * 200_000)
    many = [" ".join(drawn.choices("abc", k=60)) for _ in range(400)]
    found = compare(document(*many), document(*(" ".join(drawn.choices("abd", k=60)) for _ in many)))
    assert len(found) >= len(many)
