"""Facts and estimates are kept apart, and nothing that did not look counts as "found nothing"."""

from __future__ import annotations

from typing import Any

import pytest

from ml.auditing.examiner import Examined
from ml.auditing.fusion import CATEGORIES, authenticity, categories
from ml.detectors.base import Category, Detector, Finding, Item


class Said(Detector):
    tier = "statistical"
    modalities = frozenset({"image"})
    sees = blind_to = ""

    def __init__(self, name: str, estimates: bool, about: tuple[str, ...]) -> None:
        self.name, self.estimates_synthetic, self.categories = name, estimates, about  # type: ignore[misc]

    def examine(self, item: Item) -> Finding:
        raise NotImplementedError


def part(name: str = "model", *, about: tuple[str, ...] = (), **finding: Any) -> Examined:
    return Examined(name, Said(name, "above" in finding, about), Finding(**finding), 0.0)


def c2pa(state: str, ai: bool = False) -> Examined:
    return part("c2pa", fields={"c2pa": {"state": state, "ai": ai}})


def declared(ai: bool, state: str = "found") -> Examined:
    return part("declared", fields={"declared": {"state": state, "ai": ai, "generator": "X"}})


def estimate(above: str | None, score: float, name: str = "model", state: str = "examined") -> Examined:
    return part(name, above=above, synthetic=score, interval=(score / 2, score), state=state)


NOTHING = declared(False, "none")


@pytest.mark.parametrize(
    ("parts", "verdict", "tier"),
    [
        ([], "not_examined", None),
        ([c2pa("not_examined"), declared(False, "not_examined")], "not_examined", None),
        ([estimate(None, 0.9)], "not_examined", None),
        ([estimate("likely", 0.9, state="abstained")], "not_examined", None),
        ([estimate("likely", 0.9, state="failed")], "not_examined", None),
        ([c2pa("absent")], "no_evidence", "cryptographic"),
        # A camera's signature is no proof that the picture is what it shows.
        ([c2pa("trusted")], "no_evidence", "cryptographic"),
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
        (
            [part("watermark", fields={"watermark": {"state": "present"}})],
            "likely_synthetic",
            "cryptographic",
        ),
        ([part("watermark", fields={"watermark": {"state": "absent"}})], "no_evidence", "cryptographic"),
    ],
)
def test_the_verdict_is_that_of_the_most_trusted_tier(
    parts: list[Examined], verdict: str, tier: str | None
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
