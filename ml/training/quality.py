"""A look at the data before training: what is doubled, what leaks between splits, what is one-sided or too little.

One pass, some forty bytes an item. Its result says which items to train on (``plan``) and tells the rest as a report.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment.numerics import centred, unit
from ml.training.plan import LEFT_OUT, SPLITS, TEST, TRAIN, VAL, Plan, TrainingError, assign, hashed

#: Near duplicates are looked for among so many items: every pair of them is compared.
COMPARED = 10_000
SKETCH = 96
#: Cosine of two sketches above which pictures count as nearly the same (re-saved, resized, slightly cropped).
NEAR = 0.94
#: Of the colours' direction beside that of what is shown.
COLOUR_WEIGHT = 0.6
#: One group with more than this share of the training items is told.
LARGEST_SHARE = 0.5
BLOCK = 1_000

_SPACES = re.compile(r"\W+")


@dataclass(frozen=True)
class ItemSignature:
    """What the quality report has to know of an item. ``sketch`` [SKETCH] is a unit vector, or empty."""

    content: int
    caption: int
    sketch: NDArray[np.float32]


@dataclass
class QualityReport:
    """The report (JSON) and the plan that follows from it."""

    plan: Plan
    report: dict[str, Any]


@dataclass
class _Columns:
    group: list[int] = field(default_factory=list)
    declared: list[int] = field(default_factory=list)
    content: list[int] = field(default_factory=list)
    caption: list[int] = field(default_factory=list)
    sketches: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, item: Any, look: ItemSignature) -> None:
        self.group.append(hashed(item.group))
        self.declared.append(SPLITS.index(item.split) if item.split in SPLITS else LEFT_OUT)
        self.content.append(look.content)
        self.caption.append(look.caption)
        if len(self.sketches) < COMPARED and len(look.sketch):
            self.sketches.append(look.sketch)

    def array(self, name: str) -> NDArray[np.uint64]:
        return np.array(getattr(self, name), np.uint64)


def inspect_data(
    items: Iterable[Any], least: int, look: Callable[[Any], ItemSignature] | None = None, unreadable: int = 0
) -> QualityReport:
    """Read the stream once. Raises TrainingError: ``no_pairs``, ``unreadable``, ``all_duplicates``, ``single_class``,
    ``too_few_pairs``; the message says what would help. ``unreadable`` is how many were lost before.
    """
    columns, look = _Columns(), look or pair_signature
    for item in items:
        columns.add(item, look(item))
    count = len(columns.group)
    _refuse_nothing(count, unreadable)
    group, content, caption = (columns.array(name) for name in ("group", "content", "caption"))
    codes = assign(group, np.array(columns.declared, np.uint8))
    doubled = _repeated(content, caption)
    codes[doubled] = LEFT_OUT
    leaks = {"groups": _leave_out(codes, group), "contents": _leave_out(codes, content)}
    near, leaks["near"] = _near(columns.sketches, codes)
    _refuse_alike(count, doubled, group, caption, codes, least)
    plan = Plan(codes)
    report = {
        "items": count,
        "unreadable": unreadable,
        "splits": {name: plan.count(code) for code, name in enumerate(SPLITS)},
        "duplicates": {"exact": int(doubled.sum()), "near": near, "compared": len(columns.sketches)},
        "leaks": leaks,
        "groups": _balance(group[codes == TRAIN]),
        "captions": {"different": len(np.unique(caption))},
    }
    report["notes"] = _notes(report)
    return QualityReport(plan, report)


def pair_signature(pair: Any) -> ItemSignature:
    """Of a ``shards.Pair``: the picture by what the encoders say of it, captions without case and punctuation."""
    content = hashed(pair.probabilities.tobytes() + pair.features.tobytes() + pair.colours.tobytes())
    caption = hashed("\n".join(sorted(same_words(text) for text in pair.captions)))
    return ItemSignature(content, caption, sketch_of(_seen(pair)[None])[0])


def _seen(pair: Any) -> NDArray[np.float32]:
    """What two pictures are compared by: classes if the encoders name any, else features; and colours, or a shirt in
    ten colours would be one picture."""
    shown = np.asarray(pair.features, np.float32)
    if len(pair.probabilities):
        shown = centred(np.sqrt(np.maximum(np.asarray(pair.probabilities, np.float32), 0)))
    colours = COLOUR_WEIGHT * unit(np.asarray(pair.colours, np.float32))
    return np.concatenate([unit(shown), colours]).astype(np.float32)


def same_words(text: str) -> str:
    """Texts that differ only in case, spaces and punctuation become equal."""
    return _SPACES.sub(" ", text).strip().casefold()


def sketch_of(rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Unit vectors [n, SKETCH] whose cosines are about those of ``rows`` [n, d] (Johnson and Lindenstrauss 1984)."""
    return unit(np.asarray(rows, np.float32) @ _directions(rows.shape[1])).astype(np.float32)


