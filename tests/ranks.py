"""What a real model finds, said so that it holds on every processor.

INT8 products are rounded otherwise with VNNI and without, and sums are taken in another order: scores of one query
differ by a few thousandths, and what lies that near to each other changes places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: More than scores of one query differ by from processor to processor.
MARGIN = 0.03

Result = dict[str, Any]


def first(results: Sequence[Result], count: int) -> list[Result]:
    """The first `count` of a longer list of results, and those that are as good but for MARGIN."""
    least = results[:count][-1]["score"] - MARGIN
    return [result for result in results if result["score"] >= least]


def clearly_first(results: Sequence[Result]) -> Result:
    """The first result, which must be better than the second by more than MARGIN."""
    best, second = results[:2]
    assert best["score"] > second["score"] + MARGIN, f"{best['score']} is not clearly above {second['score']}"
    return best
