"""Facts and estimates are kept apart, and nothing that did not look counts as "found nothing"."""

from __future__ import annotations

from typing import Any

import pytest

from ml.auditing.examiner import DetectorResult
from ml.auditing.fusion import CATEGORIES, authenticity, categories
from ml.detectors.base import Category, Detector, Finding, Item


class Said(Detector):
    tier = "statistical"
    modalities = frozenset({"image"})
    sees = blind_to = ""

    def __init__(
        self, name: str, estimates: str, about: tuple[str, ...], looks_for: tuple[str, ...], tier: str
    ) -> None:
        self.name, self.estimates, self.categories = name, estimates, about
        self.looks_for, self.tier = looks_for, tier

    def examine(self, item: Item) -> Finding:
        raise NotImplementedError


def part(
    name: str = "model",
    *,
    about: tuple[str, ...] = (),
    estimates: str = "",
    looks_for: tuple[str, ...] = (),
    tier: str = "statistical",
    **finding: Any,
) -> DetectorResult:
    return DetectorResult(name, Said(name, estimates, about, looks_for, tier), Finding(**finding), 0.0)


def c2pa(state: str, ai: bool = False) -> DetectorResult:
    fields = {"c2pa": {"state": state, "ai": ai}}
    return part("c2pa", tier="cryptographic", looks_for=("content_credentials",), fields=fields)


def watermark(state: str) -> DetectorResult:
    fields = {"watermark": {"state": state}}
    return part("watermark", tier="cryptographic", looks_for=("own_watermark",), fields=fields)


def declared(ai: bool, state: str = "found") -> DetectorResult:
    fields = {"declared": {"state": state, "ai": ai, "generator": "X"}}
    return part("declared", tier="declared", looks_for=("metadata",), fields=fields)


def estimate(
    above: str | None,
    score: float,
    name: str = "model",
    state: str = "examined",
    estimates: str = "generation",
    looks_for: str = "generated_pictures",
) -> DetectorResult:
    return part(
        name,
        estimates=estimates,
        looks_for=(looks_for,),
        above=above,
        synthetic=score,
        interval=(score / 2, score),
        state=state,
    )


def copies(above: str | None, score: float, state: str = "examined") -> DetectorResult:
    return estimate(above, score, "copy-move", state, "manipulation", "copied_regions")


NOTHING = declared(False, "none")


@pytest.mark.parametrize(
    ("parts", "verdict", "tier"),
    [
        ([], "not_examined", None),
        ([c2pa("not_examined"), declared(False, "not_examined")], "not_examined", None),
        ([estimate(None, 0.9)], "not_examined", None),
        ([estimate("likely", 0.9, state="abstained")], "not_examined", None),
        ([estimate("likely", 0.9, state="failed")], "not_examined", None),
        # That a file carries no signature, no declaration and no mark says nothing of how it was made.
        ([c2pa("absent")], "not_examined", None),
        ([c2pa("absent"), NOTHING, watermark("absent")], "not_examined", None),
        # A camera's signature is no proof that the picture is what it shows.
        ([c2pa("trusted")], "not_examined", None),
        ([c2pa("trusted", ai=True), NOTHING], "likely_synthetic", "cryptographic"),
        # Anybody can sign: who is not trusted only declares.
        ([c2pa("valid", ai=True)], "likely_synthetic", "declared"),
        ([c2pa("invalid", ai=True)], "inconclusive", "cryptographic"),
        ([c2pa("absent"), declared(True)], "likely_synthetic", "declared"),
        ([c2pa("absent"), NOTHING, estimate("likely", 0.97)], "likely_synthetic", "statistical"),
        ([c2pa("absent"), NOTHING, estimate("band", 0.5)], "inconclusive", "statistical"),
        ([estimate("none", 0.1)], "no_evidence", "statistical"),
        # Many weak estimates are no strong one.
        ([estimate("band", 0.6, f"m{n}") for n in range(10)], "inconclusive", "statistical"),
        # An estimate does not outvote a signature, nor the other way round.
        ([c2pa("trusted", ai=True), estimate("none", 0.01)], "likely_synthetic", "cryptographic"),
        ([watermark("present")], "likely_synthetic", "cryptographic"),
        ([watermark("absent")], "not_examined", None),
        # Copied regions say nothing of generation: neither that it was, nor that nobody saw a sign of it.
        ([c2pa("absent"), NOTHING, copies("none", 0.1)], "not_examined", None),
        ([c2pa("absent"), NOTHING, copies("band", 0.5)], "not_examined", None),
        ([c2pa("absent"), NOTHING, copies("likely", 0.9)], "likely_manipulated", "statistical"),
        ([copies("none", 0.1), estimate("none", 0.1)], "no_evidence", "statistical"),
        ([copies("likely", 0.9), estimate("none", 0.1)], "likely_manipulated", "statistical"),
        ([copies("likely", 0.9), estimate("band", 0.5)], "likely_manipulated", "statistical"),
        ([copies("likely", 0.99), estimate("likely", 0.9)], "likely_synthetic", "statistical"),
        ([copies("likely", 0.9, "abstained")], "not_examined", None),
        ([c2pa("trusted", ai=True), copies("likely", 0.9)], "likely_synthetic", "cryptographic"),
    ],
)
def test_the_verdict_is_that_of_the_most_trusted_tier(
    parts: list[DetectorResult], verdict: str, tier: str | None
) -> None:
    found = authenticity(parts)
    assert (found.verdict, found.tier) == (verdict, tier)