@cache
def _directions(dimension: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(dimension, SKETCH)).astype(np.float32)


def _refuse_nothing(count: int, unreadable: int) -> None:
    if count:
        if unreadable > count:
            detail = (
                f"{unreadable} of {count + unreadable} files cannot be read; repair or remove them first."
            )
            raise TrainingError("unreadable", detail)
        return
    if unreadable:
        raise TrainingError("unreadable", f"None of the {unreadable} files can be read.")
    raise TrainingError("no_pairs", "There is no pair to learn from: assets need a picture and a caption.")


def _refuse_alike(
    count: int,
    doubled: NDArray[np.bool_],
    group: NDArray[np.uint64],
    caption: NDArray[np.uint64],
    codes: NDArray[np.uint8],
    least: int,
) -> None:
    different, usable = count - int(doubled.sum()), int((codes == TRAIN).sum())
    if count > 1 and different == 1:
        raise TrainingError("all_duplicates", f"All {count} pairs are the same one.")
    if count > 1 and (len(np.unique(group)) == 1 or len(np.unique(caption)) == 1):
        what = "the same caption" if len(np.unique(caption)) == 1 else "one group"
        raise TrainingError("single_class", f"All {count} pairs have {what}: there is nothing to tell apart.")
    held = min(int((codes == code).sum()) for code in (VAL, TEST))
    if usable < least or not held:
        needed = int(np.ceil(least / 0.8))
        detail = f"{usable} different pairs are left to train on and {held} to judge by; about {needed} are needed."
        raise TrainingError("too_few_pairs", detail)


def _repeated(content: NDArray[np.uint64], caption: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """True for every item whose content and captions an earlier one has too."""
    both = np.stack([content, caption], axis=1)
    first = np.unique(both, axis=0, return_index=True)[1]
    doubled = np.ones(len(both), bool)
    doubled[first] = False
    return doubled


def _leave_out(codes: NDArray[np.uint8], values: NDArray[np.uint64]) -> int:
    """Take from val and test what training has, and from test what val has; how many items that were."""
    leaking = 0
    for held, seen in ((VAL, TRAIN), (TEST, TRAIN), (TEST, VAL)):
        where = (codes == held) & np.isin(values, values[codes == seen])
        codes[where] = LEFT_OUT
        leaking += int(where.sum())
    return leaking


def _near(sketches: list[NDArray[np.float32]], codes: NDArray[np.uint8]) -> tuple[int, int]:
    """Pairs of nearly the same pictures, and how many held-out items were left out as training has their like."""
    if len(sketches) < 2:
        return 0, 0
    rows, pairs, leaking = np.stack(sketches), 0, 0
    for start in range(0, len(rows), BLOCK):
        alike = rows[start : start + BLOCK] @ rows.T > NEAR
        one, other = np.nonzero(np.triu(alike, start + 1))
        one = one + start
        kept = (codes[one] != LEFT_OUT) & (codes[other] != LEFT_OUT)
        pairs += int(kept.sum())
        for left, right in zip(one[kept], other[kept], strict=True):
            leaking += _part_of_two(codes, left, right)
    return pairs, leaking


def _part_of_two(codes: NDArray[np.uint8], one: int, other: int) -> int:
    """Leave out the held-out one of two items that are nearly the same and on different sides."""
    if codes[one] == codes[other] or LEFT_OUT in (codes[one], codes[other]):
        return 0
    codes[one if codes[one] > codes[other] else other] = LEFT_OUT
    return 1


def _balance(group: NDArray[np.uint64]) -> dict[str, Any]:
    sizes = np.unique(group, return_counts=True)[1]
    return {
        "different": len(sizes),
        "largest": int(sizes.max(initial=0)),
        "largest_share": round(float(sizes.max(initial=0) / max(len(group), 1)), 4),
    }


def _notes(report: dict[str, Any]) -> list[str]:
    """What a person should know, in sentences."""
    notes = []
    if report["unreadable"]:
        notes.append(f"{report['unreadable']} files cannot be read and are left out.")
    if report["duplicates"]["exact"]:
        notes.append(f"{report['duplicates']['exact']} pairs are exact repetitions and are left out.")
    if report["duplicates"]["near"]:
        notes.append(f"{report['duplicates']['near']} pairs of pictures are nearly the same.")
    if sum(report["leaks"].values()):
        notes.append(
            f"{sum(report['leaks'].values())} held-out items stand in training too and are left out."
        )
    if report["groups"]["largest_share"] > LARGEST_SHARE:
        notes.append(f"{report['groups']['largest_share']:.0%} of the training pairs are of one group.")
    return notes
