"""Expressions of rules: what is read is what runs, and nothing costs more than was said."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import Any

import cel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenants.moderation.expressions import regex_cost, satisfiability
from tenants.moderation.expressions.compiler import compile_expression
from tenants.moderation.expressions.syntax import (
    MAX_DEPTH,
    MAX_LENGTH,
    Binary,
    Chain,
    Choice,
    ExpressionError,
    Items,
    Literal,
    Loop,
    Name,
    Negate,
    Node,
    Not,
    parse,
    unparse,
)
from tenants.moderation.expressions.type_checker import MAX_STEPS
from tenants.moderation.expressions.variables import VARIABLES, EvidenceView
from tests.conftest import ROOT
from tests.speed import LINEAR, TIMES, growth, ratio

GOOD = (
    "categories.abuse.score > 0.5",
    'item["modality"] == "image" && item.bytes >= 10',
    "matches.exists(m, m.stance == 'bad' && m.distance <= m.limit)",
    "has(item.metadata.price) && item.metadata.price > 100",
    "!(authenticity.verdict in ['no_evidence', 'not_examined'])",
    "detectors.filter(d, d.state == 'failed').size() > 1 || size(could_not_look) > 0",
    "words.exists(w, w.text.matches('(?i)free money'))",
    "strikes > 2 ? categories.abuse.score > 0.3 : categories.abuse.score > 0.8",
    "double(item.metadata.price) * 1.5 > 30.0 // with a comment",
    "matches.map(m, m.name).exists(n, n.startsWith('spam'))",
    "detectors[0].name == 'c2pa'",
)


@pytest.mark.parametrize("text", GOOD)
def test_what_is_printed_means_what_was_read(text: str) -> None:
    tree = parse(text)
    assert parse(unparse(tree)) == tree
    whole, _ = EvidenceView([(name,) for name in VARIABLES]).of({"item": {"metadata": {"price": 120}}})
    context = cel.Context(whole)
    assert outcome(text, context) == outcome(unparse(tree), context)


def outcome(text: str, context: Any) -> Any:
    try:
        return cel.compile(text).execute(context)
    except Exception as error:
        return type(error)


WRONG = {
    "": 0,
    "categories.abuse.score >": 24,
    "nobody > 1": 0,
    "categories.fun.score > 1": 11,
    "item.bytes + 1.5 > 2.0": 11,
    "item.metadata.price + 1 > 2": 0,
    "item.subject + item.subject == 'aa'": 0,
    "item == item": 5,
    "item.bytes == 'x'": 11,
    "strikes": 0,
    "'text'": 0,
    "strikes > 'x'": 8,
    "words.all(w, words.all(x, words.all(y, true)))": 0,
    "words.exists(item, true)": 0,
    "item.subject.matches(item.media_type)": 0,
    "item.subject.matches('(')": 0,
    "item.subject.matches('\\\\w{100}')": 0,
    "item.subject.lower() == 'x'": 13,
    "getattr(item, 'x')": 0,
    "{'a': 1}.a == 1": 0,
    "1u == 1u": 0,
    "b'a' == b'a'": 0,
    ".item.bytes > 1": 0,
    "9223372036854775808 > 1": 0,
    "1e999 > 1.0": 0,
    "'\\q' == 'q'": 0,
    "'\\ud800' == ''": 0,
    "has(item)": 0,
    "for == 1": 0,
    "words.exists(true, true)": 0,
    "true ? 1 : 2": 0,
    "!strikes": 1,
    "true && strikes": 8,
    "matches.all(a, matches.all(b, detectors.exists(c, true)))": 0,
    "matches.filter(m, matches.filter(n, n.shared).size() > 1).size() > 1": 0,
}


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_be_used_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text)
    assert caught.value.message.endswith(".")
    if WRONG[text]:
        assert caught.value.at == WRONG[text]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 990 + "true" + ")" * 990,
        "!" * 1_990 + "true",
        "-" * 1_990 + "1 == 1",
        "[" * 990 + "]" * 990 + " == 1",
        "1" + "+1" * 990 + " > 1",
        "true" + "&&true" * 330,
        "item" + ".a" * 990 + " == 1",
        "true?" * 330 + "true" + ":true" * 30,
        "x" * (MAX_LENGTH + 1),
        "'" * 1_999,
        "words.exists(w, " * 100 + "true" + ")" * 100,
    ],
    ids=lambda text: text[:12],
)
def test_deep_and_long_ones_are_compiled_or_refused(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        compile_expression(text)


@pytest.mark.parametrize(
    "parts",
    [
        ("(", "true", ")"),
        ("!", "true", ""),
        ("[", "1", "]"),
        ("+1", "1", ""),
        ("&&true", "", ""),
        (".a", "item", ""),
    ],
    ids=lambda parts: parts[0],
)
def test_the_time_to_compile_grows_with_the_length(parts: tuple[str, str, str]) -> None:
    before, middle, after = parts

    def compile_many(size: int) -> None:
        # What has been compiled is remembered, so that each is another text.
        for number in range(20):
            with contextlib.suppress(ExpressionError):
                compile_expression(before * size + middle + after * size + " " * number)

    assert growth(compile_many, 900 // TIMES // max(len(before), len(after))) < LINEAR


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="item.w()[]'\"\\ &|!=<>+-*/%?:,01truexsn\n\x00é", max_size=60) | st.text(max_size=60))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        compile_expression(text)
    except ExpressionError as error:
        assert 0 <= error.at <= len(text)


def trees() -> st.SearchStrategy[Node]:
    leaves = st.one_of(
        st.booleans().map(Literal),
        st.integers(-5, 5).map(Literal),
        st.floats(-5, 5).map(Literal),
        st.text(max_size=4).map(Literal),
        st.just(Literal(None)),
        st.just(Name("x")),
        st.just(Name("l")),
    )
    operators = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%"])
    loops = st.sampled_from(["all", "exists", "exists_one", "map", "filter"])

    def grown(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        pairs = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.one_of(
            st.builds(Not, inner),
            st.builds(Negate, inner),
            st.builds(Chain, st.sampled_from(["&&", "||"]), pairs),
            st.builds(Binary, operators, inner, inner),
            st.builds(Choice, inner, inner, inner),
            st.builds(Items, st.lists(inner, max_size=3).map(tuple)),
            st.builds(Loop, loops, inner, st.just("y"), inner),
        )

    return st.recursive(leaves, grown, max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(trees())
def test_the_engine_reads_what_is_printed_as_we_do(tree: Node) -> None:
    text = unparse(tree)
    assert unparse(parse(text)) == text
    # What we read is what the engine takes, and prints no differently when read twice.
    context = cel.Context({"x": 1.5, "l": [1, 2]})
    assert same(outcome(text, context), outcome(unparse(parse(text)), context))


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)


def test_strings_reach_the_engine_unchanged() -> None:
    for value in ("\x00", "\n\r\t", '"', "\\", "é😀", "\u2028\ufeff", "\\n", "'", "{}", "\x7f"):
        assert cel.compile(unparse(Literal(value))).execute({}) == value


# --- Cost -------------------------------------------------------------------------------------------------


def fullest() -> Any:
    """Every variable at its greatest size."""
    words = [{"text": "ab " * 99 + "cde", "origin": "text", "at_s": 1.0}] * 60
    match = {
        "list": "x" * 36,
        "name": "n" * 100,
        "stance": "bad",
        "algorithm": "pdq",
        "distance": 1.0,
        "limit": 2.0,
    }
    detector = {"name": "d" * 60, "version": "1", "tier": "rules", "state": "examined", "score": 0.5}
    given = {
        "item": {"subject": "s" * 500, "metadata": {"k": "v" * 500, "list": ["e" * 500] * 50}},
        "words": words,
        "matches": [match] * 60,
        "detectors": [detector] * 60,
        "could_not_look": ["c" * 500] * 60,
    }
    values, cut = EvidenceView([(name,) for name in VARIABLES]).of(given)
    assert cut == {"words", "matches", "detectors", "could_not_look"}
    return cel.Context(values)


DEAR = (
    "matches.all(m, matches.all(n, m.distance >= n.distance))",
    "detectors.all(d, matches.all(n, d.state == 'examined' && n.stance == 'bad'))",
    "matches.filter(m, m.distance >= 0.0).size() > 1000",
    "detectors.filter(m, m.state == 'examined').filter(m, m.state == 'examined').size() > 1000",
    "words.exists(w, w.text.matches('(?i)free money'))",
    "words.exists(w, w.text.matches('(a|b| )*z'))",
    "item.subject.matches('(s?){20}s{20}x')",
    "item.subject.matches('\\\\w{5}x')",
    "item.subject.matches('.{100}x')",
    "item.metadata.list.all(a, item.metadata.list.all(b, a == b))",
    "matches.map(m, m.name).all(a, a != 'b')",
)


@pytest.mark.parametrize("text", DEAR)
def test_nothing_takes_longer_than_its_steps(text: str) -> None:
    """A step of any is hardly dearer than one of the first, which was a microsecond or less on every processor."""
    found, unit, context = compile_expression(text), compile_expression(DEAR[0]), fullest()
    assert found.inspection.steps <= MAX_STEPS
    assert found.holds(context) is not None
    spent = ratio(
        lambda: [found.holds(context) for _ in range(20)], lambda: [unit.holds(context) for _ in range(20)]
    )
    assert spent <= 3 * found.inspection.steps / unit.inspection.steps


@pytest.mark.parametrize(
    "pattern",
    [
        "z",
        "(a|b| )*z",
        r"\w+@\w+",
        r"\d{6}",
        ".{100}z",
        "(?i)straße",
        "[日本語]+",
        r"\pL{4}",
        "é{40}",
        "[^a]{30}",
    ],
)
def test_patterns_compile_within_their_weight(pattern: str) -> None:
    """A unit of weight of any is hardly dearer than one of this pattern."""
    unit, program = r"\w+@\w+", cel.compile("''.matches(p)")
    context, beside = cel.Context({"p": pattern}), cel.Context({"p": unit})
    spent = ratio(
        lambda: [program.execute(context) for _ in range(30)],
        lambda: [program.execute(beside) for _ in range(30)],
    )
    assert spent <= 3 * regex_cost.regex_cost(pattern) / regex_cost.regex_cost(unit)


@pytest.mark.parametrize(
    "pattern",
    [r"\w{100}", "((a{30}){30}){30}", "a{9999}", ".{400}", r"(\w+ ){10}", "(a", "a)", "[a", "a" * 201, "(?x) a",
     "(?-u)a", "(" * 30 + ")" * 30, "*", "a**b{", "[[[", "\\", r"\p{", r"\p{Nobody}"],
)  # fmt: skip
def test_patterns_too_large_or_broken_are_refused(pattern: str) -> None:
    with pytest.raises(ExpressionError):
        regex_cost.regex_cost(pattern)


def test_a_pattern_that_ruins_backtracking_does_not_here() -> None:
    """By backtracking it would not end in anybody's time."""
    found = compile_expression("item.subject.matches('(s+)+x')")
    assert found.holds(fullest()) is False


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab.*+?{}()[]|\\wdpLi^$1,9:&-", max_size=30))
def test_any_pattern_is_weighed_or_refused(pattern: str) -> None:
    try:
        weight = regex_cost.regex_cost(pattern)
    except ExpressionError:
        return
    assert 0 < weight <= regex_cost.MAX_WEIGHT


