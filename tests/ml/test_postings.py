"""Postings against the rows that they were written from."""

from __future__ import annotations

import operator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.indexes.postings import DTYPES, Postings, PostingsDamaged, write_postings

ASSETS = 12
RANGES = {"lt": operator.lt, "lte": operator.le, "gt": operator.gt, "gte": operator.ge}

# A key or text may look like a path, a format or another key's end.
HOSTILE = [
    "",
    "a",
    "../../etc/passwd",
    "a/b",
    "\x00",
    "k\x00v",
    "é",
    "e\u0301",
    "𝒳" * 300,
    "{}%s",
    "facets.json",
]
keys = st.sampled_from(HOSTILE)
texts = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
numbers = st.sampled_from([0.0, -0.0, 1.5, -7.0, 1e300, -1e300, 5e-324]) | st.floats(-3, 3, width=16)
row = st.tuples(keys, st.integers(0, ASSETS - 1), st.none() | texts, st.none() | numbers)


def _written(folder: Path, rows: list) -> Postings:
    write_postings(folder, rows)
    return Postings.open(folder)


def _found(assets: np.ndarray) -> set[int]:
    assert assets.dtype == np.int32
    return set(assets.tolist())


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(row, max_size=60),
    key=keys,
    some=st.lists(texts, max_size=4),
    places=st.lists(numbers, max_size=3),
    allowed=st.lists(st.booleans(), min_size=ASSETS, max_size=ASSETS),
)
@pytest.mark.slow
def test_everything_is_found_and_counted_as_the_rows_say(
    tmp_path_factory, rows, key, some, places, allowed
) -> None:
    postings = _written(tmp_path_factory.mktemp("postings"), rows)
    mine = [(asset, text, number) for k, asset, text, number in rows if k == key]
    mask = np.array(allowed)

    expected = {a for a, text, number in mine if text in some or number in places}
    assert _found(postings.matching(key, set(some), set(places))) == expected
    assert postings.count(key, set(some), set(places)) == len(expected)
    assert _found(postings.having(key)) == {a for a, _, _ in mine}
    for name, compare in RANGES.items():
        for place in places:
            within = {a for a, _, number in mine if number is not None and compare(number, place)}
            assert _found(postings.in_range(key, name, place)) == within

    by_text = {text: {a for a, t, _ in mine if t == text and allowed[a]} for _, text, _ in mine}
    ranked = sorted(
        ((t, len(a)) for t, a in by_text.items() if t is not None and a), key=lambda pair: (-pair[1], pair[0])
    )
    assert postings.top_values(key, mask, 100, 1000) == ranked
    assert postings.top_values(key, mask, 2, 1000) == ranked[:2]
    assert postings.top_values(key, mask, 2, 3) == [pair for pair in ranked if len(pair[0]) <= 3][:2]
    for text in some:
        assert postings.count_text(key, text, mask) == len(by_text.get(text, ()))

    on_scale = [(a, n) for a, _, n in mine if n is not None and allowed[a]]
    values = [n for _, n in on_scale]
    assert postings.bounds(key, mask) == ((min(values), max(values)) if values else None)
    if values:
        edges = [min(values), 0.5, 1.0, max(values)] if min(values) < 0.5 < 1.0 < max(values) else None
        edges = edges or [min(values), max(values)]
        counts = postings.histogram(key, mask, edges)
        pairs = list(zip(edges, [*edges[1:-1], np.inf], strict=False))
        assert counts == [len({a for a, n in on_scale if low <= n < high}) for low, high in pairs]


def test_rows_in_several_chunks_and_parts_are_one(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("ml.indexes.postings.CHUNK_ROWS", 7)
    monkeypatch.setattr("ml.indexes.postings.REMEMBERED", 3)
    monkeypatch.setattr("ml.indexes.postings.GATHERED", 2)
    rows = [(f"k{n % 5}", n % 40, f"t{n % 11}", float(n % 13)) for n in range(400)]
    postings = _written(tmp_path, rows + rows[::-1])
    for key in range(5):
        for text in range(11):
            expected = {a for k, a, t, _ in rows if (k, t) == (f"k{key}", f"t{text}")}
            assert _found(postings.matching(f"k{key}", {f"t{text}"})) == expected
        assert postings.top_values(f"k{key}", np.ones(40, bool), 99, 99)[0][1] == postings.count(
            f"k{key}", {postings.top_values(f"k{key}", np.ones(40, bool), 1, 99)[0][0]}
        )


def test_as_many_keys_as_assets(tmp_path) -> None:
    """A tenant may give each asset keys of its own: no key costs a file or an object in memory."""
    postings = _written(tmp_path, ((f"key {n}", n, "x", None) for n in range(20_000)))
    assert all(_found(postings.having(f"key {n}")) == {n} for n in range(0, 20_000, 997))
    assert not _found(postings.having("key 20000"))
    assert len(list((tmp_path / "facets").iterdir())) == len(DTYPES)


def test_nothing_at_all(tmp_path) -> None:
    postings = _written(tmp_path, [])
    assert not len(postings.matching("k", {"a"}, {1.0})) and not len(postings.in_range("k", "lt", 3))
    assert (postings.count("k", {"a"}), len(postings.having("k"))) == (0, 0)
    nobody = np.zeros(0, bool)
    assert postings.top_values("k", nobody, 3, 9) == [] and postings.bounds("k", nobody) is None
    assert postings.histogram("k", nobody, [0.0, 1.0, 2.0]) == [0, 0]


@pytest.mark.parametrize(
    "bad", [("k", 0, None, float("nan")), ("k", -1, "x", None), ("k", 1 << 31, "x", None)]
)
def test_what_cannot_be_held_is_refused_and_leaves_no_work_behind(tmp_path, bad) -> None:
    with pytest.raises(ValueError, match=r"NaN|no asset number"):
        write_postings(tmp_path, [("k", 0, "x", 1.0), bad])
    assert not (tmp_path / "facets" / "work.part").exists()


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_files_that_do_not_fit_each_other_are_not_opened(tmp_path, name) -> None:
    write_postings(tmp_path, [("k", n, f"t{n}", float(n)) for n in range(5)])
    path = tmp_path / "facets" / f"{name}.npy"
    whole = np.load(path)
    np.save(path, whole[:-1])
    with pytest.raises(PostingsDamaged):
        Postings.open(tmp_path)
    np.save(path, whole.astype("<f4"))
    with pytest.raises(PostingsDamaged):
        Postings.open(tmp_path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(PostingsDamaged):
        Postings.open(tmp_path)
    path.unlink()
    with pytest.raises(PostingsDamaged):
        Postings.open(tmp_path)


def test_it_is_mapped_not_read(tmp_path) -> None:
    postings = _written(tmp_path, [("k", n, "x", float(n)) for n in range(50)])
    found = postings.in_range("k", "gte", 10)
    assert not found.flags.owndata and not found.flags.writeable
