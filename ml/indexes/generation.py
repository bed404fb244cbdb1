"""A generation: vectors that no longer change, an index over them, and columns beside, in one folder of files.

Whoever builds one writes ``vectors.f32`` (float32 [n, dimension], little-endian, rows ordered by asset),
``columns/*.npy`` and perhaps ``facets/*``; ``build`` adds the index and, last, ``manifest.json``. Nothing in
the folder is changed after that, so readers map the files and need no locks.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from ml.indexes import exact, files, tuning
from ml.indexes.base import Mask, Rows, Vectors, checked
from ml.indexes.files import NAME, Attempt, Effort, GenerationDamaged, Manifest
from ml.indexes.kinds.base import Kind, Settings, load_kind

__all__ = ["Generation", "GenerationDamaged", "Manifest", "RecallMissed", "build", "open_generation"]

VECTORS = "vectors.f32"
QUERIES = "queries.f32"
COLUMNS = "columns"
ASSET_IDS = f"{COLUMNS}/asset_ids.npy"

#: The kinds that are tried in turn when the caller names none.
KINDS = ("ivf-pq4", "ivf-sq8", "hnsw")

#: What is left when none of them is good enough: no index, every search reads the vectors. Never short of a target.
EXACT = "exact"

#: Called with the share done, 0 to 1, and the step in words.
Report = Callable[[float, str], None]


class RecallMissed(Exception):
    """No kind and no settings met the target. ``attempts`` says what was tried."""

    def __init__(self, target: float, attempts: list[Attempt]) -> None:
        tried = ", ".join(f"{a.kind} {dict(a.settings)}: {a.recall:.4f}" for a in attempts)
        super().__init__(f"recall@10 of {target} was not reached: {tried}")
        self.target, self.attempts = target, attempts


def build(
    folder: Path,
    *,
    model: str,
    seq: int,
    dimension: int,
    queries: Vectors | None = None,
    target: float = 0.99,
    kind: str | None = None,
    threads: int = 1,
    assets: int | None = None,
    report: Report | None = None,
) -> Manifest:
    """Index ``folder/vectors.f32``, measure recall@10 and write the manifest, after which the folder is whole.

    ``queries`` [q, dimension] are real ones of the tenant if there are any; ``assets`` is read from
    ``columns/asset_ids.npy`` unless given. Where nothing meets the target the generation is of kind EXACT, unless
    a ``kind`` was asked for: then RecallMissed is raised, and no manifest left. Raises ValueError for a file of
    vectors that is empty, cut, or holds NaN.
    """
    started, report = time.monotonic(), _growing(report)
    (folder / NAME).unlink(missing_ok=True)
    vectors = _vectors(folder, dimension)
    _check(vectors)
    report(0.0, "measure")
    if queries is not None:
        queries = checked(queries, (-1, dimension))
    bench = tuning.Bench.of(vectors, tuning.sample_queries(vectors, queries))
    attempts, kind_id, settings, table = _climb(folder, vectors, bench, target, kind, threads, report)
    report(0.95, "sync")
    stamps = _synced(folder, threads)
    manifest = Manifest(
        kind=kind_id,
        settings=settings,
        dimension=dimension,
        model=model,
        seq=seq,
        vectors=len(vectors),
        assets=_assets(folder, len(vectors)) if assets is None else assets,
        recall=table[0].recall,
        target=target,
        queries=0 if queries is None else len(queries),
        efforts=table,
        attempts=tuple(attempts),
        files=stamps,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        build_s=round(time.monotonic() - started, 3),
        peak_mb=_peak_mb(),
    )
    manifest.write(folder)
    report(1.0, "done")
    return manifest


def open_generation(folder: Path, *, verify: bool = True) -> Generation:
    """Map a finished generation. Raises GenerationDamaged.

    With ``verify`` every file is read once a process and compared with its digest; without, only lengths are.
    """
    manifest = Manifest.read(folder)
    problem = files.first_damage(folder, manifest.files, verify=verify)
    if problem:
        raise GenerationDamaged(problem)
    try:
        vectors = _vectors(folder, manifest.dimension)
        if vectors.shape != (manifest.vectors, manifest.dimension):
            raise ValueError(f"{VECTORS} holds {len(vectors)} rows, not {manifest.vectors}")
        index = None
        if manifest.kind != EXACT:
            index = load_kind(manifest.kind).open(_file_of(folder, manifest.kind), vectors, manifest.settings)
        return Generation(folder, manifest, vectors, _columns(folder), index)
    except (OSError, ValueError, LookupError) as error:
        raise GenerationDamaged(str(error)) from error


class Generation:
    """An open generation. Any number of threads may search it; do not carry it across a fork.

    ``vectors`` float32 [n, d] and the arrays of ``columns`` are mapped and read only. They stay valid
    for who holds them, also after ``close``.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        vectors: Vectors,
        columns: dict[str, np.ndarray],
        index: Kind | None,
    ) -> None:
        self.folder, self.manifest, self.columns = folder, manifest, columns
        self.vectors = vectors
        self._index, self._closed = index, False

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def bytes_mapped(self) -> int:
        """Bytes of all files: what the generation takes in memory when all of it is in use."""
        return sum(stamp.bytes for stamp in self.manifest.files.values())

    def close(self) -> None:
        """Let go of the index; its mapping goes with the last search under way. Searching again raises."""
        self._index, self._closed = None, True

    def search(self, query: Vectors, k: int, allowed: Mask | None = None) -> tuple[Vectors, Rows]:
        """The best ``k`` rows of ``query`` [d] that ``allowed`` [n] allows: scores descending, and rows.

        Exact where few rows are allowed; elsewhere with the effort that met the target at that share.
        Finds min(k, rows allowed) always. Raises ValueError on shape or NaN.
        """
        index = self._index
        if self._closed:
            raise ValueError("the generation is closed")
        query, count = checked(query, (self.manifest.dimension,)), self._count(allowed)
        allowed = None if count == len(self) else allowed
        row = self._effort(count)
        if index is None or k < 1 or not count or row is None or not row.effort:
            return self._exact(query, k, allowed)
        for effort in (row.effort, 4 * row.effort):
            scores, rows = index.search(query, k, effort, allowed)
            if len(rows) >= min(k, count):
                return scores, rows
        return self._exact(query, k, allowed)

    def exact(self, query: Vectors, k: int, rows: Rows) -> tuple[Vectors, Rows]:
        """The best ``k`` of ``rows`` (each at most once). Raises IndexError for rows that are not there."""
        rows = np.ascontiguousarray(rows, np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"rows must be in 0..{len(self) - 1}")
        return exact.search_rows(self.vectors, checked(query, (self.manifest.dimension,)), k, rows)

    def recall_of(self, share: float) -> float:
        """Recall@10 to expect where that share of the rows is allowed, as measured; 1.0 where exact."""
        row = self._effort(int(share * len(self)))
        return 1.0 if row is None else row.recall

    def _effort(self, count: int) -> Effort | None:
        """None for so few rows that they are searched exactly."""
        if count < len(self) and count <= tuning.EXACT_ROWS:
            return None
        return tuning.effort_for(self.manifest.efforts, count / len(self))

    def _count(self, allowed: Mask | None) -> int:
        if allowed is None:
            return len(self)
        if allowed.shape != (len(self),) or allowed.dtype != np.bool_:
            raise ValueError(f"a mask of {allowed.dtype} {list(allowed.shape)} over {len(self)} rows")
        return int(np.count_nonzero(allowed))

    def _exact(self, query: Vectors, k: int, allowed: Mask | None) -> tuple[Vectors, Rows]:
        if allowed is None and k > 0:
            return exact.search_all(self.vectors, query, k)
        rows = np.arange(0) if allowed is None else np.flatnonzero(allowed)
        return exact.search_rows(self.vectors, query, k, rows)


