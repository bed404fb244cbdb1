"""Rules over facts: against a naive evaluator, within bounds, with proofs that a checker of its own replays."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import json
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.reasoning import (
    AT_LEAST,
    BELOW,
    DOES_NOT_HOLD,
    HOLDS,
    NOT_EXAMINED,
    Conclusions,
    Fact,
    FactBase,
    FactsError,
    Limits,
    Pattern,
    Program,
    RulesError,
    TooMuch,
    apply_changes,
    checker,
    evaluate,
    find_counterfactuals,
    prove,
    read_rules,
)
from ml.reasoning.engine import DEFAULT_LIMITS
from ml.reasoning.language import Comparison, Count, Match, Rule, Variable

ROOT = Path(__file__).resolve().parents[2]

MINORS = 'minor_and_alcohol(A) :- face(A, F), age_below(F, 18) @ 0.8, contains(A, "alcohol") @ 0.6.\n'

PARTY = FactBase(
    (
        Fact("face", ("a", "f1"), 0.93, "faces@1"),
        Fact("face", ("a", "f2"), 0.97, "faces@1"),
        Fact("age_below", ("f1", 18), 0.5, "ages@1"),
        Fact("age_below", ("f2", 18), 0.85, "ages@1"),
        Fact("contains", ("a", "alcohol"), 0.7, "classifier@2"),
    ),
    (Pattern("face", (None, None)), Pattern("age_below", (None, 18)), Pattern("contains", (None, "alcohol"))),
)


def concluded(text: str, base: FactBase, limits: Limits = DEFAULT_LIMITS) -> Conclusions:
    """With its proof replayed by the checker, as JSON."""
    conclusions = evaluate(read_rules(text), base, limits)
    proof = json.loads(json.dumps(prove(conclusions)))
    checker.check_proof(proof, text, facts=proof["digest"])
    return conclusions


def sure_of(conclusions: Conclusions, predicate: str) -> dict[tuple[object, ...], float]:
    found = conclusions.derivations.items()
    return {arguments: one.confidence for (name, arguments), one in found if name == predicate}


def told(*facts: str, sure: float = 1.0) -> tuple[Fact, ...]:
    """`"edge a b"` as facts."""
    return tuple(Fact(fact.split()[0], tuple(fact.split()[1:]), sure) for fact in facts)


def closed(**arities: int) -> tuple[Pattern, ...]:
    return tuple(Pattern(name, (None,) * arity) for name, arity in arities.items())


# --- What follows ----------------------------------------------------------------------------------------


def test_a_conclusion_is_as_sure_as_the_least_sure_fact_of_its_surest_proof() -> None:
    conclusions = concluded(MINORS, PARTY)

    assert sure_of(conclusions, "minor_and_alcohol") == {("a",): 0.7}
    assert conclusions.answer("minor_and_alcohol").state == HOLDS
    surer = FactBase((*PARTY.given[:4], Fact("contains", ("a", "alcohol"), 0.99)), PARTY.examined)
    assert sure_of(concluded(MINORS, surer), "minor_and_alcohol") == {("a",): 0.85}


def test_a_threshold_counts_from_its_value_on() -> None:
    base = FactBase((*PARTY.given[:3], Fact("age_below", ("f2", 18), 0.8), PARTY.given[4]), PARTY.examined)
    below = FactBase((*PARTY.given[:3], Fact("age_below", ("f2", 18), 0.79), PARTY.given[4]), PARTY.examined)

    assert concluded(MINORS, base).answer("minor_and_alcohol").confidence == 0.7
    assert concluded(MINORS, below).answer("minor_and_alcohol").confidence is None


def test_recursion_takes_the_surest_way() -> None:
    edges = (
        *told("edge a d", sure=0.3),
        *told("edge a b", "edge b c", "edge c d", "edge d a", sure=0.9),
    )
    conclusions = concluded(
        "path(X, Y) :- edge(X, Y). path(X, Y) :- path(X, Z), path(Z, Y).", FactBase(edges, closed(edge=2))
    )

    found = sure_of(conclusions, "path")
    assert found[("a", "d")] == 0.9
    assert len(found) == 16
    assert set(found.values()) == {0.9}


def test_absence_and_numbers_are_of_what_was_examined() -> None:
    text = """unsigned(A) :- asset(A), !signed(A, _).
    crowd(A) :- asset(A), N = count : { face(A, _) @ 0.5 }, N >= 2.
    calm(A) :- asset(A), !crowd(A).
    """
    facts = (*told("asset a"), *told("face a f1", "face a f2", sure=0.6), *told("face a f3", sure=0.4))
    seen = concluded(text, FactBase(facts, closed(asset=1, face=2, signed=2)))
    blind = concluded(text, FactBase(facts, closed(asset=1)))

    assert sure_of(seen, "crowd") == {("a",): 0.6}
    assert [seen.answer(name).state for name in ("unsigned", "crowd", "calm")] == [
        HOLDS,
        HOLDS,
        DOES_NOT_HOLD,
    ]
    assert [blind.answer(name).state for name in ("unsigned", "crowd", "calm")] == [NOT_EXAMINED] * 3
    assert [blind.answer(name).count for name in ("unsigned", "crowd", "calm")] == [None] * 3


def test_what_was_examined_may_be_one_thing_alone() -> None:
    text = 'no_knife(A) :- asset(A), !contains(A, "knife").\nno_gun(A) :- asset(A), !contains(A, "gun").\n'
    base = FactBase(told("asset a"), (*closed(asset=1), Pattern("contains", (None, "knife"))))
    conclusions = concluded(text, base)

    assert conclusions.answer("no_knife").state == HOLDS
    assert conclusions.answer("no_gun").state == NOT_EXAMINED
    assert conclusions.answer("no_gun").count is None


def test_a_count_groups_by_what_other_parts_bind_and_may_be_none() -> None:
    text = "faces(A, N) :- asset(A), N = count : { face(A, F) }."
    base = FactBase(told("asset a", "asset b", "face a f1", "face a f2"), closed(asset=1, face=2))

    assert sure_of(concluded(text, base), "faces") == {("a", 2): 1.0, ("b", 0): 1.0}


def test_comparisons_order_numbers_alone_and_repeated_variables_are_equal() -> None:
    text = """long(A) :- words(A, N), N > 20.5.
    loop(A) :- edge(A, A).
    other(A, B) :- edge(A, B), A != B.
    big(A) :- words(A, N), N >= 9007199254740992.
    """
    base = FactBase(
        (
            *told("edge a a", "edge a b"),
            Fact("words", ("a", 21)),
            Fact("words", ("b", "many")),
            Fact("words", ("c", 2.0**53)),
        ),
        closed(edge=2, words=2),
    )
    conclusions = concluded(text, base)

    assert set(sure_of(conclusions, "long")) == {("a",), ("c",)}
    assert set(sure_of(conclusions, "loop")) == {("a",)}
    assert set(sure_of(conclusions, "other")) == {("a", "b")}
    assert set(sure_of(conclusions, "big")) == {("c",)}


def test_facts_in_rules_texts_and_comments() -> None:
    text = """// what counts as one
    drink("Bier 🍺 \\"hell\\""). drink("酒") @ 0.9. % another
    seen(T) :- drink(T), contains(_, T).
    """
    base = FactBase((Fact("contains", ("a", "酒"), 0.95), Fact("contains", ("a", 'Bier 🍺 "hell"'), 0.5)))

    assert sure_of(concluded(text, base), "seen") == {("酒",): 0.9, ('Bier 🍺 "hell"',): 0.5}


def test_the_order_of_facts_changes_nothing() -> None:
    text = MINORS + "pair(F, G) :- face(A, F), face(A, G), F != G."
    proofs = set()
    for seed in range(5):
        facts = list(PARTY.given)
        random.Random(seed).shuffle(facts)
        proofs.add(
            json.dumps(prove(evaluate(read_rules(text), FactBase(tuple(facts), PARTY.examined[::-1]))))
        )

    assert len(proofs) == 1


# --- Against a naive evaluator ---------------------------------------------------------------------------

DOMAIN = ("a", "b", "c")


def naive(program: Program, base: FactBase) -> dict[tuple[str, tuple[object, ...]], float]:
    """Every rule with every assignment of its variables, again and again, stratum by stratum."""
    sure: dict[tuple[str, tuple[object, ...]], float] = {}
    for fact in base.given:
        key = (fact.predicate, fact.arguments)
        sure[key] = max(fact.confidence, sure.get(key, 0.0))
    for stratum in program.strata:
        growing = True
        while growing:
            growing = False
            for number in stratum:
                for key, confidence in list(_instances(program.rules[number - 1], sure)):
                    if confidence > sure.get(key, -1.0):
                        sure[key] = confidence
                        growing = True
    return sure


def _instances(rule: Rule, sure: dict) -> itertools.chain:
    own = {v for part in rule.body if isinstance(part, Count) for v in part.atom.variables}
    outside = {v for part in rule.body if isinstance(part, Match) for v in part.atom.variables}
    names = sorted(outside | rule.head.variables)
    counted = [part.variable for part in rule.body if isinstance(part, Count)]
    names = [name for name in names if name not in counted and (name in outside or name not in own)]
    for chosen in itertools.product(DOMAIN, repeat=len(names)):
        values: dict[str, object] = dict(zip(names, chosen, strict=True))
        confidence = 1.0
        for part in rule.body:
            if isinstance(part, Count):
                found = _found(part.atom, part.least, values, sure)
                values[part.variable] = len(found)
                confidence = min([confidence, *found])
        for part in rule.body:
            if isinstance(part, Match):
                found = _found(part.atom, part.least, values, sure)
                if bool(found) == part.negated:
                    break
                if not part.negated:
                    confidence = min(confidence, max(found))
            elif isinstance(part, Comparison):
                left, right = (
                    values[s.name] if isinstance(s, Variable) else s for s in (part.left, part.right)
                )
                if not {"<": left < right, ">=": left >= right, "!=": left != right}[part.operator]:  # type: ignore[operator]
                    break
        else:
            arguments = tuple(values[t.name] if isinstance(t, Variable) else t for t in rule.head.terms)
            yield (rule.head.predicate, arguments), confidence


def _found(atom, least, values, sure) -> list[float]:  # type: ignore[no-untyped-def]
    form = [values.get(t.name) if isinstance(t, Variable) else t for t in atom.terms]
    same = [
        (i, j)
        for i, one in enumerate(atom.terms)
        for j, other in enumerate(atom.terms)
        if one == other is not None
    ]
    return [
        confidence
        for (name, arguments), confidence in sure.items()
        if name == atom.predicate
        and confidence >= least
        and all(given in (None, value) for given, value in zip(form, arguments, strict=True))
        and all(arguments[i] == arguments[j] for i, j in same)
    ]


NAMES = st.sampled_from(["X", "Y", "Z", '"a"', '"b"'])
LEAST = st.sampled_from(["", "", " @ 0.5", " @ 0.8"])


@st.composite
def programs(draw: st.DrawFn) -> str:
    """Three levels: `r` rests on what is told and on itself, `s` may deny and count that, `t` may do so with both."""
    lines = []
    for head, told_names, asked in (
        ("r", ["e", "n", "r"], ["e", "n"]),
        ("s", ["e", "r", "s"], ["r", "n"]),
        ("t", ["s", "n"], ["r", "s"]),
    ):
        for _ in range(draw(st.integers(1, 3))):
            parts, bound = [], set()
            for _ in range(draw(st.integers(1, 3))):
                name = draw(st.sampled_from(told_names))
                terms = [draw(NAMES) for _ in range(1 if name == "n" else 2)]
                bound |= {term for term in terms if term.isalpha()}
                parts.append(f"{name}({', '.join(terms)}){draw(LEAST)}")
            if draw(st.booleans()):
                name = draw(st.sampled_from(asked))
                known = st.sampled_from([*sorted(bound), '"c"', "_"])
                terms = [draw(known) for _ in range(1 if name == "n" else 2)]
                parts.append(f"!{name}({', '.join(terms)}){draw(LEAST)}")
            if draw(st.booleans()):
                name = draw(st.sampled_from(asked))
                terms = [draw(st.sampled_from(["X", "W", "_"])) for _ in range(1 if name == "n" else 2)]
                parts.append(
                    f"N = count : {{ {name}({', '.join(terms)}){draw(LEAST)} }}, "
                    f"N {draw(st.sampled_from(['<', '>=', '!=']))} {draw(st.integers(0, 3))}"
                )
            if len(bound) > 1 and draw(st.booleans()):
                parts.append(" != ".join(sorted(bound)[:2]))
            ends = st.sampled_from([*sorted(bound), '"a"'])
            lines.append(f"{head}({draw(ends)}, {draw(ends)}) :- {', '.join(draw(st.permutations(parts)))}.")
    return "\n".join(lines)


FACTS = st.lists(
    st.one_of(
        st.builds(
            lambda a, b, c: Fact("e", (a, b), c, "d"),
            *[st.sampled_from(DOMAIN)] * 2,
            st.sampled_from([0.3, 0.5, 0.7, 0.9]),
        ),
        st.builds(
            lambda a, c: Fact("n", (a,), c, "d"),
            st.sampled_from(DOMAIN),
            st.sampled_from([0.3, 0.5, 0.8, 1.0]),
        ),
    ),
    max_size=8,
)


@given(programs(), FACTS)
@settings(max_examples=80, deadline=None)
def test_the_engine_concludes_what_a_naive_evaluator_does(text: str, facts: list[Fact]) -> None:
    base = FactBase(tuple(facts), closed(e=2, n=1))
    program = read_rules(text)
    # A count's variables may be bound nowhere else.
    expected = {key: sure for key, sure in naive(program, base).items() if key[0] in program.derived}

    conclusions = concluded(text, base)

    assert {key: one.confidence for key, one in conclusions.derivations.items()} == expected


@given(programs(), FACTS, st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_counterfactuals_change_the_outcome_and_nothing_smaller_does(
    text: str, facts: list[Fact], draw: random.Random
) -> None:
    base, program = FactBase(tuple(facts), closed(e=2, n=1)), read_rules(text)

    def outcome(conclusions: Conclusions) -> str:
        return conclusions.answer("t").state

    now = outcome(evaluate(program, base))
    search = find_counterfactuals(program, base, outcome, goals=["t"], most_changes=2, evaluations=60)
    for one in search.found:
        assert outcome(evaluate(*apply_changes(program, base, one.changes))) == one.outcome != now
        # None of several changes is there for nothing.
        for left_out in range(len(one.changes) if len(one.changes) > 1 else 0):
            fewer = one.changes[:left_out] + one.changes[left_out + 1 :]
            assert outcome(evaluate(*apply_changes(program, base, fewer))) == now


def test_the_nearest_counterfactual_is_told_first() -> None:
    search = find_counterfactuals(
        read_rules(MINORS),
        PARTY,
        lambda found: found.answer("minor_and_alcohol").state,
        goals=["minor_and_alcohol"],
    )

    assert search.complete
    told_first = search.found[0].changes
    assert [(change.kind, change.arguments, change.value) for change in told_first] == [
        (BELOW, ("f2", 18), 0.8)
    ]
    faint = FactBase((*PARTY.given[:4], Fact("contains", ("a", "alcohol"), 0.55)), PARTY.examined)
    search = find_counterfactuals(
        read_rules(MINORS), faint, lambda found: found.answer("minor_and_alcohol").state
    )
    assert [(c.kind, c.arguments, c.value) for c in search.found[0].changes] == [
        (AT_LEAST, ("a", "alcohol"), 0.6)
    ]


# --- Rules that are refused, and limits ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "p(X) :- q(Y).",
            "Line 1, column 1: X is not bound: let it stand in a fact of the body that is not negated.",
        ),
        (
            "p(X) :- !q(X).",
            "Line 1, column 1: X is not bound: let it stand in a fact of the body that is not negated.",
        ),
        (
            "p(X) :- q(X), Y < 3.",
            "Line 1, column 1: Y is not bound: let it stand in a fact of the body that is not negated.",
        ),
        (
            "p(_) :- q(_).",
            "Line 1, column 1: `_` cannot stand before :-; give what is derived a constant or a variable of the body.",
        ),
        (
            "p(X) :- q(X).\np(X) :- q(X), !p(X).",
            "Line 2, column 1: p depends on its own absence or number; take p out of the circle.",
        ),
        (
            "p(X) :- q(X), N = count : { r(X) }, N > 1.\nr(X) :- p(X).",
            "Line 1, column 1: p depends on its own absence or number; take r out of the circle.",
        ),
        (
            "p(X) :- q(X), count : { r(X) } > 1.",
            "Line 1, column 15: A count is given a name first: N = count : { face(A, _) }, N >= 3.",
        ),
        (
            "p(X) :- q(X, alcohol).",
            'Line 1, column 14: Write "alcohol" in double quotes if it is a text; variables begin with an upper-case letter.',  # noqa: E501
        ),
        ('p("a', "Line 1, column 3: This text has no end; close it with a double quote on the same line."),
        (
            "p(X) :- q(X) @ 1.5.",
            "Line 1, column 16: After @ stands the least confidence, a number from 0 to 1.",
        ),
        (
            "p(X) :- q(X)",
            "Line 1, column 13: After a part of a rule comes a comma, or a full stop at its end.",
        ),
        (
            "p(X) :- q(X), not r(X).",
            "Line 1, column 15: Absence is written with an exclamation mark: !signed(A).",
        ),
        ("p(X) :- q(X), q(X, 1).", "Line 1, column 1: q has 1 arguments, and here 2."),
        ('p("a\\u0000").', "Line 1, column 3: A text cannot hold the character NUL; leave it out."),
        (
            'p("\\ud800").',
            'Line 1, column 3: In a text, write \\" for a quote, \\\\ for a backslash and \\n for a line feed.',
        ),
        (
            "p(1e400).",
            "Line 1, column 3: Numbers lie between -9,007,199,254,740,992 and 9,007,199,254,740,992.",
        ),
        (
            "p(" + "9" * 5_000 + ").",
            "Line 1, column 3: Numbers lie between -9,007,199,254,740,992 and 9,007,199,254,740,992.",
        ),
        (
            "p(" * 30_000,
            'Line 1, column 3: Write "p" in double quotes if it is a text; variables begin with an upper-case letter.',
        ),
        (
            "p(X)\n  :- q(X), ٣ < X.",
            "Line 2, column 12: '٣' means nothing here; texts stand in double quotes, names are of a-z, A-Z, 0-9, _.",
        ),
        (
            "р(X) :- q(X).",
            "Line 1, column 1: 'р' means nothing here; texts stand in double quotes, names are of a-z, A-Z, 0-9, _.",
        ),
        (
            "p(X) :- " + ", ".join(["q(X)"] * 17) + ".",
            "Line 1, column 105: A rule has at most 16 parts; derive something in between.",
        ),
        ("p(1, 2, 3, 4, 5, 6, 7, 8, 9).", "Line 1, column 27: A fact has at most 8 arguments."),
        (
            "\n".join(f"p{n}(1)." for n in range(10_000)),
            "Line 501, column 1: At most 500 rules; join or drop some.",
        ),
        ("%" * 100_001, "Line 1, column 1: Rules have at most 100,000 characters; shorten them."),
    ],
)
def test_rules_that_are_refused_are_told_where_and_what_to_do(text: str, told: str) -> None:
    with pytest.raises(RulesError) as raised:
        read_rules(text)
    assert str(raised.value.errors[0]) == told


def test_names_that_nothing_tells_are_refused_with_what_is_near() -> None:
    known = (("contains", 2), ("face", 2))
    with pytest.raises(RulesError) as raised:
        read_rules('p(A) :- contians(A, "x").\nface(A, "f") :- contains(A, _).', known)
    assert [str(error) for error in raised.value.errors] == [
        "Line 1, column 1: Nothing tells or derives contians. Do you mean contains?",
        "Line 2, column 1: face is told by what examines items, so no rule derives it; rename it.",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        # Thirty times thirty times thirty times … ways to fill a rule.
        (
            "p(A) :- e(A), e(B), e(C), e(D), e(E), e(F), e(G), e(H).",
            "More than 200,000 steps; let parts of a rule share variables, or narrow them.",
        ),
        (
            "p(A, B, C, D) :- e(A), e(B), e(C), e(D).",
            "More than 5,000 facts follow; make the rules narrower.",
        ),
        # Three times through what it derives itself.
        (
            "p(A, B) :- e(A), e(B), A != B.\np(A, C) :- p(A, B), p(B, D), p(D, C).",
            "More than 200,000 steps; let parts of a rule share variables, or narrow them.",
        ),
    ],
)
def test_hostile_rules_end_within_their_bounds(text: str, told: str) -> None:
    base = FactBase(tuple(Fact("e", (number,)) for number in range(60)), closed(e=1))
    with pytest.raises(TooMuch) as raised:
        evaluate(read_rules(text), base, Limits(derived=5_000, steps=200_000))
    assert str(raised.value) == told


def test_left_recursion_and_long_chains_of_rules_end() -> None:
    loop = "p(A) :- p(A).\np(A) :- q(A).\nq(A) :- p(A)."
    assert sure_of(concluded(loop, FactBase(told("e a"), closed(e=1))), "p") == {}
    chain = "\n".join([f"p{n}(A) :- p{n + 1}(A)." for n in range(499)] + ["p499(A) :- e(A)."])
    assert sure_of(concluded(chain, FactBase(told("e a"), closed(e=1))), "p0") == {("a",): 1.0}
    with pytest.raises(TooMuch, match=r"^More than 100 rounds of derivations; rules need a shorter way\.$"):
        evaluate(read_rules(chain), FactBase(told("e a"), closed(e=1)), Limits(rounds=100))
    denials = "\n".join([f"p{n}(A) :- e(A), !p{n + 1}(A)." for n in range(499)] + ["p499(A) :- e(A)."])
    assert sure_of(concluded(denials, FactBase(told("e a"), closed(e=1))), "p1") == {("a",): 1.0}


def test_facts_that_are_none_are_refused() -> None:
    program = read_rules("p(A) :- e(A).")
    for fact, detail in (
        (Fact("e", ("a",), 1.5), "e: the confidence of a fact is a number from 0 to 1, not 1.5."),
        (
            Fact("e", (float("nan"),)),
            "Numbers in facts lie between -9,007,199,254,740,992 and 9,007,199,254,740,992.",
        ),
        (Fact("e", (True,)), "Arguments of facts are texts and numbers, not True."),
        (Fact("p", ("a",)), "p is derived by rules, so it cannot be told as a fact."),
        (Fact("e", ("a", "b")), "e has 1 arguments in the rules, and 2 as a fact."),
    ):
        with pytest.raises(FactsError) as raised:
            evaluate(program, FactBase((fact,)))
        assert str(raised.value) == detail


# --- The checker -----------------------------------------------------------------------------------------


def test_the_checker_shares_no_code_with_the_engine() -> None:
    tree = ast.parse((ROOT / "ml/reasoning/checker.py").read_text())
    names = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert names == {"__future__", "collections", "functools", "hashlib", "json", "math", "typing"}


def test_the_checker_refuses_what_is_no_proof() -> None:
    proof = prove(evaluate(read_rules(MINORS), PARTY))
    for wrong in (
        None,
        [],
        {},
        {**proof, "format": 2},
        {**proof, "facts": None},
        {**proof, "derived": [{}]},
        {**proof, "more": 1},
    ):
        with pytest.raises(checker.Mismatch):
            checker.check_proof(wrong, MINORS)
    with pytest.raises(checker.Mismatch, match=r"^Checking this takes too long; it is not checked\.$"):
        checker.check_proof(proof, MINORS, steps=3)
    assert len(proof["derived"]) == 1


def test_the_checker_refuses_a_circle_of_facts_that_hold_each_other_up() -> None:
    text = "p(A) :- q(A).\nq(A) :- p(A).\np(A) :- e(A).\n"
    proof = prove(evaluate(read_rules(text), FactBase((), closed(e=1))))
    part = {"confidence": 1.0, "least": 0.0}
    proof["derived"] = [
        {
            "fact": ["p", "a"],
            "confidence": 1.0,
            "rule": 1,
            "line": 1,
            "depth": 1,
            "parts": [{"fact": ["q", "a"], **part}],
        },
        {
            "fact": ["q", "a"],
            "confidence": 1.0,
            "rule": 2,
            "line": 2,
            "depth": 2,
            "parts": [{"fact": ["p", "a"], **part}],
        },
    ]
    with pytest.raises(checker.Mismatch) as raised:
        checker.check_proof(proof, text)
    assert str(raised.value) == 'p("a") is not as sure as its least sure part, or stands at another depth.'


def test_whatever_is_tampered_with_is_found() -> None:
    benchmark = _benchmark()
    proofs = [
        json.dumps(prove(evaluate(read_rules(benchmark.RULES), benchmark.facts_of(seed))))
        for seed in range(30)
    ]
    benchmark.TAMPERED = 950

    lines = benchmark.tamper(proofs)

    assert [line.value for line in lines[:2]] == [950, 0]
    assert {line.value for line in lines[3:]} == {"50 of 50"}
    assert len(lines[3:]) == 19


def _benchmark() -> ModuleType:
    path = ROOT / "benchmarks/reasoning.py"
    sys.path.insert(0, str(path.parent))
    try:
        spec = importlib.util.spec_from_file_location("benchmark_reasoning", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module