# --- What can never be true -------------------------------------------------------------------------------

NEVER = (
    "false",
    "1 > 2",
    "categories.abuse.score > 1.2",
    "categories.abuse.score < 0.0",
    "strikes > 3 && strikes < 4 && strikes < 3",
    "strikes >= 3 && 3 > strikes",
    "item.modality == 'text' && item.modality == 'image'",
    "item.modality == 'pdf'",
    "item.modality != 'text' && item.modality in ['text']",
    "!(item.modality in ['text', 'image', 'audio', 'video'])",
    "categories.abuse.flagged && !categories.abuse.flagged",
    "(strikes > 5 || strikes > 7) && strikes < 2",
    "matches.exists(m, m.distance > 5.0 && m.distance < 2.0)",
    "!(strikes >= 0)",
    "categories.hate.score == null && categories.hate.score > 0.1",
)
MAYBE = (
    "categories.abuse.score >= 1.0",
    "strikes == 0",
    "strikes > 3 || strikes < 3",
    "item.modality != 'text' && item.modality != 'image'",
    "categories.hate.score == null",
    "categories.abuse.flagged || !categories.abuse.flagged",
    "matches.exists(m, true)",
    "item.metadata.a == 1 && item.metadata.b == 2",
    "strikes >= 3 && strikes <= 3",
)


