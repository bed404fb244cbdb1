"""What Milvus is told, and what is said where it is absent. Against a server: tests/hosts/test_milvus.py."""

from __future__ import annotations

import builtins
import re
import uuid
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from tenants.errors import Unavailable
from tenants.retrieval import milvus
from tenants.retrieval.engines import EngineMissing
from tenants.retrieval.filters import Clause
from tenants.retrieval.milvus import (
    MilvusEngine,
    MilvusSegment,
    both,
    class_of,
    collection_name,
    expression,
    from_halves,
    halves,
    lists_of,
    read_name,
)
from tenants.retrieval.types import Restriction
from tenants.scope import NoTenantScope, tenant_scope

ONE, OTHER = uuid.UUID(int=(1 << 127) + (1 << 63) + 5), uuid.UUID(int=(1 << 127) + (1 << 63) + 9)


@pytest.mark.parametrize(
    "number",
    [0, 1, (1 << 64) - 1, 1 << 64, 1 << 127, (1 << 128) - 1, 326082912941936051818901746889185553988],
)
def test_an_id_is_two_numbers_of_64_bits(number: int) -> None:
    high, low = halves(uuid.UUID(int=number))
    assert all(-(1 << 63) <= half < 1 << 63 for half in (high, low))
    assert from_halves(high, low) == uuid.UUID(int=number)


@pytest.mark.parametrize(
    ("only", "told"),
    [
        (Restriction(), ""),
        (Restriction(datasets=[OTHER, ONE, ONE]), "dataset_low in [5, 9]"),
        (Restriction(datasets=[]), "seq < 0"),
        (Restriction(hidden_datasets=[ONE]), "not (dataset_low in [5])"),
        (Restriction(modalities=["image", "text"]), "kind in [0, 1]"),
        (
            Restriction(datasets=[ONE], hidden_datasets=[OTHER], modalities=["video"]),
            "dataset_low in [5] and not (dataset_low in [9]) and kind in [3]",
        ),
        # What stands in Postgres alone, or would be a range.
        (Restriction(until=7, assets=[ONE], without=frozenset([ONE])), ""),
    ],
)
def test_datasets_and_modalities_are_an_expression(only: Restriction, told: str) -> None:
    assert expression(only) == told


def test_classes_of_rows() -> None:
    assert (class_of(0, 1), class_of(2, 3)) == ("", "seq % 3 == 2")
    assert both("", "a", "", "b") == "a and b"


def test_a_collection_is_named_by_tenant_and_generation() -> None:
    tenant, segment = uuid.uuid4(), uuid.uuid4()
    name = collection_name(tenant, segment)
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,254}", name)
    assert read_name(name) == (tenant, segment)
    for other in (
        "",
        "crosslight",
        "crosslight_x_y",
        f"other_{tenant.hex}_{segment.hex}",
        f"{name}_",
        name.upper(),
    ):
        assert read_name(other) is None


@pytest.fixture
def engine(settings: Any) -> MilvusEngine:
    settings.MILVUS_URL, settings.MILVUS_TIMEOUT_S = "http://127.0.0.1:9", 0.3
    return MilvusEngine()


def segment_of(engine: MilvusEngine, tenant_id: uuid.UUID, **more: Any) -> MilvusSegment:
    given = {"seq": 10, "name": engine.kind, "rows": 10, "efforts": (), "partitions": {(ONE, 0): 10}}
    given |= {"model": "prior:2", "lists": 0, "server": engine.server, **more}
    return MilvusSegment(tenant_id=tenant_id, id=uuid.uuid4(), **given)


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any) -> Any:
        if name == "pymilvus":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", missing)


def test_without_the_package_who_moves_is_told_what_to_install(engine, without_package) -> None:
    with pytest.raises(EngineMissing, match=re.escape("pip install 'crosslight[milvus]'")):
        engine.require()


def test_without_the_package_a_search_is_not_available(engine, without_package) -> None:
    segment = segment_of(engine, uuid.uuid4())
    with pytest.raises(Unavailable, match="pymilvus"):
        segment.nearest(np.ones(4, np.float32), 3, "", 8)


def test_what_a_copy_is_called_comes_from_the_scope(engine, party, stranger) -> None:
    segment_id = uuid.uuid4()
    with tenant_scope(party.id):
        mine = engine._name(segment_id)
    with tenant_scope(stranger.id):
        assert engine._name(segment_id) != mine
    with pytest.raises(NoTenantScope):
        engine._name(segment_id)


