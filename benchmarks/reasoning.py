"""Decisions by rules over facts, with proofs, and whether tampering is found (`make bench-reasoning`).

Facts are drawn as audits have them (a picture with faces, words, scores of classifiers); the rules are a policy's.
Each decision is concluded, proven, written as JSON and replayed by the checker, which shares no code with the engine.
Then proofs, facts and rules are changed in every way below, one change at a time, and the checker is asked again.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any

from _report import Line, Report, at_most, sized

from ml.reasoning import Fact, FactBase, Pattern, evaluate, find_counterfactuals, prove, read_rules
from ml.reasoning.checker import Mismatch, check_proof

DECISIONS = sized(10_000, 60)
TAMPERED = sized(20_000, 400)
COUNTERFACTUALS = sized(300, 10)

RULES = """// A policy's rules about pictures.
drink("beer"). drink("wine"). drink("spirits") @ 0.95.
minor(A, F) :- face(A, F) @ 0.7, age_below(F, 18) @ 0.8.
drinking(A) :- contains(A, T) @ 0.6, drink(T).
minor_and_alcohol(A) :- minor(A, _), drinking(A).
crowd(A) :- asset(A), N = count : { face(A, _) @ 0.5 }, N >= 5.
lone_minor(A) :- minor(A, F), N = count : { face(A, _) @ 0.7 }, N = 1.
near(A, F, G) :- beside(A, F, G), F != G.
near(A, F, H) :- near(A, F, G), beside(A, G, H), F != H.
minor_near_weapon(A) :- minor(A, F), near(A, F, G), holds(G, "knife") @ 0.5.
unsigned(A) :- asset(A), !signed(A, _).
unsigned_minor(A) :- minor(A, _), unsigned(A).
long_text(A) :- words(A, N), N > 200.
no_drink(A) :- asset(A), !drinking(A).
"""

EXAMINED = tuple(
    Pattern(name, (None,) * arity)
    for name, arity in {"asset": 1, "face": 2, "age_below": 2, "beside": 3, "signed": 2, "words": 2}.items()
) + tuple(Pattern("contains", (None, name)) for name in ("beer", "wine", "knife"))


def facts_of(seed: int) -> FactBase:
    draw = random.Random(seed)

    def sure() -> float:
        return round(draw.uniform(0.4, 1.0), 2)

    faces = [f"f{number}" for number in range(draw.choice((0, 1, 1, 2, 3, 6)))]
    facts = [Fact("asset", ("a",)), Fact("words", ("a", draw.randrange(400)), 1.0, "ocr")]
    facts += [Fact("face", ("a", face), sure(), "faces@1") for face in faces]
    facts += [Fact("age_below", (face, 18), sure(), "ages@1") for face in faces if draw.random() < 0.5]
    facts += [Fact("beside", ("a", one, two), sure(), "faces@1") for one, two in pairwise(faces)]
    facts += [
        Fact("contains", ("a", name), sure(), "clf@3")
        for name in ("beer", "wine", "knife")
        if draw.random() < 0.5
    ]
    facts += [Fact("holds", (face, "knife"), sure(), "clf@3") for face in faces if draw.random() < 0.2]
    facts += [Fact("signed", ("a", "acme"), 1.0, "c2pa")] * (draw.random() < 0.3)
    return FactBase(tuple(facts), EXAMINED)


# --- Tampering: each changes one thing, or returns False where there is nothing of its kind --------------

Tamper = Callable[[random.Random, dict[str, Any], list[str]], bool]


def _reseal(proof: dict[str, Any]) -> bool:
    """As somebody would who also computes the digest anew."""
    content = json.dumps(
        [proof["facts"], proof["examined"]], sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    proof["digest"] = hashlib.sha256(content.encode()).hexdigest()
    return True


def fact_changed(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    draw.choice(proof["facts"])["fact"][-1] = draw.choice(("other", 7))
    return True


def fact_removed(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    del proof["facts"][draw.randrange(len(proof["facts"]))]
    return _reseal(proof) if draw.random() < 0.5 else True


def fact_added(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    proof["facts"].append({"fact": ["face", "a", "f99"], "confidence": 0.9, "source": "faces@1"})
    return _reseal(proof) if draw.random() < 0.5 else True


def confidence_of_fact(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    fact = draw.choice(proof["facts"])
    fact["confidence"] = draw.choice([x / 100 for x in range(1, 100) if x / 100 != fact["confidence"]])
    return _reseal(proof) if draw.random() < 0.5 else True


def source_of_fact(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    draw.choice(proof["facts"])["source"] += "?"
    return _reseal(proof) if draw.random() < 0.5 else True


def examined_changed(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    del proof["examined"][draw.randrange(len(proof["examined"]))]
    return _reseal(proof) if draw.random() < 0.5 else True


def rule_altered(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    old, new = draw.choice(
        (("0.8", "0.7"), ("0.6", "0.65"), ("18", "16"), ("!signed", "signed"), (">= 5", "> 5"))
    )
    rules[0] = rules[0].replace(old, new, 1)
    return True


def rule_removed(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    lines = rules[0].splitlines(keepends=True)
    del lines[draw.randrange(1, len(lines))]
    rules[0] = "".join(lines)
    return True


def confidence_of_node(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    node = draw.choice(proof["derived"])
    node["confidence"] = draw.choice([x / 100 for x in range(1, 100) if x / 100 != node["confidence"]])
    return True


def node_removed(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    del proof["derived"][draw.randrange(len(proof["derived"]))]
    return True


def node_invented(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    node = copy.deepcopy(draw.choice(proof["derived"]))
    node["fact"][-1] = "other"
    proof["derived"].append(node)
    return True


def nodes_swapped(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    one, two = draw.sample(range(len(proof["derived"])), 2)
    nodes = proof["derived"]
    nodes[one], nodes[two] = nodes[two], nodes[one]
    return True


def derivations_swapped(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    one, two = draw.sample(proof["derived"], 2)
    if one["parts"] == two["parts"] and one["rule"] == two["rule"]:
        return False
    for name in ("rule", "line", "parts"):
        one[name], two[name] = two[name], one[name]
    return True


def rule_of_node(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    node = draw.choice(proof["derived"])
    node["rule"] += draw.choice((-1, 1))
    return True


def _part(draw: random.Random, proof: dict[str, Any], kind: str) -> dict[str, Any] | None:
    parts = [part for node in proof["derived"] for part in node["parts"] if kind in part]
    return draw.choice(parts) if parts else None


def part_changed(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    part = _part(draw, proof, "fact")
    if part is None:
        return False
    if draw.random() < 0.5:
        part["fact"][-1] = "other"
    else:
        part["confidence"] = 0.123
    return True


def threshold_of_part(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    part = _part(draw, proof, "least")
    if part is None:
        return False
    part["least"] += 0.01
    return True


def absence_changed(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    part = _part(draw, proof, "absent")
    if part is None:
        return False
    part["absent"][0] = "seen"
    return True


def count_changed(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    part = _part(draw, proof, "count")
    if part is None:
        return False
    if part["facts"] and draw.random() < 0.5:
        part["facts"].pop()
    else:
        part["count"] += 1
    return True


def open_changed(draw: random.Random, proof: dict[str, Any], rules: list[str]) -> bool:
    proof["open"] = [] if proof["open"] else ["crowd"]
    return True


TAMPERING: tuple[Tamper, ...] = (
    *(fact_changed, fact_removed, fact_added, confidence_of_fact, source_of_fact, examined_changed),
    *(rule_altered, rule_removed, confidence_of_node, node_removed, node_invented, nodes_swapped),
    *(derivations_swapped, rule_of_node, part_changed, threshold_of_part, absence_changed),
    *(count_changed, open_changed),
)


# --- Sections --------------------------------------------------------------------------------------------


def decide() -> tuple[list[str], list[Line]]:
    """The proofs as JSON, and what they cost."""
    program, proofs, mismatches = read_rules(RULES), [], 0
    concluding, checking, lengths, concluded = [], [], [], Counter[str]()
    for seed in range(DECISIONS):
        base = facts_of(seed)
        begun = time.perf_counter()
        conclusions = evaluate(program, base)
        written = json.dumps(prove(conclusions))
        concluding.append(time.perf_counter() - begun)
        concluded.update(name for name in program.derived if conclusions.answer(name).state == "holds")
        proofs.append(written)
        lengths.append(len(written))
        begun = time.perf_counter()
        try:
            proof = json.loads(written)
            check_proof(proof, RULES, facts=proof["digest"])
        except Mismatch as error:
            print(f"decision {seed}: {error}")
            mismatches += 1
        checking.append(time.perf_counter() - begun)
    checking.sort()
    lines = [
        Line("decisions", DECISIONS),
        at_most("mismatches", mismatches, 0, ""),
        Line("concluding and proving one, median", round(median(concluding) * 1e3, 3), "ms"),
        at_most("replaying one from its JSON, median", median(checking) * 1e3, 1.0),
        Line("  99 of 100 within", round(checking[int(len(checking) * 0.99)] * 1e3, 3), "ms"),
        Line("a proof, median", median(lengths), "bytes"),
    ]
    lines += [Line(f"  {name} holds in", count) for name, count in sorted(concluded.items())]
    return proofs, lines


def tamper(proofs: list[str]) -> list[Line]:
    draw = random.Random(7)
    tried: Counter[str] = Counter()
    found: Counter[str] = Counter()
    alone = 0
    while tried.total() < TAMPERED:
        change = TAMPERING[tried.total() % len(TAMPERING)]
        original = json.loads(draw.choice(proofs))
        proof, rules = copy.deepcopy(original), [RULES]
        if not change(draw, proof, rules) or (proof == original and rules[0] == RULES):
            continue
        name = change.__name__.replace("_", " ")
        tried[name] += 1
        try:
            check_proof(proof, rules[0], facts=original["digest"])
        except Mismatch:
            found[name] += 1
        else:
            print(f"not found: {name}")
        try:
            check_proof(proof, rules[0])
        except Mismatch:
            alone += 1
    lines = [Line(f"  {name}", f"{found[name]:,} of {tried[name]:,}", "found") for name in tried]
    return [
        Line("changes tried", tried.total()),
        at_most("of these not found", tried.total() - found.total(), 0, ""),
        Line("found without a digest that was noted elsewhere", alone),
        *lines,
    ]


def reverse() -> list[Line]:
    program, spent, found, complete = read_rules(RULES), [], 0, 0
    for seed in range(COUNTERFACTUALS):
        begun = time.perf_counter()
        search = find_counterfactuals(
            program,
            facts_of(seed),
            lambda c: c.answer("minor_and_alcohol").state,
            goals=["minor_and_alcohol"],
        )
        spent.append(time.perf_counter() - begun)
        found += bool(search.found)
        complete += search.complete
    return [
        Line("counterfactuals searched", COUNTERFACTUALS),
        Line("  found", found),
        Line("  searched to the end", complete),
        Line("  a search, median", round(median(spent) * 1e3, 1), "ms"),
        Line("  the longest", round(max(spent) * 1e3, 1), "ms"),
    ]


def main() -> int:
    report = Report("reasoning")
    figures: dict[str, Any] = {}
    decided = report.run("decisions", decide)
    sections: list[tuple[str, list[Line] | None]] = []
    if decided:
        proofs, lines = decided
        sections.append(("decisions", lines))
        sections.append(("tampering", report.run("tampering", lambda: tamper(proofs))))
    sections.append(("counterfactuals", report.run("counterfactuals", reverse)))
    for name, found in sections:
        if found is None:
            continue
        print(f"\n{name}")
        for line in found:
            print(line.shown())
        report.judge(name, found)
        figures[name] = [
            {"what": line.what.strip(), "value": line.value, "unit": line.unit} for line in found
        ]
    return report.finish(figures)


if __name__ == "__main__":
    sys.exit(main())