def test_a_probability_is_only_an_estimates_own() -> None:
    found = authenticity([estimate("likely", 0.9, "one"), estimate("likely", 0.8, "other")])
    assert (found.probability, found.interval) == (0.9, (0.45, 0.9))
    assert authenticity([declared(True), estimate("likely", 0.9)]).probability is None


def test_each_tier_keeps_its_own_verdict() -> None:
    found = authenticity([c2pa("absent"), declared(True), estimate("none", 0.1)])
    assert found.tiers == {
        "cryptographic": "no_evidence",
        "declared": "likely_synthetic",
        "statistical": "no_evidence",
    }


def test_the_probability_of_a_manipulation_is_that_of_who_found_it() -> None:
    found = authenticity([estimate("none", 0.05), copies("likely", 0.8)])
    assert (found.probability, found.interval) == (0.8, (0.4, 0.8))
    assert found.tiers["statistical"] == "likely_manipulated"
    assert found.estimates == {"generation": "no_evidence", "manipulation": "likely_manipulated"}


def test_an_estimate_is_asked_for_generation_and_for_manipulation_apart() -> None:
    assert authenticity([copies("none", 0.1)]).estimates == {
        "generation": "not_examined",
        "manipulation": "no_evidence",
    }
    assert authenticity([copies("band", 0.5), estimate("band", 0.5)]).estimates == {
        "generation": "inconclusive",
        "manipulation": "inconclusive",
    }


def test_each_tier_says_what_it_looked_for() -> None:
    found = authenticity(
        [
            c2pa("absent"),
            watermark("not_examined"),
            declared(False, "not_examined"),
            copies("none", 0.1),
            estimate("likely", 0.9, state="abstained"),
            # Only shown: without a calibration a score decides nothing.
            estimate(None, 0.9, "other", looks_for="swapped_faces"),
        ]
    )
    assert found.looked_for == {
        "cryptographic": ["content_credentials"],
        "declared": [],
        "statistical": ["copied_regions"],
    }
    assert found.as_dict()["looked_for"] == found.looked_for


def test_changed_credentials_declare_all_the_same() -> None:
    found = authenticity([c2pa("invalid", ai=True)])
    assert (found.verdict, found.tiers["declared"]) == ("inconclusive", "likely_synthetic")


def test_a_category_that_nobody_looked_at_has_no_score() -> None:
    found = categories([part("abuse", about=("abuse",), categories={"abuse": Category(0.7)})])
    assert set(found) == set(CATEGORIES)
    assert (found["abuse"]["state"], found["abuse"]["score"]) == ("examined", 0.7)
    assert (found["nudity"]["state"], found["nudity"]["score"]) == ("not_examined", None)


def test_a_category_tells_who_could_not_look() -> None:
    def state_of(*states: str) -> tuple[str, float | None]:
        asked = [part(f"d{n}", about=("hate",), state=state) for n, state in enumerate(states)]
        found = categories(asked)["hate"]
        return found["state"], found["score"]

    assert state_of("failed") == ("failed", None)
    assert state_of("abstained") == ("abstained", None)
    assert state_of("not_installed") == ("not_examined", None)
    assert state_of("abstained", "failed") == ("failed", None)
    # One that looked, but not for this.
    assert state_of("examined") == ("not_examined", None)


def test_a_category_that_was_looked_for_and_not_found_has_a_score() -> None:
    found = categories([part("words", about=("spam",), categories={"spam": Category(0.0)})])
    assert (found["spam"]["state"], found["spam"]["score"]) == ("examined", 0.0)


def test_the_highest_score_of_a_category_counts() -> None:
    said = [
        part("words", about=("abuse",), categories={"abuse": Category(0.3, False, None, [{"term": "x"}])}),
        part("model", about=("abuse",), categories={"abuse": Category(0.8, True, (0.7, 0.9))}),
    ]
    found = categories(said)["abuse"]
    assert (found["score"], found["detector"], found["calibrated"]) == (0.8, "model", True)
    assert found["interval"] == [0.7, 0.9]
    assert found["evidence"] == [{"detector": "words", "term": "x"}]