class Answers:
    """A server that has rows 1 to `count`, the best first, and notes what it is asked."""

    def __init__(self, count: int) -> None:
        self.count, self.asked = count, []

    def nearest(self, query: np.ndarray, limit: int, where: str, effort: int) -> list[milvus.Found]:
        self.asked.append((where, limit, effort))
        number, classes = 0, 1
        if match := re.search(r"seq % (\d+) == (\d+)", where):
            classes, number = int(match[1]), int(match[2])
        rows = [seq for seq in range(1, self.count + 1) if seq % classes == number][:limit]
        return [milvus.Found(seq, 1 / seq, uuid.UUID(int=seq)) for seq in rows]


def nearest(
    engine, monkeypatch, answers: Answers, depth: int, only: Restriction, total: int, *, lists: int = 0
) -> Any:
    segment = segment_of(engine, uuid.uuid4(), seq=answers.count, rows=answers.count, lists=lists)
    segment = type(segment)(**{**vars(segment), "partitions": {(ONE, 0): answers.count}})
    monkeypatch.setattr(MilvusSegment, "nearest", lambda self, *args: answers.nearest(*args))
    monkeypatch.setattr(
        MilvusSegment,
        "scored",
        lambda self, query, seqs, rows=None: {
            seq: milvus.Hit(uuid.UUID(int=seq), 1 / seq, "text") for seq in seqs
        },
    )
    return milvus._Nearest(segment, np.ones(4, np.float32), depth, only, total, exhaustive=False).found()


@pytest.mark.parametrize(
    ("rows", "lists"), [(0, 16), (60, 32), (6_000, 256), (65_536, 1_024), (10**8, 1_024)]
)
def test_lists_of_an_index(rows: int, lists: int) -> None:
    assert lists_of(rows) == lists


def test_more_is_looked_into_where_more_is_wanted(engine) -> None:
    graph, lists = (segment_of(engine, uuid.uuid4(), rows=10**6, lists=count) for count in (0, 1_024))
    assert [graph._effort(64, limit) for limit in (10, 500)] == [{"ef": 64}, {"ef": 1_000}]
    assert [lists._effort(16, limit) for limit in (10, 6_400)] == [{"nprobe": 16}, {"nprobe": 160}]
    few = segment_of(engine, uuid.uuid4(), rows=6_000, lists=256)
    assert few._effort(1, 300) == {"nprobe": 205}
    assert few._effort(1_024, 10) == {"nprobe": 256}


def test_an_earlier_number_is_sifted_and_never_a_range(engine, monkeypatch) -> None:
    answers = Answers(1_000)
    hits, _ = nearest(engine, monkeypatch, answers, 10, Restriction(until=100), 100)
    assert [hit.asset_id.int for hit in hits] == list(range(1, 11))
    # A tenth may be found, so ten times as many and half as many more are asked for.
    assert answers.asked == [("", 158, 0)]


def test_more_rows_than_milvus_returns_come_by_classes(engine, monkeypatch) -> None:
    answers = Answers(1_000)
    monkeypatch.setattr(milvus, "MOST_FOUND", 40)
    hits, _ = nearest(engine, monkeypatch, answers, 100, Restriction(), 1_000)
    assert [hit.asset_id.int for hit in hits] == list(range(1, 101))
    assert [where for where, _, _ in answers.asked] == [f"seq % 3 == {n}" for n in range(3)]
    assert {limit for _, limit, _ in answers.asked} == {40}


def test_a_filter_is_asked_of_postgres_in_few_statements(engine, monkeypatch) -> None:
    answers, asked = Answers(20_000), []

    def live_of(planned: Any, ids: set[uuid.UUID]) -> set[uuid.UUID]:
        asked.append(len(ids))
        return {one for one in ids if one.int % 100 == 0}

    monkeypatch.setattr(milvus.filters, "live_of", live_of)
    monkeypatch.setattr(milvus, "tenant_scope", lambda tenant_id: nullcontext())
    hits, _ = nearest(engine, monkeypatch, answers, 18, Restriction(planned=(Clause("n"),)), 200)
    assert [hit.asset_id.int for hit in hits] == list(range(100, 1_900, 100))
    assert len(answers.asked) == len(asked) == 1


@pytest.mark.parametrize(("lists", "classes"), [(0, 16), (64, 1)])
def test_where_fewer_come_than_there_are_all_are_compared(
    engine, monkeypatch, lists: int, classes: int
) -> None:
    answers = Answers(5)
    nearest(engine, monkeypatch, answers, 8, Restriction(), 9, lists=lists)
    assert len(answers.asked) == 1 + classes
    assert answers.asked[-1][2] == lists
