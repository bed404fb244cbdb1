"""Facets in memory answer what postings in files answer, however they came in."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.indexes.live_postings import LivePostings
from ml.indexes.postings import Postings, write_postings

SLOTS = 12
KEYS = ["colour", "price"]
texts = st.sampled_from(["", "red", "blue", "1.0", "é", "x" * 9])
numbers = st.sampled_from([-1.5, -0.0, 0.0, 1.0, 2.0, 3.0, 1e300])
values = st.lists(st.tuples(texts | st.none(), numbers | st.none()), min_size=1, max_size=4)
facets = st.dictionaries(st.tuples(st.sampled_from(KEYS), st.integers(0, SLOTS - 1)), values, max_size=14)
masks = st.lists(st.booleans(), min_size=SLOTS, max_size=SLOTS).map(lambda given: np.array(given, bool))


@settings(max_examples=150, deadline=None)
@given(facets=facets, cuts=st.lists(st.integers(0, 14), max_size=3), mask=masks)
@pytest.mark.slow
def test_memory_and_files_agree(tmp_path_factory, facets, cuts, mask) -> None:
    rows = [(key, slot, *value) for (key, slot), given in facets.items() for value in given]
    folder: Path = tmp_path_factory.mktemp("postings")
    write_postings(folder, rows)
    stored, live = Postings.open(folder), LivePostings()
    places, all_of = sorted({0, len(facets), *cuts}), list(facets.items())
    for begin, end in pairwise(places):
        part = all_of[begin:end]
        live = live.grown((key, slot, *value) for (key, slot), given in part for value in given)
    assert live.rows == len(rows)
    for key in (*KEYS, "nobody's"):
        same = (
            set(stored.having(key).tolist()),
            stored.top_values(key, mask, 3, 5),
            stored.bounds(key, mask),
        )
        assert same == (
            set(live.having(key).tolist()),
            live.top_values(key, mask, 3, 5),
            live.bounds(key, mask),
        )
        told = live.text_counts(key, mask, 5)
        assert stored.count_texts(key, [*told, "nobody's"], mask) == [*told.values(), 0]
        edges = [-2.0, 0.0, 1.0, 2.5, 1e300]
        assert live.histogram(key, mask, edges) == stored.histogram(key, mask, edges)
        for wanted in ([], [0.0], [1.0, 2.0]):
            asked = (key, ["red", "1.0", "none"], wanted)
            assert set(live.matching(*asked).tolist()) == set(stored.matching(*asked).tolist())
        for operator in ("lt", "lte", "gt", "gte"):
            found = live.in_range(key, operator, 1.0)
            assert set(found.tolist()) == set(stored.in_range(key, operator, 1.0).tolist())


def test_what_grew_from_it_changes_nothing_of_the_one_before() -> None:
    before = LivePostings().grown([("colour", 0, "red", None)])
    after = before.grown([("colour", 1, "red", None), ("colour", 1, "blue", 2.0)])
    mask = np.ones(2, bool)
    assert before.top_values("colour", mask, 5, 9) == [("red", 1)]
    assert before.bounds("colour", mask) is None
    assert after.top_values("colour", mask, 5, 9) == [("red", 2), ("blue", 1)]
    assert after.bytes > before.bytes > 0
