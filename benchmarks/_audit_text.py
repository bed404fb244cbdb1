"""Detectors that read: what they find in held-out texts, what they cannot do, what disguise costs, how fast they go."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _audit_text_pictures import pictures
from _data import DATA, rows_of
from _report import OUT, TOY, Line, at_least, at_most, sized, skip
from numpy.typing import NDArray

from ml.auditing import text_meaning
from ml.auditing.calibration import expected_calibration_error, share_interval
from ml.auditing.text_models import FOLDER, MANIFEST, load_model
from ml.detectors.abuse import Abuse
from ml.detectors.base import Category, Detector, Finding, Item, Words, load_detector
from research.auditing.functional import CHANGES, IDENTITY, cases
from research.auditing.hate_data import NAMED, FrozenCase, attribute_cases, frozen_cases, group_cases

TARGETS = {"en": ("davidson_hate", 0.91), "zh": ("cold_zh", 0.81)}
BOOTSTRAPS = sized(300, 3)
FEW = sized(None, 3)
#: Words of African American English that insult nobody: a proxy, since the tweets do not say who wrote them.
DIALECT = re.compile(
    r"\b(?:finna|gon|ain'?t|dis|dat|dem|da|wit|tryna|imma|bruh|y'?all|yo|homie|aint|gotta)\b", re.IGNORECASE
)
SEED = 0
#: Macro-F1 of hate on the frozen cases that was wanted.
FROZEN_GOALS = {"en": 0.75, "zh": 0.68}

Array = NDArray[Any]


def run(out: Path) -> list[Line]:
    lines = [*_frozen(), *_functions(), *_speed()]
    held_out = _held_out()
    if held_out:
        lines = [*held_out, *lines]
    return [*lines, *_everyday(), *pictures()]


# --- Held-out texts ----------------------------------------------------------------------------------------


def _held_out() -> list[Line]:
    if any(rows_of(name) is None for name, _ in TARGETS.values()):
        return []
    if TOY:
        skip("held-out texts: only a whole run looks for near copies among all of them")
        return []
    try:
        from research.auditing import abuse_data

        sets = {language: abuse_data.load(DATA, language) for language in TARGETS}
    except ImportError as error:
        skip(f"held-out texts: scikit-learn finds near copies ({error})")
        return []
    detector, lines = load_detector("abuse"), []
    for language, texts in sets.items():
        chosen = texts.split(SEED) == "test"
        raw = [text for text, is_in in zip(texts.raw, chosen, strict=True) if is_in]
        lines += _measured(detector, language, raw, texts.labels[chosen])
    return lines


def _measured(detector: Detector, language: str, raw: Sequence[str], labels: Array) -> list[Line]:
    name, target = TARGETS[language]
    found = [_examine(detector, text) for text in raw]
    read = np.array([each.state == "examined" for each in found])
    lines = [Line(f"{name}: test texts, of them not read (abstained)", f"{len(raw)}, {int((~read).sum())}")]
    for at, head in enumerate(load_model(language).heads):
        scores = np.array([_score(each, head.name) for each in found])
        truth, flagged = labels[:, at], np.array([_flagged(each, head.name) for each in found])
        f1, low, high = _spread(truth, flagged)
        goal = head.name == "abuse"
        title = f"{name} {head.name}: macro-F1, detector as it ships [{low:.3f}, {high:.3f}]"
        lines.append(at_least(title, f1, target) if goal else Line(title, round(f1, 4)))
        error = expected_calibration_error(scores[read], truth[read])
        lines.append(at_most(f"{name} {head.name}: calibration error", error, 0.05, unit=""))
        seeds = _manifest()["models"][language]["splits"]
        for key in ("macro-F1", "calibration error"):
            values = np.array(seeds[f"{head.name} {key}"])
            told = f"{values.mean():.3f} ± {values.std():.3f}"
            lines.append(Line(f"{name} {head.name}: {key}, {len(values)} splits when trained", told))
    lines += _by_length(name, raw, labels[:, 0], found)
    if language == "en":
        lines += _dialect(raw, labels[:, 0], found)
    else:
        for topic, figures in _manifest()["models"]["zh"]["topic held out"].items():
            title = f"{name} abuse: macro-F1 on {topic}, by words, trained without it (calibration error)"
            lines.append(
                Line(title, f"{figures['abuse macro-F1']:.3f} ({figures['abuse calibration error']:.3f})")
            )
        models = json.loads((text_meaning.FOLDER / text_meaning.MANIFEST).read_text("utf-8"))["models"]
        for topic, f1 in models["zh"]["topic held out"].items():
            title = f"{name} abuse: macro-F1 on {topic}, by meaning, trained without it"
            lines.append(at_least(title, f1, 0.85))
    return [*lines, *_disguised(detector, language, raw, labels[:, 0])]


def _by_length(name: str, raw: Sequence[str], truth: Array, found: Sequence[Finding]) -> list[Line]:
    lengths = np.array([len(text) for text in raw])
    flagged = np.array([_flagged(each, "abuse") for each in found])
    edges = (0, 20, 40, 80, 140, 10_000)
    lines = []
    for first, last in itertools.pairwise(edges):
        inside = (lengths >= first) & (lengths < last)
        if inside.sum() >= 50:
            title = f"{name} abuse: macro-F1 at {first} to {last - 1} characters ({int(inside.sum())} texts)"
            lines.append(Line(title, round(_f1(truth[inside], flagged[inside]), 3)))
    return lines


def _dialect(raw: Sequence[str], truth: Array, found: Sequence[Finding]) -> list[Line]:
    lines = []
    for title, wanted in (("with words of African American English", True), ("without", False)):
        inside = [
            _flagged(each, "abuse")
            for text, is_abuse, each in zip(raw, truth, found, strict=True)
            if not is_abuse and bool(DIALECT.search(text)) == wanted
        ]
        lines.append(_rate(f"davidson_hate abuse: false positives {title}", sum(inside), len(inside)))
    return lines


def _disguised(detector: Detector, language: str, raw: Sequence[str], truth: Array) -> list[Line]:
    """Of the abusive texts: how many are still flagged when every word is disguised."""
    abusive = [text for text, is_abuse in zip(raw, truth, strict=True) if is_abuse][:400]
    plain = np.mean([_flagged(_examine(detector, text), "abuse") for text in abusive])
    lines = [Line(f"{TARGETS[language][0]} abuse: recall as written", round(float(plain), 3))]
    changes = ("leet", "homoglyphs", "spaced", "invisible", "repeated", "swapped") if language == "en" else (
        "starred", "invisible",
    )  # fmt: skip
    for change in changes:
        disguise = _word_by_word(CHANGES[change]) if language == "en" else CHANGES[change]
        share = np.mean([_flagged(_examine(detector, disguise(text)), "abuse") for text in abusive])
        lines.append(
            Line(f"{TARGETS[language][0]} abuse: recall, disguised by {change}", round(float(share), 3))
        )
    return lines


def _word_by_word(change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: re.sub(
        r"(?<![@\w/])[A-Za-z]{3,}\b", lambda found: change(found.group().lower()), text
    )


# --- By function -------------------------------------------------------------------------------------------


def _functions() -> list[Line]:
    detector, lines = load_detector("abuse"), []
    print(
        "\nBy function: share of cases judged rightly at the shipped thresholds (cases of our own, none learnt from)"
    )
    for language in TARGETS:
        heads = [head.name for head in load_model(language).heads]
        judged: dict[str, dict[str, list[bool]]] = {head: {} for head in heads}
        truth: dict[str, list[bool]] = {head: [] for head in heads}
        for case in cases(language)[:: sized(1, 40)]:
            found = _examine(detector, case.text)
            for head in heads:
                wanted = bool(getattr(case, head))
                truth[head].append(wanted)
                judged[head].setdefault(case.function, []).append(_flagged(found, head) == wanted)
        for function in judged["abuse"]:
            shares = "  ".join(f"{head} {np.mean(judged[head][function]):4.2f}" for head in heads)
            print(f"  {language}  {function:28}{shares}  ({len(judged['abuse'][function])})")
        for head in heads:
            right = np.array([each for cases_of in judged[head].values() for each in cases_of])
            wanted = np.array(truth[head])
            lines.append(
                Line(
                    f"functional cases, {language}, {head}: macro-F1", round(_f1(wanted, right == wanted), 3)
                )
            )
            named = [each for function in IDENTITY for each in judged[head].get(function, [])]
            title = f"functional cases, {language}, {head}: false positives where a group is named"
            lines.append(_rate(title, len(named) - sum(named), len(named)))
    return lines


# --- Frozen cases ------------------------------------------------------------------------------------------


class ByWords(Abuse):
    """The detector as it is where the encoders are not prepared."""

    def _networks(self) -> dict[str, text_meaning.Network]:
        return {}


def _frozen() -> list[Line]:
    """Cases that were written before anything was trained (`research/auditing/frozen_tests`)."""
    if not text_meaning.encoders_prepared():
        skip("frozen cases by meaning: the text encoders for many languages are not prepared")
    lines = []
    for language in TARGETS:
        cases_of = frozen_cases(language)[:: sized(1, 20)]
        for name, detector in (("as it ships", Abuse()), ("by words alone", ByWords())):
            found = [_examine(detector, case.text) for case in cases_of]
            for category, goal in (("hate", FROZEN_GOALS[language]), ("abuse", None)):
                flagged = np.array([_flagged(each, category) for each in found])
                lines += _of_frozen(language, category, name, cases_of, flagged, goal)
    return [*lines, *_frozen_groups(), *_frozen_attributes()]


def _frozen_groups() -> list[Line]:
    """Cases that name groups, a third of them hateful, written before anything was trained
    (`research/auditing/frozen_groups`)."""
    lines, detector = [], Abuse()
    for language in TARGETS:
        cases_of = group_cases(language)
        harmful = np.array([case.hate for case in cases_of])
        found = [_examine(detector, case.text) for case in cases_of]
        for category in ("hate", "abuse"):
            flagged = np.array([_flagged(each, category) for each in found])
            title = f"frozen cases that name groups, {language}, {category}"
            lines += [
                _rate(f"{title}: harmless held", int((flagged & ~harmful).sum()), int((~harmful).sum())),
                _rate(f"{title}: hateful missed", int((harmful & ~flagged).sum()), int(harmful.sum())),
            ]
    return lines


def _frozen_attributes() -> list[Line]:
    """Cases of attributes, written before anything was trained (`research/auditing/frozen_attributes`)."""
    lines, detector, lists = [], Abuse(), load_detector("keywords")
    for language in TARGETS:
        cases_of = attribute_cases(language)[:: sized(1, 20)]
        found = [_examine(detector, case.text).categories for case in cases_of]
        matched = [_examine(lists, case.text).categories for case in cases_of]
        for name in ("insult", "threat", "sexual", "abuse", "profanity"):
            truth = np.array([case.labels[name] for case in cases_of])
            if name == "profanity":
                flagged = np.array([name in each and each[name].score > 0 for each in matched])
            elif any(name in each for each in found):
                flagged = np.array([_reaches(each.get(name)) for each in found])
            else:
                skip(f"frozen cases of attributes, {language}, {name}: not examined")
                continue
            f1, low, high = _spread(truth, flagged)
            by = " by lists" if name == "profanity" else ""
            lines += [
                Line(
                    f"frozen attributes, {language}, {name}{by}: macro-F1 [{low:.3f}, {high:.3f}]",
                    round(f1, 3),
                ),
                _rate("  found of what is one", int((flagged & truth).sum()), int(truth.sum())),
                _rate("  flagged of what is none", int((flagged & ~truth).sum()), int((~truth).sum())),
            ]
    return lines


def _reaches(seen: Category | None) -> bool:
    """Whether it is flagged where a policy names no threshold."""
    return seen is not None and seen.threshold is not None and seen.score >= seen.threshold


def _of_frozen(
    language: str,
    category: str,
    name: str,
    cases_of: Sequence[FrozenCase],
    flagged: Array,
    goal: float | None,
) -> list[Line]:
    truth = np.array([getattr(case, category) for case in cases_of])
    ships = name == "as it ships"
    f1, low, high = _spread(truth, flagged)
    title = f"frozen cases, {language}, {category}, {name}: macro-F1 [{low:.3f}, {high:.3f}]"
    lines = [at_least(title, f1, goal) if goal and ships else Line(title, round(f1, 3))]
    named = [
        bool(is_flagged) for case, is_flagged in zip(cases_of, flagged, strict=True) if case.function in NAMED
    ]
    lines.append(
        _rate(
            f"frozen cases, {language}, {category}, {name}: false alarms, group named", sum(named), len(named)
        )
    )
    if ships:
        names = np.array([case.function for case in cases_of])
        for function in dict.fromkeys(case.function for case in cases_of):
            right = (flagged == truth)[names == function]
            print(f"  frozen, {language}, {category}  {function:20} {int(right.sum()):3}/{len(right)}")
    return lines


# --- Everyday texts, speed -----------------------------------------------------------------------


def _everyday() -> list[Line]:
    """What rules and models find in texts in which there is nothing to find."""
    lines = []
    for name in ("banking77", "zh_medical_qa"):
        rows = rows_of(name)
        if rows is None:
            continue
        texts = list(dict.fromkeys(row.get("title") or row["text"] for row in rows))[:3_000]
        for detector_name in ("abuse", "keywords", "personal-data"):
            detector = load_detector(detector_name)
            hits: dict[str, int] = {}
            for text in texts:
                for category, seen in _examine(detector, text).categories.items():
                    hits[category] = hits.get(category, 0) + (seen.score >= 0.5)
            for category, count in hits.items():
                lines.append(_rate(f"{name}: {detector_name} {category} >= .5", count, len(texts)))
    return lines


def _speed() -> list[Line]:
    """Texts of the functional cases and twice as long ones, one thread, processor time."""
    texts = [case.text for case in cases("en")[:FEW]] + [
        f"{case.text} {case.text}" for case in cases("zh")[:FEW]
    ]
    lines, total = [], 0.0
    detectors: list[tuple[str, Detector]] = [
        (name, load_detector(name)) for name in ("abuse", "keywords", "personal-data")
    ]
    for name, detector in [*detectors, ("abuse by words alone", ByWords())]:
        _examine(detector, texts[0])
        start = time.process_time()
        for text in texts:
            _examine(detector, text)
        spent = (time.process_time() - start) / len(texts)
        total += spent if (name, detector) in detectors else 0.0
        lines.append(Line(f"{name}: processor time a text", round(spent * 1000, 3), "ms"))
    return [*lines, at_least("texts a second and core, all three", 1 / total, 100, "/s")]


# --- Small things ------------------------------------------------------------------------------------------


def _examine(detector: Detector, text: str) -> Finding:
    return detector.examine(Item("text", "text/plain", words=[Words(text, "text")]))


def _score(found: Finding, category: str) -> float:
    """0 also for what was not read: nothing happens to it, which is counted as a miss."""
    seen = found.categories.get(category)
    return seen.score if seen else 0.0


def _flagged(found: Finding, category: str) -> bool:
    """Whether a category is flagged; what was not read is not."""
    return _reaches(found.categories.get(category))


def _manifest() -> dict[str, Any]:
    return dict(json.loads((FOLDER / MANIFEST).read_text("utf-8")))


def _f1(truth: Array, flagged: Array) -> float:
    """Macro-F1 of two classes."""
    scores = []
    for of in (True, False):
        hits = int(((truth == of) & (flagged == of)).sum())
        either = int((truth == of).sum()) + int((flagged == of).sum())
        scores.append(2 * hits / either if either else 1.0)
    return float(np.mean(scores))


def _spread(truth: Array, flagged: Array) -> tuple[float, float, float]:
    """Macro-F1 and 95 % of its bootstraps."""
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(truth), (BOOTSTRAPS, len(truth)))
    values = [_f1(truth[draw], flagged[draw]) for draw in draws]
    low, high = np.quantile(values, (0.025, 0.975))
    return _f1(truth, flagged), float(low), float(high)


def _rate(what: str, hits: int, of: int) -> Line:
    low, high = share_interval(hits, of)
    return Line(f"{what} [{low:.3f}, {high:.3f}]", f"{hits}/{of}")


if __name__ == "__main__":
    from _data import OUT

    for line in run(OUT):
        print(line.shown())
