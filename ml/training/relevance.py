"""How likely matches of a fine-tune are right: the curves of the space it came from, carried over to its own scores.

Nobody labels results for a fine-tune, but what it came from says how likely each match is. So both place the same texts
and pictures, no pair of which was trained on, and a logistic curve over the fine-tune's scores is fitted to what the
base says of the same matches (soft targets: Hinton et al. 2015, arXiv:1503.02531). What asks are captions that were
held out, and general texts: scenes, names of things, and words that mean nothing.

One curve would not do. Learnt directions raise the scores of texts like those of the pairs and leave the others below
what they were, so the log odds are linear in the score and the familiarity of what asks, which its vector tells: two
curves, between which each text has its own.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment.adapted_space import AdaptedSpace
from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.installed import folder_of
from ml.alignment.projection import Placing, StoresTexts
from ml.alignment.relevance import ASKED, Curve, Relevance, read_relevance, stated_curves
from ml.alignment.scenes import scenes
from ml.alignment.space import JointSpace, is_short
from ml.alignment.storage import MANIFEST
from ml.alignment.vocabulary import written_phrases
from ml.training.evaluate import image_features_of, shortened, text_features_of
from ml.training.shards import Pair

#: Of each search so many results count, as when the base's curves were fitted.
DEPTH = 10
#: Held-out pictures, and pictures that were trained on, at most: the latter are only found.
MOST_HELD_OUT, MOST_FOUND = 300, 600
#: With fewer held-out captions nothing is said of texts that ask, with fewer pictures nothing of pictures.
LEAST_HELD_OUT = 5
#: A curve that is so much flatter or steeper than the base's was fitted to too little.
LEAST_STEEP, MOST_STEEP = 0.2, 5.0
#: Where to the fit is drawn where matches tell nothing, as so many of them.
PULL = 1e-3
#: General texts that ask: scenes, names of things, and words that mean nothing.
SCENES, NAMES, NONSENSE = 100, 200, 60
STEPS = 200

Array = NDArray[Any]
Kinds = tuple[str, str]


@dataclass(frozen=True)
class Matches:
    """What searches of one pair of kinds find: scores of the fine-tune and of its base [m], and how familiar what asks
    is to the fine-tune, 0 to 1 [m]."""

    scores: Array
    before: Array
    familiar: Array


@dataclass(frozen=True)
class Base:
    """What a fine-tune came from, with the curves that it states."""

    placing: Placing
    relevance: Relevance


def base_of(space: JointSpace) -> Base | None:
    """What a fine-tune of ``space`` is measured by; None where nobody has calibrated that.

    A fine-tune that is tuned again learns anew from its own base, so that the curves are carried over once only.
    """
    placing = space.placing.base if isinstance(space.placing, AdaptedSpace) else space.placing
    stated = _first_stated(space.manifest)
    relevance = read_relevance({"relevance": stated}) if stated else None
    return Base(placing, relevance) if relevance else None


def _first_stated(manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The curves that were fitted to labelled searches: the space's own, or those of the one that it came from."""
    stated = manifest.get("relevance")
    if stated and "carried" in stated:
        return dict(stated["carried"]["of"])
    if "base" not in manifest:
        return stated
    # A fine-tune from before curves were carried over.
    named = manifest["base"]
    folder = folder_of(f"{named['id']}:{named['version']}")
    found = json.loads((folder / MANIFEST).read_text("utf-8")) if folder else {}
    return found.get("relevance") if found.get("sha256") == named["sha256"] else None


