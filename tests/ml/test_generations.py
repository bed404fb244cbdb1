"""A generation from its vectors to its searches: built to a target, opened only when whole, never short."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ml.indexes import exact, files, tuning
from ml.indexes.generation import (
    KINDS,
    Generation,
    GenerationDamaged,
    Manifest,
    RecallMissed,
    build,
    open_generation,
)
from ml.indexes.kinds.base import CATALOG, load_kind
from tests.waiting import PATIENCE_S, pause

COUNT = 6000
DIMENSION = 256


def unit(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Rows of some twenty dimensions in 256, around many weak centres, norm 1."""
    random = np.random.default_rng(seed)
    frame = np.random.default_rng(98).standard_normal((20, DIMENSION), np.float32)
    centres = np.random.default_rng(99).standard_normal((200, 20), np.float32)
    rows = centres[random.integers(200, size=count)] + random.standard_normal((count, 20), np.float32)
    rows = rows @ frame + random.standard_normal((count, DIMENSION), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def written(folder: Path, vectors: NDArray[np.float32]) -> Path:
    """What a caller of ``build`` leaves there."""
    (folder / "columns").mkdir(parents=True)
    (folder / "facets").mkdir()
    vectors.astype("<f4").tofile(folder / "vectors.f32")
    np.save(folder / "columns/asset_ids.npy", np.arange(len(vectors) // 2, dtype=np.int64))
    np.save(folder / "columns/owners.npy", np.arange(len(vectors), dtype=np.int32) // 2)
    np.save(folder / "columns/nothing.npy", np.empty(0, np.int64))
    (folder / "facets/values.json").write_text('{"colour": 3}', encoding="utf-8")
    return folder


@pytest.fixture(scope="module", params=CATALOG.ids())
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished generation of each kind, with its table of efforts down to 200 rows."""
    folder = written(tmp_path_factory.mktemp("made") / "one", unit(COUNT))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "EXACT_ROWS", 200)
        build(
            folder,
            model="space 1",
            dimension=DIMENSION,
            seq=77,
            queries=unit(300, seed=5),
            target=0.97,
            kind=request.param,
        )
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.fixture
def generation(made: Path, monkeypatch: pytest.MonkeyPatch) -> Generation:
    monkeypatch.setattr(tuning, "EXACT_ROWS", 200)
    return open_generation(made)


@pytest.mark.slow
class TestBuild:
    def test_manifest(self, made: Path) -> None:
        manifest = Manifest.read(made)
        assert (manifest.model, manifest.seq, manifest.vectors, manifest.assets) == (
            "space 1",
            77,
            COUNT,
            COUNT // 2,
        )
        assert (manifest.dimension, manifest.target, manifest.queries) == (256, 0.97, 300)
        assert manifest.recall >= 0.97
        assert manifest.recall == manifest.efforts[0].recall == manifest.attempts[-1].recall
        assert [row.share for row in manifest.efforts] == [1.0, 0.5, 0.25, 0.125, 0.0625]
        assert all(row.recall >= 0.97 for row in manifest.efforts)
        assert manifest.attempts[-1].kind == manifest.kind
        assert manifest.attempts[-1].settings == manifest.settings
        assert set(manifest.files) == {
            "vectors.f32",
            f"{manifest.kind}.faiss",
            "columns/asset_ids.npy",
            "columns/owners.npy",
            "columns/nothing.npy",
            "facets/values.json",
        }
        assert manifest.files["vectors.f32"].bytes == COUNT * 1024
        assert manifest.build_s > 0
        assert manifest.peak_mb > COUNT * 1024 / 2**20

    @pytest.mark.parametrize("dimension", [12, 512])
    def test_of_any_dimension(self, tmp_path: Path, dimension: int) -> None:
        vectors = np.random.default_rng(3).standard_normal((1_500, dimension), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        folder = written(tmp_path / "g", vectors)
        manifest = build(folder, model="m", seq=1, dimension=dimension, queries=vectors[:20])
        generation = open_generation(folder)
        assert (manifest.dimension, generation.vectors.shape) == (dimension, (1_500, dimension))
        scores, rows = generation.search(vectors[7], 3)
        assert (rows[0], round(float(scores[0]), 3)) == (7, 1.0)
        with pytest.raises(ValueError, match="shape"):
            generation.search(np.ones(dimension + 1, np.float32), 3)

    def test_manifest_goes_through_json(self, made: Path) -> None:
        manifest = Manifest.read(made)
        assert Manifest.from_json(json.loads(json.dumps(manifest.as_json()))) == manifest

    def test_progress_only_grows(self, tmp_path: Path) -> None:
        told: list[tuple[float, str]] = []
        build(
            written(tmp_path / "g", unit(500)),
            model="m",
            dimension=DIMENSION,
            seq=1,
            report=lambda *what: told.append(what),
        )
        shares = [share for share, _ in told]
        assert shares == sorted(shares)
        assert (shares[0], told[-1]) == (0.0, (1.0, "done"))

    def test_a_missed_target_is_not_published(self, tmp_path: Path) -> None:
        folder = written(tmp_path / "g", unit(2000))
        with pytest.raises(RecallMissed) as missed:
            build(folder, model="m", dimension=DIMENSION, seq=1, target=1.01)
        tried = missed.value.attempts
        assert {attempt.kind for attempt in tried} == set(CATALOG.ids())
        assert all(0.9 < attempt.recall <= 1 for attempt in tried)
        assert not (folder / "manifest.json").exists()
        assert not list(folder.glob("*.faiss"))
        with pytest.raises(GenerationDamaged):
            open_generation(folder)

    def test_climbs_to_stronger_settings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """When the first rung would need an effort that costs too much."""
        measure = tuning.Bench.measure
        seen: list[Any] = []

        def weak_at_first(self: tuning.Bench, index: Any, share: float, effort: int) -> Any:
            if index not in seen:
                seen.append(index)
            row = measure(self, index, share, effort)
            return replace(row, recall=0.5) if index is seen[0] else row

        monkeypatch.setattr(tuning.Bench, "measure", weak_at_first)
        manifest = build(
            written(tmp_path / "g", unit(2000)),
            model="m",
            dimension=DIMENSION,
            seq=1,
            kind="hnsw",
            target=0.95,
        )
        assert [attempt.settings for attempt in manifest.attempts] == CATALOG.load("hnsw").Hnsw.ladder(2000)[
            :2
        ]
        assert manifest.settings == manifest.attempts[1].settings
        assert manifest.attempts[0].recall == 0.5

    def test_what_no_index_is_good_enough_for_is_searched_exactly(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Vectors on which every rung is too slow: the tenant gets a generation all the same, and right answers."""
        for limit in ("LIMIT_MS", "LIMIT_SHARE", "LAST_LIMIT_SHARE"):
            monkeypatch.setattr(tuning, limit, 0.0)
        monkeypatch.setattr(tuning, "EXACT_ROWS", 200)
        folder = written(tmp_path / "g", unit(2000))
        manifest = build(folder, model="m", dimension=DIMENSION, seq=1, queries=unit(50, seed=5))
        rungs = [(kind, rung) for kind in KINDS for rung in load_kind(kind).ladder(2000)]
        assert [(a.kind, a.settings) for a in manifest.attempts] == [*rungs, ("exact", {})]
        assert (manifest.kind, manifest.settings, manifest.recall) == ("exact", {}, 1.0)
        assert [(row.share, row.effort, row.recall) for row in manifest.efforts] == [
            (share, 0, 1.0) for share in (1.0, 0.5, 0.25, 0.125)
        ]
        assert all(row.ms > 0 for row in manifest.efforts)
        assert not list(folder.glob("*.faiss"))
        assert Manifest.read(folder) == manifest
        generation = open_generation(folder)
        allowed = np.arange(2000) % 2 == 0
        for query in unit(20, seed=3):
            scores = generation.vectors @ query
            assert generation.search(query, 10)[1].tolist() == np.argsort(-scores)[:10].tolist()
            best = np.argsort(-np.where(allowed, scores, -2))[:10]
            assert generation.search(query, 10, allowed)[1].tolist() == best.tolist()
        assert generation.recall_of(1.0) == generation.recall_of(0.3) == 1.0
        generation.close()
        with pytest.raises(ValueError, match="closed"):
            generation.search(unit(1)[0], 10)

    def test_a_kind_that_was_asked_for_is_built_or_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tuning, "LIMIT_MS", 0.0)
        monkeypatch.setattr(tuning, "LAST_LIMIT_SHARE", 0.0)
        folder = written(tmp_path / "g", unit(1000))
        with pytest.raises(RecallMissed) as missed:
            build(folder, model="m", dimension=DIMENSION, seq=1, kind="hnsw")
        assert {attempt.kind for attempt in missed.value.attempts} == {"hnsw"}
        assert not (folder / "manifest.json").exists()

    def test_an_old_manifest_goes_first(self, folder: Path) -> None:
        """Or a build that is killed would leave one that describes other files."""
        with pytest.raises(RecallMissed):
            build(folder, model="m", dimension=DIMENSION, seq=1, target=1.01, kind="ivf-sq8")
        assert not (folder / "manifest.json").exists()

    @pytest.mark.parametrize("content", [b"", b"1234567", b"\0" * 1020])
    def test_no_vectors_or_cut_ones(self, tmp_path: Path, content: bytes) -> None:
        folder = written(tmp_path / "g", unit(2))
        (folder / "vectors.f32").write_bytes(content)
        with pytest.raises(ValueError):
            build(folder, model="m", dimension=DIMENSION, seq=1)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_bad_numbers(self, tmp_path: Path, bad: float) -> None:
        vectors = unit(100)
        vectors[99, 255] = bad
        with pytest.raises(ValueError, match="NaN"):
            build(written(tmp_path / "g", vectors), model="m", dimension=DIMENSION, seq=1)
        with pytest.raises(ValueError, match="NaN"):
            build(written(tmp_path / "h", unit(100)), model="m", dimension=DIMENSION, seq=1, queries=vectors)

    @pytest.mark.parametrize("count", [1, 2, 50])
    def test_small_ones(self, tmp_path: Path, count: int) -> None:
        build(written(tmp_path / "g", unit(count)), model="m", dimension=DIMENSION, seq=1)
        generation = open_generation(tmp_path / "g")
        for query in unit(5, seed=3):
            _, rows = generation.search(query, 10)
            assert rows.tolist() == np.argsort(-(unit(count) @ query))[:10].tolist()

    def test_all_rows_equal(self, tmp_path: Path) -> None:
        """A tenant that uploads one picture over and over: any ten of them are right."""
        build(
            written(tmp_path / "g", np.repeat(unit(1), 3000, axis=0)), model="m", dimension=DIMENSION, seq=1
        )
        scores, rows = open_generation(tmp_path / "g").search(unit(1)[0], 10)
        np.testing.assert_allclose(scores, np.ones(10), atol=1e-5)
        assert len(set(rows.tolist())) == 10


def test_made_queries_are_not_the_stored_rows() -> None:
    vectors, given = unit(1000), unit(100, seed=7)
    queries = tuning.sample_queries(vectors, given)
    assert queries.shape == (tuning.QUERIES, DIMENSION)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    real = (queries @ given.T).max(axis=1) > 0.9999
    assert real.sum() == 100
    assert (queries @ vectors.T).max() < 0.97
    many = tuning.sample_queries(vectors, unit(5000, seed=8))
    assert many.shape == (tuning.QUERIES, DIMENSION)
    assert ((many @ unit(5000, seed=8).T).max(axis=1) > 0.9999).all()


@pytest.mark.slow
class TestOpen:
    def test_what_it_holds(self, made: Path) -> None:
        generation = open_generation(made)
        np.testing.assert_array_equal(generation.vectors, unit(COUNT))
        assert set(generation.columns) == {"asset_ids", "owners", "nothing"}
        assert generation.columns["owners"].tolist() == (np.arange(COUNT) // 2).tolist()
        assert len(generation.columns["nothing"]) == 0
        assert generation.folder == made
        assert len(generation) == COUNT
        assert (
            generation.bytes_mapped
            == sum(p.stat().st_size for p in made.rglob("*") if p.is_file())
            - (made / "manifest.json").stat().st_size
        )
        for array in (generation.vectors, generation.columns["owners"]):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0

    def test_missing_files(self, folder: Path) -> None:
        for name in [*Manifest.read(folder).files, "manifest.json"]:
            content = (folder / name).read_bytes()
            (folder / name).unlink()
            with pytest.raises(GenerationDamaged):
                open_generation(folder, verify=False)
            (folder / name).write_bytes(content)
        open_generation(folder)

    @pytest.mark.parametrize("cut", [1, 1000])
    def test_cut_files(self, folder: Path, cut: int) -> None:
        for name in [*Manifest.read(folder).files, "manifest.json"]:
            content = (folder / name).read_bytes()
            (folder / name).write_bytes(content[:-cut])
            with pytest.raises(GenerationDamaged):
                open_generation(folder, verify=False)
            (folder / name).write_bytes(content)
        open_generation(folder)

    @pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
    def test_a_flipped_bit(self, folder: Path, place: float) -> None:
        """Also in files that this process has read and found whole before."""
        open_generation(folder)
        for name in [*Manifest.read(folder).files, "manifest.json"]:
            content = (folder / name).read_bytes()
            changed = bytearray(content)
            changed[int(place * (len(content) - 1))] ^= 1
            (folder / name).write_bytes(changed)
            with pytest.raises(GenerationDamaged):
                open_generation(folder)
            (folder / name).write_bytes(content)
        open_generation(folder)

    def test_another_format(self, folder: Path) -> None:
        value = json.loads((folder / "manifest.json").read_text())
        for other in ({**value, "format": 2}, {}, [], 7, {**value, "seq": 78}):
            (folder / "manifest.json").write_text(json.dumps(other))
            with pytest.raises(GenerationDamaged):
                open_generation(folder)

    def test_files_are_read_once(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        read: list[str] = []
        piece = files._piece

        def counted(which: tuple[Path, int]) -> bytes:
            read.append(which[0].name)
            return piece(which)

        monkeypatch.setattr(files, "_piece", counted)
        # A file of an earlier test had the same inode, length and time if this one is a copy in its place.
        monkeypatch.setattr(files, "_seen", {})
        open_generation(folder, verify=False)
        assert read == []
        open_generation(folder)
        assert sorted(read) == sorted(Path(name).name for name in Manifest.read(folder).files)
        open_generation(folder)
        assert len(read) == len(Manifest.read(folder).files)
        os.utime(folder / "vectors.f32")
        open_generation(folder)
        assert read[len(Manifest.read(folder).files) :] == ["vectors.f32"]

    def test_pieces_of_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Any byte of a file of several pieces counts, and so does their order."""
        monkeypatch.setattr(files, "PIECE", 1000)
        found = set()
        for content in (
            bytes(3000),
            bytes(2999),
            b"\1" + bytes(2999),
            bytes(1000) + b"\1" + bytes(1999),
            b"",
        ):
            (tmp_path / "file").write_bytes(content)
            found.add(files.stamp_files(tmp_path, ["file"], 2)["file"].digest)
        assert len(found) == 5


class TestSearch:
    def test_recall(self, generation: Generation) -> None:
        queries = unit(200, seed=6)
        _, truth = exact.nearest(generation.vectors, queries, 10)
        found = [generation.search(query, 10)[1] for query in queries]
        recall = sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True)) / truth.size
        assert recall >= 0.95
        assert generation.recall_of(1.0) == generation.manifest.recall

    @pytest.mark.parametrize("share", [0.999, 0.6, 0.2, 0.07])
    @pytest.mark.parametrize("side", [False, True])
    def test_filters_keep_recall(self, generation: Generation, share: float, side: bool) -> None:
        queries = unit(100, seed=6)
        masks = {False: tuning._random_mask, True: tuning._side_mask}
        allowed = masks[side](generation.vectors, share)
        _, truth = exact.nearest(generation.vectors, queries, 10, allowed)
        found = [generation.search(query, 10, allowed) for query in queries]
        assert all(allowed[rows].all() and len(rows) == 10 for _, rows in found)
        recall = sum(len(np.intersect1d(a, b)) for (_, a), b in zip(found, truth, strict=True)) / truth.size
        assert recall >= 0.94
        assert 0.97 <= generation.recall_of(share) <= 1

    @pytest.mark.parametrize("count", [0, 1, 9, 10, 200])
    def test_few_allowed_rows_are_exact(self, generation: Generation, count: int) -> None:
        allowed = np.zeros(COUNT, np.bool_)
        allowed[np.random.default_rng(0).choice(COUNT, count, replace=False)] = True
        for query in unit(10, seed=6):
            scores, rows = generation.search(query, 10, allowed)
            expected = exact.search_rows(generation.vectors, query, 10, np.flatnonzero(allowed))
            assert rows.tolist() == expected[1].tolist()
            assert scores.tolist() == expected[0].tolist()
        assert generation.recall_of(count / COUNT) == 1.0

    @pytest.mark.parametrize("effort", ["exact", "least", "most"])
    def test_never_short(self, generation: Generation, effort: str) -> None:
        """Allowed are the rows farthest from the query, which no walk comes by.

        The table's efforts come of measured times, another one on another machine: here they are given. How many
        of the best are found so far away is promised by an exact search and by all of the cells only.
        """
        efforts = load_kind(generation.manifest.kind).efforts
        given = {"exact": 0, "least": efforts[0], "most": efforts[-1]}[effort]
        table = tuple(replace(row, effort=given) for row in generation.manifest.efforts)
        generation.manifest = replace(generation.manifest, efforts=table)
        for query in unit(10, seed=6):
            order = np.argsort(-(generation.vectors @ query))
            allowed = np.zeros(COUNT, np.bool_)
            allowed[order[-1000:]] = True
            _, rows = generation.search(query, 10, allowed)
            assert len(rows) == 10
            assert allowed[rows].all()
            right = len(np.intersect1d(rows, order[-1000:-990]))
            if effort != "least":
                assert right >= {"exact": 10, "most": 9}[effort]

    @pytest.mark.parametrize("k", [0, 1, 10, 256, COUNT, COUNT + 5])
    def test_how_many(self, generation: Generation, k: int) -> None:
        query, allowed = unit(1, seed=6)[0], np.arange(COUNT) % 2 == 0
        for mask, most in ((None, COUNT), (np.ones(COUNT, np.bool_), COUNT), (allowed, COUNT // 2)):
            scores, rows = generation.search(query, k, mask)
            assert len(scores) == len(rows) == len(set(rows.tolist())) == min(k, most)
            assert (scores.dtype, rows.dtype) == (np.float32, np.int64)
            assert (np.diff(scores) <= 0).all()
            np.testing.assert_allclose(scores, generation.vectors[rows] @ query, atol=1e-5)

    def test_exact(self, generation: Generation) -> None:
        query, rows = unit(1, seed=6)[0], np.array([5, 4999, 17, 0])
        scores, found = generation.exact(query, 3, rows)
        products = generation.vectors[rows] @ query
        assert found.tolist() == rows[np.argsort(-products)][:3].tolist()
        np.testing.assert_allclose(scores, np.sort(products)[::-1][:3], atol=1e-5)
        assert [len(part) for part in generation.exact(query, 3, np.array([], np.int64))] == [0, 0]
        for wrong in (-1, COUNT):
            with pytest.raises(IndexError):
                generation.exact(query, 3, np.array([0, wrong]))

    def test_bad_input(self, generation: Generation) -> None:
        query = unit(1)[0]
        for wrong in (query[:255], query[None], query * np.nan):
            with pytest.raises(ValueError):
                generation.search(wrong, 10)
        for mask in (np.ones(COUNT - 1, np.bool_), np.ones(COUNT, np.uint8)):
            with pytest.raises(ValueError, match="mask"):
                generation.search(query, 10, mask)

    def test_closing_beside_readers(self, made: Path) -> None:
        """Searches under way end well, later ones are refused, and the vectors stay with who holds them."""
        generation, queries = open_generation(made), unit(64, seed=6)
        vectors, problems, started = generation.vectors, [], threading.Barrier(5)

        def read() -> None:
            started.wait()
            try:
                while True:
                    for query in queries:
                        if len(generation.search(query, 10)[1]) != 10:
                            problems.append("short")
            except ValueError as error:
                if "closed" not in str(error):
                    problems.append(str(error))

        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(read) for _ in range(4)]
            started.wait()
            pause(0.1, "searches are under way")
            generation.close()
            for reader in readers:
                reader.result()
        assert not problems
        np.testing.assert_array_equal(vectors[-1], unit(COUNT)[-1])


class TestProcess:
    """``python -m ml.indexes.build``"""

    def start(self, folder: Path, *more: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "ml.indexes.build",
            str(folder),
            "--model",
            "m",
            "--seq",
            "9",
            "--dimension",
            "256",
            *more,
        ]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def lines(self, process: subprocess.Popen[str]) -> list[dict[str, Any]]:
        assert process.stdout
        with process.stdout as out:
            return [json.loads(line) for line in out]

    @pytest.fixture
    def building(self, tmp_path: Path) -> tuple[Path, subprocess.Popen[str]]:
        """One that is in the middle of it."""
        folder = written(tmp_path / "g", unit(60_000))
        process = self.start(folder, "--kind", "hnsw")
        assert process.stdout
        assert "done" in json.loads(process.stdout.readline())
        return folder, process

    def test_builds(self, tmp_path: Path) -> None:
        folder = written(tmp_path / "g", unit(2000))
        unit(50, seed=5).tofile(folder / "queries.f32")
        process = self.start(folder, "--kind", "hnsw", "--target", "0.95")
        *progress, manifest = self.lines(process)
        assert process.wait() == 0
        assert all(0 <= line["done"] <= 1 and line["step"] for line in progress)
        generation = open_generation(folder)
        assert Manifest.from_json(manifest) == generation.manifest
        assert (generation.manifest.seq, generation.manifest.queries) == (9, 50)
        assert (generation.manifest.kind, generation.manifest.target) == ("hnsw", 0.95)
        assert not (folder / "queries.f32").exists()

    @pytest.mark.parametrize(
        ("more", "error"),
        [(["--target", "1.01"], "RecallMissed"), (["--kind", "nonsense"], "UnknownPlugin")],
    )
    @pytest.mark.slow
    def test_says_what_went_wrong(self, tmp_path: Path, more: list[str], error: str) -> None:
        folder = written(tmp_path / "g", unit(300))
        process = self.start(folder, *more)
        assert self.lines(process)[-1]["error"].startswith(error)
        assert process.wait() == 1
        assert not (folder / "manifest.json").exists()

    def test_says_that_there_is_nothing(self, tmp_path: Path) -> None:
        process = self.start(tmp_path / "nowhere")
        assert self.lines(process)[-1]["error"].startswith("FileNotFoundError")
        assert process.wait() == 1

    @pytest.mark.parametrize(
        ("end", "status"),
        [
            (lambda process: process.stdin.close(), 3),
            (lambda process: process.send_signal(signal.SIGKILL), -signal.SIGKILL),
        ],
        ids=["the parent is gone", "killed"],
    )
    @pytest.mark.slow
    def test_ends_at_once_and_leaves_nothing_whole(
        self,
        building: tuple[Path, subprocess.Popen[str]],
        end: Callable[[subprocess.Popen[str]], None],
        status: int,
    ) -> None:
        folder, process = building
        end(process)
        assert process.wait(timeout=PATIENCE_S) == status
        with pytest.raises(GenerationDamaged, match="no manifest"):
            open_generation(folder)