@pytest.mark.parametrize("text", NEVER)
def test_contradictions_are_found(text: str) -> None:
    assert satisfiability.never(compile_expression(text).tree)


@pytest.mark.parametrize("text", MAYBE)
def test_what_can_be_true_is_not_called_a_contradiction(text: str) -> None:
    assert not satisfiability.never(compile_expression(text).tree)


@settings(max_examples=400, deadline=None)
@given(st.data())
@pytest.mark.slow
def test_nothing_that_can_happen_is_called_impossible(data: Any) -> None:
    atoms = st.sampled_from(
        ["strikes > 1", "strikes <= 1", "strikes == 2", "strikes != 2", "item.modality == 'text'", "strikes in [0, 3]",
         "item.modality in ['image', 'video']", "categories.abuse.flagged", "categories.abuse.score > 0.5",
         "categories.abuse.score <= 0.25", "0.5 >= categories.abuse.score"]
    )  # fmt: skip
    inner = st.recursive(
        atoms,
        lambda part: st.one_of(
            part.map("!({})".format),
            st.tuples(part, st.sampled_from(["&&", "||"]), part).map("({0[0]}) {0[1]} ({0[2]})".format),
        ),
        max_leaves=8,
    )
    text = data.draw(inner)
    found = compile_expression(text)
    given = {
        "strikes": data.draw(st.integers(0, 4)),
        "item": {"modality": data.draw(st.sampled_from(["text", "image", "audio", "video"]))},
        "categories": {
            "abuse": {"state": "examined", "score": data.draw(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))}
        },
    }
    values, _ = EvidenceView(found.inspection.paths).of(given)
    values.get("categories", {}).get("abuse", {}).update({"flagged": data.draw(st.booleans())})
    holds = found.holds(cel.Context(values))
    assert not (holds is True and satisfiability.never(found.tree))
    assert not (holds is False and satisfiability.always(found.tree))


