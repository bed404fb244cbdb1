"""Conditions that a form can say: there and back, and nothing else taken for one."""

from __future__ import annotations

from typing import Any

import pytest

from ml.auditing import CATEGORIES
from tenants.moderation.expressions.compiler import compile_expression
from tenants.moderation.rules.conditions import (
    SIGNS,
    Condition,
    keep_or_write,
    read_condition,
    write_condition,
)

ONE, TWO = "0192f0c0-0000-7000-8000-000000000001", "0192f0c0-0000-7000-8000-000000000002"

BASES = [
    *(Condition(name) for name in CATEGORIES),
    *(Condition("abuse", least) for least in (0.0, 0.1, 0.12345, 0.8, 1.0)),
    *(Condition(name) for name in SIGNS),
    Condition("strikes", 1.0),
    Condition("strikes", 3.0),
]

LIMITS: list[dict[str, Any]] = [
    {},
    {"modalities": ("image",)},
    {"modalities": ("text", "video")},
    {"datasets": (ONE,)},
    {"datasets": (ONE, TWO), "modalities": ("text", "image", "audio", "video")},
]


@pytest.mark.parametrize("base", BASES, ids=lambda one: f"{one.subject}-{one.least}")
@pytest.mark.parametrize("limits", LIMITS, ids=range(len(LIMITS)))
def test_what_is_written_is_read_again(base: Condition, limits: dict[str, Any]) -> None:
    condition = Condition(base.subject, base.least, **limits)
    text = write_condition(condition)
    compile_expression(text)
    assert read_condition(text) == condition


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ('categories["abuse"].score>=0.80', Condition("abuse", 0.8)),
        ("categories.abuse.score >= 1", Condition("abuse", 1.0)),
        ("(categories.spam.flagged) // loud\n", Condition("spam")),
        ("item.modality in ['video', 'text']", Condition("everything", None, ("text", "video"))),
        (
            f"item.dataset in ['{TWO}', '{ONE}'] && categories.spam.flagged",
            Condition("spam", None, (), (ONE, TWO)),
        ),
        (f"true && item.dataset == '{ONE}'", Condition("everything", None, (), (ONE,))),
    ],
)
def test_another_notation_of_the_same_is_read_and_stays(text: str, condition: Condition) -> None:
    assert read_condition(text) == condition
    assert keep_or_write(text, condition) == text
    assert keep_or_write(text, Condition("hate")) == "categories.hate.flagged"


@pytest.mark.parametrize(
    "text",
    [
        "categories.abuse.score > 0.8",
        "categories.abuse.score >= 0.00001",
        "0.8 <= categories.abuse.score",
        "!categories.abuse.flagged",
        "categories.abuse.flagged || categories.hate.flagged",
        "categories.abuse.flagged && categories.hate.flagged",
        "categories.abuse.severity == 'high'",
        "strikes >= 0",
        "strikes > 2",
        "item.modality != 'text'",
        "item.modality == 'text' && item.modality == 'text'",
        "item.modality in []",
        "item.modality in ['text', 'text']",
        "item.dataset == 'shop'",
        f"item.dataset == '{ONE.upper()}'",
        "item.metadata.kind == 'text'",
        "false",
        "matches.exists(m, m.stance == 'bad')",
        "categories.abuse.flagged ? true : false",
        "nonsense(",
        "",
        "\x00",
    ],
)
def test_what_says_more_or_other_is_none(text: str) -> None:
    assert read_condition(text) is None
