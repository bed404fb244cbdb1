"""``python -m ml.projection.embed FOLDER``: UMAP in a process of its own, with limits, to be killed at any moment.

Reads ``vectors.f32`` and, of each, its kind from ``kinds.u8``; writes ``groups.bin`` (`topics.GROUP`), and last
``points.f32``, under a name that says that it is whole. Prints JSON lines: ``stage`` and ``done`` (0 to 1), and last
``{"points": n, ...}`` or ``{"error": ...}``. Ends by itself when its standard input closes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ml import sandbox

VECTORS, KINDS, POINTS, GROUPED = "vectors.f32", "kinds.u8", "points.f32", "groups.bin"
#: Before UMAP looks for neighbours: in so many dimensions distances are the same for less work.
REDUCED = 50
#: With fewer rows there are no neighbourhoods to keep, and PCA loses less.
FEWEST = 16
#: Up to so many UMAP places itself; kept neighbours are counted among so many.
MOST_DRAWN, JUDGED = 100_000, 20_000
# A row is held by so many landmarks, found in so many of the cells, if they lie within this share of the map's width.
HELD_BY, PROBES, TOGETHER, ROWS = 5, 8, 0.03, 16_384
Report = Callable[[str, float], None]


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    # What a library prints must not end up between answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # What is compiled has to be kept somewhere: beside its libraries it may not.
    cache = Path(os.environ.setdefault("NUMBA_CACHE_DIR", str(options.folder.resolve() / "numba")))
    cache.mkdir(exist_ok=True)
    sandbox.confine("map", write=[options.folder.resolve(), cache])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(options.nice)
    _limit(options.memory_bytes, options.cpu_s)

    def say(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")

    try:
        say(_run(options, lambda stage, done: say({"stage": stage, "done": round(done, 3)})))
    except MemoryError:
        say({"error": "out-of-memory"})
        return 1
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})
        return 1
    return 0


def _run(options: argparse.Namespace, report: Report) -> dict[str, Any]:
    import numpy as np

    from ml.projection import pca
    from ml.projection.comparison import kept_neighbours
    from ml.projection.topics import grouped

    report("reading", 0.0)
    size = (options.folder / VECTORS).stat().st_size
    shape = (size // (4 * options.dimension), options.dimension)
    # Mapped, not read: a million vectors are 2.3 GB, of which the kernel keeps what there is room for.
    vectors = (
        np.memmap(options.folder / VECTORS, np.dtype("<f4"), "r", shape=shape)
        if size
        else np.zeros(shape, np.float32)
    )
    kinds = np.fromfile(options.folder / KINDS, np.uint8)
    reduced = pca.reduce(vectors, min(REDUCED, options.dimension))
    points, method = embed(
        vectors,
        neighbours=options.neighbours,
        min_dist=options.min_dist,
        seed=options.seed,
        report=report,
        reduced=reduced,
        most_drawn=options.most_drawn,
    )
    report("grouping", 0.97)
    grouped(vectors, kinds, seed=options.seed, reduced=reduced).tofile(options.folder / GROUPED)
    report("judging", 0.99)
    judged = slice(None, None, max(1, len(vectors) // JUDGED))
    kept = kept_neighbours(np.asarray(vectors[judged]), points[judged])
    part = options.folder / f"{POINTS}.part"
    points.astype("<f4").tofile(part)
    part.rename(options.folder / POINTS)
    return {"points": len(points), "method": method, "kept_neighbours": round(kept, 4)}


def embed(
    vectors: Any,
    *,
    neighbours: int = 15,
    min_dist: float = 0.1,
    seed: int = 0,
    report: Report = lambda *_: None,
    reduced: tuple[Any, Any] | None = None,
    most_drawn: int = MOST_DRAWN,
) -> tuple[Any, str]:
    """Finite vectors float32 [n, d] in the plane: float32 [n, 2], and the method that made them.

    The same on every run with a seed. Of few or of equal vectors PCA's, as there are no neighbourhoods to keep. Of more
    than `most_drawn` UMAP places half as many, the landmarks, and each other vector lies among the landmarks nearest
    to it. `reduced`: what `pca.reduce` made of the vectors, if known.
    """
    import numpy as np

    from ml.projection import pca

    made, shares = reduced or pca.reduce(vectors, min(REDUCED, vectors.shape[1]))
    # What is not finite has no coordinates.
    if not np.isfinite(made).all():
        raise ValueError("vectors have to be finite")
    if len(made) < FEWEST or shares[0] == 0:
        return made[:, :2].copy(), "pca"
    if len(made) <= most_drawn:
        return _by_umap(made, neighbours, min_dist, seed, report), "umap"
    chosen = np.sort(np.random.default_rng(seed).permutation(len(made))[: most_drawn // 2])
    landmarks = _by_umap(np.ascontiguousarray(made[chosen]), neighbours, min_dist, seed, report)
    report("joining", 0.965)
    return _among(made, made[chosen], landmarks), "umap"


def _by_umap(reduced: Any, neighbours: int, min_dist: float, seed: int, report: Report) -> Any:
    import numpy as np

    report("compiling", 0.02)
    import umap

    start = reduced[:, :2] / max(float(np.abs(reduced[:, :2]).max()), 1e-9) * 10
    # UMAP adds noise of its own where rows are equal; the start is PCA's, so that the map's large shape is the data's.
    made = umap.UMAP(
        n_neighbors=min(neighbours, len(reduced) - 1),
        min_dist=min_dist,
        init=np.ascontiguousarray(start, np.float32),
        random_state=seed,
        n_jobs=1,
        tqdm_kwds={
            "file": _Epochs(report),
            "bar_format": "{n_fmt}/{total_fmt}",
            "disable": False,
            "mininterval": 0.5,
        },
    )
    report("neighbours", 0.1)
    return np.asarray(made.fit_transform(reduced), np.float32)


def _among(rows: Any, known: Any, places: Any) -> Any:
    """Places of rows float32 [n, d] among those of `known` [m, d], float32 [m, 2]: between the nearest few, the nearer
    the more. Only those count that lie together: between two groups there is nothing."""
    import faiss
    import numpy as np

    known = np.ascontiguousarray(known, np.float32)
    cells = max(1, int(np.sqrt(len(known))))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(known.shape[1]), known.shape[1], cells)
    index.cp.seed = 0
    index.train(known)
    index.add(known)
    index.nprobe = PROBES
    together = TOGETHER * float(np.ptp(places, axis=0).max())
    found = np.empty((len(rows), 2), np.float32)
    for start in range(0, len(rows), ROWS):
        apart, near = index.search(np.ascontiguousarray(rows[start : start + ROWS]), HELD_BY)
        # Where a cell has fewer, -1: the first is always there.
        near = np.where(near < 0, near[:, :1], near)
        there = places[near]
        beside = np.linalg.norm(there - there[:, :1], axis=2) <= together
        weights = np.where(beside, 1 / np.maximum(apart, 1e-9), 0)
        found[start : start + ROWS] = (there * weights[:, :, None]).sum(axis=1) / weights.sum(axis=1)[:, None]
    return found


class _Epochs:
    """Takes what a progress bar prints and says it as a share: UMAP offers nothing else."""

    FROM, TO = 0.4, 0.96

    def __init__(self, report: Report) -> None:
        self._report = report

    def write(self, text: str) -> int:
        done, slash, total = text.strip().partition("/")
        if slash and done.isdigit() and total.isdigit() and int(total):
            self._report("placing", self.FROM + (self.TO - self.FROM) * int(done) / int(total))
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""


def _limit(memory_bytes: int, cpu_s: int) -> None:
    # Of what it writes to, not of addresses: compilers and thread pools reserve many that they never use.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end_with_parent() -> None:
    """Wait for the end of standard input, then end the process at once, in the middle of whatever it does."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(3)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ml.projection.embed", description=__doc__)
    parser.add_argument("folder", type=Path, help=f"with {VECTORS} and {KINDS}")
    parser.add_argument("--dimension", type=int, required=True, help="numbers of a vector")
    parser.add_argument("--neighbours", type=int, default=15)
    parser.add_argument("--min-dist", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most-drawn", type=int, default=MOST_DRAWN, help="by UMAP itself")
    parser.add_argument("--memory-bytes", type=int, default=4 << 30)
    parser.add_argument("--cpu-s", type=int, default=3600)
    parser.add_argument("--nice", type=int, default=15)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