def test_reading_needs_no_framework() -> None:
    """The decision is pure: it runs without Django, and the web process does not load torch for it."""
    code = (
        "import sys, tenants.moderation.rules.decision, tenants.moderation.rules.static_checks;"
        "print([m for m in ('django', 'torch', 'cv2', 'onnxruntime') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_depth_is_counted_alike() -> None:
    deep = "(" * (MAX_DEPTH - 2) + "true" + ")" * (MAX_DEPTH - 2)
    assert compile_expression(deep).holds(cel.Context({})) is True


def test_the_documentation_names_every_variable() -> None:
    page = (ROOT / "docs/auditing/policies.md").read_text(encoding="utf-8")
    missing = [
        path for name, kind in VARIABLES.items() for path in told(name, kind) if f"`{path}`" not in page
    ]
    assert missing == []


def told(path: str, kind: Any) -> list[str]:
    """The paths of a variable, as the table writes them."""
    if path == "categories":
        return told("categories.NAME", next(iter(kind.fields.values())))
    if kind.kind == "list" and kind.items.fields:
        return [
            path,
            *(one for name, inner in kind.items.fields.items() for one in told(f"{path}[].{name}", inner)),
        ]
    return [one for name, inner in kind.fields.items() for one in told(f"{path}.{name}", inner)] or [path]