def general_texts() -> list[str]:
    """Texts that are not particular to any pairs; always the same."""
    names = [phrase.text for phrase in written_phrases()]
    return [*scenes(SCENES), *names[:: max(1, len(names) // NAMES)][:NAMES], *_nonsense()]


def _nonsense() -> Iterator[str]:
    chosen = random.Random(0)  # noqa: S311 - examples, no secrets
    for _ in range(NONSENSE):
        words = range(chosen.randint(1, 3))
        yield " ".join(
            "".join(chosen.choices("abcdefghijklmnoprstuvwxyz", k=chosen.randint(4, 9))) for _ in words
        )


@dataclass(frozen=True)
class Placed:
    """Texts that ask and that are searched, pictures that ask and that are searched: rows of norm 1 in one space."""

    asks: Array
    told: Array
    shows: Array
    seen: Array


def _placed(
    placing: Placing,
    asks: TextFeatures,
    short: Array,
    told: TextFeatures,
    shows: ImageFeatures,
    seen: ImageFeatures,
) -> Placed:
    typed, stored = placing.text(asks), placing.text(told)
    if isinstance(placing, StoresTexts):
        typed[short], stored = placing.few_words(typed[short]), placing.as_asset(stored)
    return Placed(
        typed,
        stored,
        placing.as_query(placing.image(shows)),
        placing.image(seen),
    )


def matches_of(
    base: Placing,
    tuned: Placing,
    general: tuple[Sequence[str], TextFeatures],
    held_out: Sequence[Pair],
    trained: Sequence[Pair],
) -> dict[Kinds, Matches]:
    """What held-out captions, general texts and held-out pictures find among all pictures and captions, by what asks
    and what is found. Texts find general texts, too: two that are foreign have other scores than one that is not.

    Nothing finds itself; captions that were trained on are found, and ask nothing.
    """
    everything = [*held_out, *trained]
    (texts, read), captions = general, text_features_of(held_out)
    asks = TextFeatures.concatenate([captions, read])
    typed = [*(caption for pair in held_out for caption in pair.captions), *texts]
    short = np.array([is_short(text) for text in typed], bool)
    shows, seen = image_features_of(held_out), image_features_of(everything)
    known = text_features_of(everything)
    told = TextFeatures.concatenate([known, read])
    old, new = (_placed(one, asks, short, told, shows, seen) for one in (base, tuned))
    of_texts, of_pictures = _familiarity(tuned, new.asks, short), np.ones(len(shows))
    # Held-out captions, and pictures, stand first on both sides; behind all captions the general texts.
    same = np.concatenate([np.arange(len(captions)), len(known) + np.arange(len(read))])
    shown = slice(0, len(known))
    return {
        ("text", "image"): _first(old.asks @ old.seen.T, new.asks @ new.seen.T, of_texts),
        ("text", "text"): _first(old.asks @ old.told.T, new.asks @ new.told.T, of_texts, same),
        ("image", "image"): _first(
            old.shows @ old.seen.T, new.shows @ new.seen.T, of_pictures, np.arange(len(shows))
        ),
        ("image", "text"): _first(old.shows @ old.told[shown].T, new.shows @ new.told[shown].T, of_pictures),
    }


def _first(before: Array, after: Array, familiar: Array, same: Array | None = None) -> Matches:
    """The best of each search by the fine-tune; ``same``: of each which one it is itself."""
    if same is not None:
        after[np.arange(len(same)), same] = -np.inf
    depth = max(1, min(DEPTH, after.shape[1] - 1))
    first = np.argpartition(-after, depth - 1, axis=1)[:, :depth]
    scores, old = (np.take_along_axis(rows, first, 1).ravel().astype(np.float64) for rows in (after, before))
    found = np.isfinite(scores)
    return Matches(scores[found], old[found], np.repeat(familiar, depth).astype(np.float64)[found])


def _familiarity(placing: Placing, texts: Array, short: Array) -> Array:
    return placing.familiarity(texts, short) if isinstance(placing, AdaptedSpace) else np.ones(len(texts))


# --- The fit ---------------------------------------------------------------------------------------------


def fit(matches: Matches, curve: Curve) -> tuple[Curve, Curve] | None:
    """The curves of foreign and of familiar texts under which the base's chances are most likely, by Newton's method.

    ``curve`` is the base's. Where all is as familiar they are the same. None where they would not rise with the score,
    or not nearly as the base's does.
    """
    middle, spread = float(matches.scores.mean()), float(matches.scores.std())
    if not spread > 0:
        return None
    chances = np.array([curve.chance(score) for score in matches.before])
    scores, familiar = (matches.scores - middle) / spread, matches.familiar
    several = float(np.ptp(familiar)) > 0
    shares = np.stack([1 - familiar, familiar] if several else [np.ones_like(familiar)])
    inputs = np.concatenate([shares * scores, shares]).T
    start = np.repeat([curve.slope * spread, curve.slope * (middle - curve.middle)], len(shares))
    found = start.copy()
    for _ in range(STEPS):
        told = 1 / (1 + np.exp(-np.clip(inputs @ found, -50, 50)))
        slope = inputs.T @ (told - chances) + PULL * (found - start)
        bend = inputs.T @ (inputs * (told * (1 - told))[:, None]) + PULL * np.eye(len(found))
        step = np.linalg.solve(bend, slope)
        found = found - np.clip(step, -1.0, 1.0)
        if float(np.abs(step).max()) < 1e-9:
            break
    steep, level = np.split(found, 2)
    if not all(LEAST_STEEP < one / (curve.slope * spread) < MOST_STEEP for one in steep):
        return None
    curves = [
        Curve(round(float(one) / spread, 2), round(middle - spread * float(other) / float(one), 4))
        for one, other in zip(steep, level, strict=True)
    ]
    return curves[0], curves[-1]


def carried(matches: Mapping[Kinds, Matches], relevance: Relevance, counts: Mapping[str, int]) -> Relevance:
    """The curves of the fine-tune, for those kinds that ask of which enough were held out and all curves could be
    fitted. ``counts``: how many of each kind ask."""
    curves: dict[Kinds, Curve] = {}
    foreign: dict[Kinds, Curve] = {}
    for asked in ASKED:
        pairs = [pair for pair in relevance.curves if pair[0] == asked]
        fitted = {pair: fit(matches[pair], relevance.curves[pair]) for pair in pairs}
        if counts[asked] < LEAST_HELD_OUT or not all(fitted.values()):
            continue
        for pair, both in fitted.items():
            if both:
                curves[pair] = both[1]
                foreign |= {pair: both[0]} if both[0] != both[1] else {}
    return Relevance(relevance.line, relevance.words, curves, foreign)


def carry_relevance(
    folder: Path, base: Path | None, held_out: Iterable[Pair], trained: Iterable[Pair]
) -> dict[str, Any]:
    """Write into the manifest of the space in ``folder`` how likely its matches are right, where its base says so.

    Returns ``state``: ``carried``, ``same`` where nothing was learnt, so that the base's curves hold, or ``none`` with
    a ``reason``: ``base`` (it has none), ``encoders`` (others than the base's), ``few`` (too few pairs were held out).
    And how many ``pictures`` and ``captions`` were held out, and the kinds that may ask, ``asked``.
    """
    model, parent = JointSpace.load(folder), JointSpace.load(base)
    first = base_of(parent)
    if first is None:
        return {"state": "none", "reason": "base"}
    if model.encoders_key != parent.encoders_key:
        return {"state": "none", "reason": "encoders"}
    if model.manifest["sha256"] == _sha256_of_first(parent):
        _state(folder, first.relevance, first.relevance)
        return {"state": "same", "asked": [one for one in ASKED if first.relevance.asked_by(one)]}
    held = [shortened(pair) for pair in itertools.islice(held_out, MOST_HELD_OUT)]
    counts = {"text": sum(len(pair.captions) for pair in held), "image": len(held)}
    report: dict[str, Any] = {"pictures": counts["image"], "captions": counts["text"]}
    if max(counts.values()) < LEAST_HELD_OUT:
        return {"state": "none", "reason": "few", **report}
    found = [shortened(pair) for pair in itertools.islice(trained, MOST_FOUND)]
    texts = general_texts()
    matches = matches_of(first.placing, model.placing, (texts, parent.read(texts)), held, found)
    relevance = carried(matches, first.relevance, counts)
    if not relevance.curves:
        return {"state": "none", "reason": "few", **report}
    _state(folder, relevance, first.relevance)
    return {"state": "carried", "asked": [one for one in ASKED if relevance.asked_by(one)], **report}


def _sha256_of_first(space: JointSpace) -> str:
    """Of the tensors of what a fine-tune of ``space`` is measured by."""
    return str(space.manifest.get("base", space.manifest)["sha256"])


def _state(folder: Path, relevance: Relevance, first: Relevance) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_text("utf-8"))
    stated = _as_stated(relevance)
    stated["carried"] = {"of": _as_stated(first)}
    path.write_text(json.dumps({**manifest, "relevance": stated}, indent=1, sort_keys=True) + "\n")


def _as_stated(relevance: Relevance) -> dict[str, Any]:
    stated = {"line": relevance.line, "words": relevance.words, "curves": stated_curves(relevance.curves)}
    return stated | ({"foreign": stated_curves(relevance.foreign)} if relevance.foreign else {})