def _climb(
    folder: Path,
    vectors: Vectors,
    bench: tuning.Bench,
    target: float,
    kind: str | None,
    threads: int,
    report: Report,
) -> tuple[list[Attempt], str, Settings, tuple[Effort, ...]]:
    """Build rung after rung until one meets the target; the last one is no index. Raises RecallMissed."""
    attempts: list[Attempt] = []
    for rung, (kind_id, settings, last) in enumerate(_rungs(len(vectors), kind)):
        step, path, began = f"build {kind_id} {rung + 1}", _file_of(folder, kind_id), time.monotonic()
        cls = load_kind(kind_id)
        cls.build(path, vectors, settings, threads=threads, progress=partial(_building, report, step))
        build_s = round(time.monotonic() - began, 3)
        report(0.85, f"measure {kind_id} {rung + 1}")
        first, table = tuning.efforts_of(bench, cls.open(path, vectors, settings), target, last=last)
        attempts.append(Attempt(kind_id, settings, first.recall, build_s))
        if table:
            return attempts, kind_id, settings, table
        path.unlink()
    if kind is not None or target > 1:
        raise RecallMissed(target, attempts)
    return [*attempts, Attempt(EXACT, {}, 1.0, 0.0)], EXACT, {}, tuning.exact_efforts(bench)


def _growing(report: Report | None) -> Report:
    """That report, or none, with a share that does not fall when another rung begins."""
    most = 0.0

    def tell(done: float, step: str) -> None:
        nonlocal most
        most = max(most, done)
        if report:
            report(most, step)

    return tell


def _building(report: Report, step: str, done: float) -> None:
    report(0.05 + 0.8 * done, step)


def _rungs(count: int, kind: str | None) -> Iterator[tuple[str, Settings, bool]]:
    """(kind, settings, whether it is the last of its kind)."""
    for kind_id in KINDS if kind is None else (kind,):
        ladder = load_kind(kind_id).ladder(count)
        yield from ((kind_id, settings, place == len(ladder)) for place, settings in enumerate(ladder, 1))


def _file_of(folder: Path, kind_id: str) -> Path:
    return folder / f"{kind_id}.faiss"


def _vectors(folder: Path, dimension: int) -> Vectors:
    """The mapped file [n, dimension]. Raises ValueError when it is empty or cut."""
    mapped = np.memmap(folder / VECTORS, np.dtype("<f4"), "r")
    return np.asarray(mapped).reshape(-1, dimension)


def _check(vectors: Vectors) -> None:
    for start in range(0, len(vectors), exact.STEP):
        if not np.isfinite(vectors[start : start + exact.STEP]).all():
            raise ValueError("vectors hold NaN or infinity")


def _columns(folder: Path) -> dict[str, np.ndarray]:
    return {
        # As plain arrays, which give out single items in a fraction of the time.
        path.stem: np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        for path in sorted((folder / COLUMNS).glob("*.npy"))
    }


def _assets(folder: Path, count: int) -> int:
    path = folder / ASSET_IDS
    return len(np.load(path, mmap_mode="r", allow_pickle=False)) if path.exists() else count


def _synced(folder: Path, threads: int) -> dict[str, files.FileStamp]:
    """Every file but the sample of queries, on the disk, with its digest; folders as well."""
    (folder / QUERIES).unlink(missing_ok=True)
    paths = sorted(folder.rglob("*"))
    for path in paths:
        files.sync(path)
    return files.stamp_files(folder, [str(p.relative_to(folder)) for p in paths if p.is_file()], threads)


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
